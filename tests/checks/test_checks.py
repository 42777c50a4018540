"""One trace, one check: what each of them says, and what the table refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from one_trace import PROMPT, said, trace

from r1distill.checks import CHECKS, build_checks
from r1distill.checks.base import Job, Row
from r1distill.checks.keys import check_identity, measurement_key, trace_key
from r1distill.errors import RecipeError
from r1distill.recipe_help import field_docs
from r1distill.records import Prompt, Trace, digest


def judge(name: str, one: Trace, prompt: Prompt = PROMPT, **settings: Any) -> tuple[str, str]:
    return said(CHECKS[name](**settings), one, prompt)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", ("PASS", "stop")),
        ("length", ("FAIL", "length")),
        ("content_filter", ("FAIL", "content_filter")),
        ("unknown", ("UNJUDGED", "unknown")),
    ],
)
def test_finish(finish: str, expected: tuple[str, str]) -> None:
    assert judge("finish", trace(finish=finish)) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The answer is 18.", "18", ("PASS", "right")),
        ("The answer is 19.", "18", ("FAIL", "wrong")),
        ("She has 18 of them then", "18", ("FAIL", "answer not marked as final")),
        ("I don't know", "18", ("FAIL", "no answer found")),
        ("The answer is 18.", None, ("UNJUDGED", "no reference")),
        ("The answer is 18.", "???", ("UNJUDGED", "unreadable reference")),
    ],
)
def test_correct(answer: str, reference: str | None, expected: tuple[str, str]) -> None:
    assert judge("correct", trace(answer=answer), Prompt("p", "q", reference)) == expected


def test_correct_lenient_and_policies() -> None:
    guess = trace(answer="She has 18 of them then")
    assert judge("correct", guess, extraction="lenient") == ("PASS", "right")
    check = CHECKS["correct"]
    open_one = check().judge(check().measure(Prompt("p", "q"), guess))
    assert not check().keeps(open_one)
    assert check(without_reference="keep").keeps(open_one)
    assert not check(without_reference="keep").keeps(open_one._replace(reason="timeout"))


def test_correct_leaves_algebra_to_a_worker() -> None:
    pytest.importorskip("math_verify")
    found = CHECKS["correct"](timeout_s=3).begin(Prompt("p", "q", "1+x"), trace(answer=r"\boxed{x+1}"))
    assert isinstance(found, Job) and found.timeout_s == 3
    assert found.args == ("math", "1+x", "x+1", "boxed")


def test_duplicate_keeps_the_first_of_a_problem() -> None:
    check = CHECKS["duplicate"]()
    traces = [trace(), trace(answer="The  answer is 18. "), trace(answer="18"), trace(finish="length")]
    values = [check.measure(PROMPT, one) for one in traces]
    rows = [Row(str(n), "p", 0, "r1", n, {"duplicate": value}) for n, value in enumerate(values)]
    rows.append(Row("other reference", "p", 1, "r1", 4, {"duplicate": values[0]}))
    rows.append(Row("other", "q", 2, "r1", 0, {"duplicate": values[0]}))
    assert [j.outcome for j in check.judge_all(rows, "duplicate")] == ["PASS", "FAIL", *["PASS"] * 4]


def test_default_set() -> None:
    checks = build_checks({})
    assert list(checks) == ["finish", "format", "length", "repetition", "duplicate", "correct"]
    assert checks["correct"].without_reference == "keep"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"corect": {}}, "did you mean 'correct'?"),
        ({"length": {"max_token": 5}}, "did you mean 'max_tokens'?"),
        ({"length": {"max_tokens": -1}}, "filter.checks.length: 'max_tokens'"),
        ({"length": {"max_tokens": True}}, "'max_tokens': should be a whole number, not true"),
        ({"length": {"max_tokens": "40"}}, "'max_tokens': should be a whole number, not \"40\""),
        ({"length": {"max_tokens": 40.0}}, "'max_tokens': should be a whole number, not 40.0"),
        ({"length": {"max_quantile": "0.9"}}, "'max_quantile': should be a number, not \"0.9\""),
        ({"length": {"min_tokens": 9, "max_tokens": 8}}, "min_tokens is greater than max_tokens, so that"),
        ({"length": {"min_reasoning_tokens": 9, "max_reasoning_tokens": 8}}, "greater than max_reasoning"),
        ({"length": {"min_answer_tokens": 9, "max_answer_tokens": 8}}, "greater than max_answer_tokens"),
        (
            {"length": {"min_answer_tokens": 9, "max_tokens": 8}},
            "min_answer_tokens is greater than max_tokens",
        ),
        ({"length": {"min_quantile": 0.9, "max_quantile": 0.1}}, "min_quantile is greater than max_quantile"),
        ({"confidence": {"by": "tail", "max_perplexity": 2}}, 'max_perplexity goes with by = "mean_logprob"'),
        ({"mine": {"use": "mine.py:Counting", "n": True}}, "'n': should be a whole number, not true"),
        ({"mine": {"use": "gone.py:Mine"}}, "there is no file"),
        ({"mine": {"use": "mine.py:Gone"}}, "no class Gone"),
        ({"mine": {"use": "broken.py:Mine"}}, "can't be loaded: ZeroDivisionError"),
        ({"mine": {"use": "mine.py:Needy"}}, "needs the check 'length': add [filter.checks.length]"),
        ({"a": {"use": "mine.py:A"}, "b": {"use": "mine.py:B"}}, "need each other"),
    ],
)
def test_bad_tables(tables: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "mine.py").write_text(
        "from r1distill.checks import Check\n"
        "class Whole(Check):\n    def measure(self, prompt, trace): pass\n    def judge(self, value): pass\n"
        "class Needy(Whole):\n    needs = ('length',)\n"
        "class Counting(Whole):\n    n: int = 0\n"
        "class A(Whole):\n    needs = ('b',)\n"
        "class B(Whole):\n    needs = ('a',)\n"
    )
    with pytest.raises(RecipeError) as caught:
        build_checks(tables, tmp_path)
    assert words in str(caught.value)


def test_numbers_that_are_meant_stay() -> None:
    built = build_checks({"length": {"max_tokens": 40, "max_quantile": 0.5}, "confidence": {"min_score": -1}})
    assert (
        built["length"].model_dump()["max_tokens"] == 40
        and built["confidence"].model_dump()["min_score"] == -1.0
    )


def test_one_check_under_two_names() -> None:
    checks = build_checks({"short": {"use": "length", "max_tokens": 10}, "length": {"max_tokens": 100}})
    assert [type(c).__name__ for c in checks.values()] == ["Length", "Length"]


def test_every_setting_is_documented() -> None:
    for kind in CHECKS.values():
        docs = field_docs(kind)
        for name in kind.model_fields:
            assert docs.get(name), f"{kind.__name__}.{name}"


def key_of(check: Any, prompt: Prompt = PROMPT, content: str = "c") -> str:
    return measurement_key(
        digest(check_identity(check)), trace_key("t", content), digest(check.reads(prompt))
    )


def test_keys_change_with_what_they_should() -> None:
    length, correct = CHECKS["length"], CHECKS["correct"]
    assert (
        key_of(length())
        == key_of(length(max_tokens=5, unjudged="keep"))
        == key_of(length(), Prompt("p", "q", "9"))
    )
    assert key_of(correct()) == key_of(correct(extraction="lenient", without_reference="keep"))
    assert key_of(correct()) == key_of(correct(), Prompt("other", "other words", "18"))
    keys = {
        key_of(length()),
        key_of(correct()),
        key_of(correct(timeout_s=9)),
        key_of(correct(), Prompt("p", "q", "9")),
        key_of(correct(), content="another answer under the same id"),
    }
    assert len(keys) == 5


def test_golden_key() -> None:
    """Pinned: a changed key formula would measure every user's traces again."""
    assert trace_key("trace", "content") == "bafc4dbacd432c3deb12b7931af8721b"
    assert measurement_key("a" * 64, "b" * 32, "c" * 64) == "b" * 32 + "a" * 16 + "c" * 32
    assert (
        key_of(CHECKS["finish"]())
        == "6291489c3068393bf3a0e0bfd6e1e80fb95232a0adfe872b74234e98afe7498fb5daf1f36ac2d78a"
    )
