from __future__ import annotations

import pytest

from r1distill.answers import grade


@pytest.mark.parametrize(
    ("reference", "answer", "how"),
    [
        ("C", r"\boxed{C}", "boxed"),
        ("C", r"\boxed{\text{(C)}}", "boxed"),
        ("(C)", "The answer is C.", "phrase"),
        ("C", "The answer is (C) 5 apples.", "phrase"),
        ("C. 5 apples", "Answer: C", "phrase"),
        ("C", "the correct answer is option C because", "phrase"),
        ("C", "The answer is clearly option **C**.", "phrase"),
        ("c", "C", "whole"),
        ("C", "C) 5 apples", "whole"),
        ("A", "**A**", "whole"),
        ("B", "It can't be (A), so we are left with (B)", "last_letter"),
        ("D", "First I rule out three of them.\nWhat is left is D", "last_letter"),
    ],
)
def test_choice_right(reference: str, answer: str, how: str) -> None:
    found = grade("choice", reference, answer)
    assert (found.outcome, found.how) == ("right", how)
    assert found.right() == (how != "last_letter")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("B", "right"),
        (r"\boxed{\text{(B)}}", "right"),
        (r"\boxed{(B) 12}", "right"),
        (r"\boxed{12}", "right"),
        ("The answer is 12.", "right"),
        ("12", "right"),
        (r"\boxed{12.0}", "right"),
        (r"\boxed{13}", "wrong"),
        (r"\boxed{C}", "wrong"),
        ("The answer is (C) 12.", "wrong"),
    ],
)
def test_choice_with_the_option_s_text(answer: str, outcome: str) -> None:
    assert grade("choice", "(B) 12", answer).outcome == outcome
    assert grade("choice", "B. 12", answer).outcome == outcome


def test_choice_wrong_and_open() -> None:
    assert grade("choice", "C", r"\boxed{D}").outcome == "wrong"
    assert grade("choice", "C", "A man walks into a bar. I can't say").outcome == "no_answer"
    assert grade("choice", "five", r"\boxed{C}").outcome == "unreadable_reference"
    assert grade("choice", "Z", r"\boxed{Z}").outcome == "unreadable_reference"


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("Paris", "paris.", "right"),
        ("Paris", "The answer is **Paris**.", "right"),
        ("Paris", r"\boxed{\text{Paris}}", "right"),
        ("New  York", "new york", "right"),
        ("Straße", '"STRASSE"', "right"),
        ("Paris", "London", "wrong"),
        ("Paris", "", "no_answer"),
        ("Paris", "Paris?", "wrong"),
        ("Paris", "The answer is Paris? No.", "wrong"),
        ("Paris", "The answer is not Paris.", "wrong"),
        ("Paris", "I don't think the answer is Paris.", "wrong"),
        ("Paris", r"\boxed{Paris} or \boxed{London}", "wrong"),
        ("Who?", "Who?", "right"),
        (" . ", "x", "unreadable_reference"),
    ],
)
def test_text(reference: str, answer: str, outcome: str) -> None:
    assert grade("text", reference, answer).outcome == outcome


def test_code_says_that_it_can_not_tell() -> None:
    found = grade("code", "x", "y")
    assert (found.outcome, found.note, found.judged) == (
        "error",
        "code is not run: to run it in a sandbox, add --set filter.checks.correct.allow_exec=true",
        False,
    )


@pytest.mark.parametrize("kind", ["math", "choice", "text", "code"])
def test_no_reference(kind: str) -> None:
    found = grade(kind, None, "The answer is 5.")  # type: ignore[arg-type]
    assert (found.outcome, found.note) == ("unreadable_reference", "no reference")
