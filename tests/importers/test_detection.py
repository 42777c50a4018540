"""Which format a row is of, and what is said when it is of none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from r1distill.errors import UsageError
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
    assert "openai-batch (it lacks response)" in seen({"custom_id": "1", "body": {}})
    assert "preference (it lacks rejected)" in seen({"chosen": [{}]})


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
