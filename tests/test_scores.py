"""Graded rows -> scores and comparisons, against sums done by hand."""

from __future__ import annotations

from typing import Any

import pytest

from r1distill.scores import Difference, GradedAnswer, difference, score, score_all

pytest.importorskip("scipy")


def row(
    who: str = "student", prompt: str = "p", sample: int = 0, right: bool = True, **more: Any
) -> GradedAnswer:
    fields: dict[str, Any] = {
        "trace_id": f"{who}{prompt}{sample}", "problems": "heldout", "lenient": right, "strict": right, "in_form": True,
        "outcome": "right" if right else "wrong", "extracted": "4" if right else "5", "how": "boxed", "finish": "stop",
        "completion_tokens": 10, "latency_s": 1.0,
    }  # fmt: skip
    return GradedAnswer(who=who, prompt_id=prompt, sample=sample, **{**fields, **more})


def test_shares_and_means() -> None:
    rows = [
        row(prompt="a", completion_tokens=10, latency_s=1.0),
        row(prompt="b", right=False, finish="length", in_form=False, completion_tokens=30, latency_s=9.0),
        row(prompt="c", strict=False, completion_tokens=None, latency_s=2.0),
        row(prompt="d", right=False, outcome="timeout", latency_s=None),
    ]
    s = score(rows)
    assert (s.who, s.problems, s.n_problems, s.samples) == ("student", "heldout", 4, 1)
    assert (s.lenient.value, s.strict.value) == (0.5, 0.25)
    assert (s.in_form, s.truncated, s.cant_tell, s.maj_at_k) == (0.75, 0.25, 1, None)
    assert s.tokens_mean == pytest.approx(50 / 3)
    assert s.latency_s_median == 2.0
    assert s.lenient.low < 0.5 < s.lenient.high


def answers(prompt: str, *extracted: str | None) -> list[GradedAnswer]:
    return [row(prompt=prompt, sample=n, right=e == "4", extracted=e) for n, e in enumerate(extracted)]


@pytest.mark.parametrize(
    ("extracted", "value"),
    [
        (("4", "4", "5"), 1.0),
        (("5", "5", "4"), 0.0),
        (("4", "5"), 0.5),
        (("4", "5", "6"), 1 / 3),
        ((None, None, "4"), 1.0),
        ((None, None), 0.0),
    ],
)
def test_the_majority(extracted: tuple[str | None, ...], value: float) -> None:
    assert score(answers("p", *extracted)).maj_at_k == pytest.approx(value)


def test_scores_come_per_model_and_set_with_the_students_differences() -> None:
    rows = [
        row(who, p, problems=name)
        for name in ("a", "b")
        for who in ("teacher", "base", "student")
        for p in ("1", "2")
    ]
    scores, differences = score_all(rows)
    assert [(s.problems, s.who) for s in scores] == [
        (n, w) for n in "ab" for w in ("teacher", "base", "student")
    ]
    assert [(d.problems, d.second, d.mode) for d in differences] == [
        (n, other, mode) for n in "ab" for other in ("base", "teacher") for mode in ("lenient", "strict")]  # fmt: skip
    assert {d.first for d in differences} == {"student"}


def test_no_rows_no_scores() -> None:
    assert score_all([]) == ([], [])


def test_without_a_student_nothing_is_compared() -> None:
    assert score_all([row("teacher"), row("base")])[1] == []


def test_only_problems_that_both_answered_are_compared() -> None:
    first = [row("student", str(n)) for n in range(40)]
    second = [row("base", str(n), right=False) for n in range(20, 60)]
    found = difference(first, second, "lenient")
    assert (found.difference.value, found.shown) == (1.0, True)


@pytest.mark.parametrize(
    ("student", "base", "words"),
    [
        ([True] * 30, [False] * 30, "student beats base on heldout (lenient) by 100.0 points"),
        ([False] * 30, [True] * 30, "student is behind base on heldout (lenient) by 100.0 points"),
        (
            [True, False] * 15,
            [False, True] * 15,
            "student against base on heldout (lenient): no difference shown",
        ),
        ([True] * 30, [True] * 30, "no difference shown (difference +0.0, 95% interval -"),
    ],
)
def test_the_words_of_a_comparison(student: list[bool], base: list[bool], words: str) -> None:
    rows = [row("student", str(n), right=r) for n, r in enumerate(student)]
    others = [row("base", str(n), right=r) for n, r in enumerate(base)]
    found: Difference = difference(rows, others, "lenient")
    assert words in found.sentence()
    assert "95% interval" in found.sentence()


def test_models_without_a_common_problem_are_not_compared() -> None:
    assert score_all([row("student", "a"), row("base", "b")])[1] == []
