"""Which format a row is of, and what is said when it is of none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from r1distill.errors import UsageError
from r1distill.importers import Context, traces_of
from r1distill.importers.detect import MOST_LOOKS, Detector, chosen_formats, mapped, parse_map
from r1distill.importers.fields import Row, read_row


def row(value: dict[str, Any]) -> Row:
    return read_row(json.dumps(value).encode())


def seen(value: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match="no format has these columns") as caught:
        Detector().format_of(row(value))
    return str(caught.value)


def test_what_comes_close_is_said() -> None:
    text = seen({"generations": "one text", "correctness_math_verify": [True], "problem_text": "p"})
    assert "generations (text), correctness_math_verify (list), problem_text (text)" in text
    assert "close" not in text
    assert "or name them: --map question=COLUMN,answer=COLUMN" in text
    assert "openai-batch (it lacks response)" in seen({"custom_id": "1", "body": {}})
    assert "preference (it lacks rejected)" in seen({"chosen": [{}]})


@pytest.mark.parametrize(
    ("value", "close"),
    [
        (
            {"problem": "p", "deepseek_reasoning": "r", "deepseek_answer": "a"},
            "openthoughts-metadata (it lacks deepseek_solution)",
        ),
        (  # DeepMath
            {
                "question": "p",
                "final_answer": "5",
                "r1_solution_1": "a",
                "r1_solution_2": "b",
                "r1_solution_3": "c",
            },
            "s1k (it lacks thinking_trajectories)",
        ),
        (
            {"question": "p", "solution": "s", "answer": "5", "source": "aime"},
            "limo (there is more: source; --format limo reads it)",
        ),
        (
            {"problem": "p", "generation": ["a"], "correctness_llama": [True]},
            "openr1-math (it lacks generations)",
        ),
        ({"question": "p", "thinking_trajectories": ["r"]}, "s1k-1.1 (it lacks"),
    ],
)
def test_a_row_that_looks_known_and_holds_no_trace(value: dict[str, Any], close: str) -> None:
    """One column of text is enough to be taken for `plain`: what comes close is said when the reader finds no more in it."""
    with pytest.raises(ValueError, match=r"^no (answer|question)") as caught:
        list(traces_of(json.dumps(value).encode(), Detector(), Context()))
    text, question = (
        str(caught.value),
        next((name for name in ("problem", "question") if name in value), "COLUMN"),
    )
    assert all(name in text for name in value)
    assert f"close: {close}" in text
    assert f"--map question={question},answer=COLUMN" in text


def test_who_names_the_columns_is_not_told_to() -> None:
    detector = Detector(chosen_formats(None, {"question": "q", "answer": "a"}))
    with pytest.raises(ValueError, match=r"^there is no column 'a'; its columns: q \(text\)$"):
        list(traces_of(b'{"q": "x"}', detector, Context()))
    with pytest.raises(ValueError, match=r"^no answer of a teacher \(none of a, .*\)$"):
        list(traces_of(b'{"q": "x", "a": null}', detector, Context()))


def test_a_choice_problem_is_no_stored_completion() -> None:
    value = {"question": "q", "choices": ["a", "b"], "answer": "a", "reasoning": "r"}
    assert Detector().format_of(row(value)).name == "plain"


def test_a_problem_file_is_not_taken_for_limo() -> None:
    value = {"question": "q", "solution": "s", "answer": "1"}
    assert Detector().format_of(row(value)).name == "limo"
    assert Detector().format_of(row({**value, "level": 3})).name == "plain"


def test_looks_are_remembered_within_bounds() -> None:
    detector = Detector()
    for number in range(MOST_LOOKS + 5):
        detector.format_of(row({"question": "q", f"c{number}": 1}))
    assert detector.rows == {"plain": MOST_LOOKS + 5}
    assert len(detector._looks) == 5
    detector.format_of(row({"question": "q", "x" * 20_000: 1}))
    assert len(detector._looks) == 5


def test_map() -> None:
    assert parse_map("question=problem, answer=solution") == {"question": "problem", "answer": "solution"}
    for bad in ("", "question", "question=", "=x", "question=a,question=b"):
        with pytest.raises(UsageError, match="write it as question=problem"):
            parse_map(bad)
    with pytest.raises(UsageError, match="'nix' means nothing to --map"):
        mapped({"question": "a", "answer": "b", "nix": "c"})
    with pytest.raises(UsageError, match="needs a question, and an answer or a trace"):
        mapped({"question": "a"})
    with pytest.raises(UsageError, match="needs a question, and an answer or a trace"):
        mapped({"question": "a", "answer": "b", "trace": "c"})


def test_format_and_map_by_name() -> None:
    assert [format.name for format in chosen_formats("limo", None)] == ["limo"]
    assert chosen_formats(None, None) == ()
    with pytest.raises(UsageError, match=r"no format 'lima'; the formats are: r1distill, .*limo"):
        chosen_formats("lima", None)
    with pytest.raises(UsageError, match="don't go together"):
        chosen_formats("limo", {"question": "a", "answer": "b"})
