"""Text answers with a numeric tolerance, or with a regex (which is left to a worker)."""

from __future__ import annotations

from typing import Any

import pytest

from r1distill.answers import Pending, grade, grade_exact


@pytest.mark.parametrize(
    ("reference", "answer", "tests", "outcome"),
    [
        ("3.14", "3.149", {"tolerance": 0.01}, "right"),
        ("3.14", "3.15", {"tolerance": 0.01}, "right"),
        ("3.14", "3.1501", {"tolerance": 0.01}, "wrong"),
        ("3.14", "The answer is about 3.15 metres.", {"tolerance": 0.01}, "right"),
        ("3.14", r"\boxed{\frac{22}{7}}", {"tolerance": 0.01}, "right"),
        ("1000", r"\boxed{1{,}009}", {"tolerance": 0.01, "relative": True}, "right"),
        ("1000", r"\boxed{1,011}", {"tolerance": 0.01, "relative": True}, "wrong"),
        ("-1000", r"\boxed{-990}", {"tolerance": 0.01, "relative": True}, "right"),
        ("-1000", r"\boxed{990}", {"tolerance": 0.01, "relative": True}, "wrong"),
        ("0", "0.001", {"tolerance": 0.01, "relative": True}, "wrong"),
        ("5", "5.0", {"tolerance": 0}, "right"),
        ("5", "5.1", {"tolerance": 0, "relative": None, "regex": None}, "wrong"),
        (r"50\%", "0.501", {"tolerance": 0.2}, "right"),
        ("0.5", r"\boxed{52\%}", {"tolerance": 0.01}, "wrong"),
        ("3.14", r"\boxed{\text{pi}}", {"tolerance": 0.01}, "wrong"),
        ("3.14", "no idea", {"tolerance": 0.01}, "no_answer"),
        ("pi", "3.14", {"tolerance": 0.01}, "unreadable_reference"),
        ("3.14", "3.149", '{"tolerance": 0.01}', "right"),
        ("Paris", "paris", None, "right"),
        ("Paris", "paris", {}, "right"),
        ("Paris", "London", "", "wrong"),
    ],
)
def test_tolerance(reference: str, answer: str, tests: Any, outcome: str) -> None:
    assert grade("text", reference, answer, tests).outcome == outcome


@pytest.mark.parametrize(
    ("tests", "note"),
    [
        ({"tolerance": -1}, "tests: tolerance must be a number from 0 up"),
        ({"tolerance": True}, "tests: tolerance must be a number from 0 up"),
        ({"tolerance": float("nan")}, "tests: tolerance must be a number from 0 up"),
        ({"tolerance": "0.1"}, "tests: tolerance must be a number from 0 up"),
        ({"relative": True}, "tests: relative must be true or false, beside a tolerance"),
        ({"regex": 5}, "tests: regex must be a text, without a tolerance"),
        ({"regex": "a", "tolerance": 1}, "tests: regex must be a text, without a tolerance"),
        ({"tolerence": 1}, "tests: unknown option 'tolerence' (there are tolerance, relative, regex)"),
        ("not json", "tests: not readable as JSON"),
        ([1], "tests: must be an object"),
    ],
)
def test_bad_options_can_not_be_judged(tests: Any, note: str) -> None:
    found = grade("text", "5", "5", tests)
    assert (found.outcome, found.note, found.judged) == ("error", note, False)


def test_regex_is_pending_and_wants_the_whole_answer() -> None:
    tests = {"regex": "(?i)colou?r"}
    assert isinstance(grade_exact("text", None, "Color", tests), Pending)
    assert grade("text", None, "The answer is **Color**.", tests).outcome == "right"
    assert grade("text", None, r"\boxed{colour}", tests).outcome == "right"
    assert grade("text", None, "colours", tests).outcome == "wrong"
    assert grade("text", None, "", tests).outcome == "no_answer"
    assert grade("text", None, "x", {"regex": "["}).outcome == "unreadable_reference"
    assert grade("text", None, "x", None).outcome == "unreadable_reference"
