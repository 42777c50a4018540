"""References that stand where an answer is missing are UNJUDGED, whatever the answer says; words that answer are not."""

from __future__ import annotations

import pytest

from r1distill.answers import grade
from r1distill.answers.placeholders import is_placeholder

PLACEHOLDERS = [
    "proof", "Proof.", "notfound", "Not found", "N/A", "None", "null", "TBD", "see image", "See the solution above.", "nan",
    "error", "unknown", r"\text{proof}", r"\boxed{proof}", "(see figure)", "#### N/A", "The answer is unknown.",
    "Proof by induction", "Prove that n^2 >= 5", "Answers may vary", "证明略",
]  # fmt: skip


@pytest.mark.parametrize("reference", PLACEHOLDERS)
def test_a_placeholder_is_no_reference(reference: str) -> None:
    for answer in (
        r"\boxed{5}",
        "The answer is 5.",
        rf"\boxed{{{reference}}}",
        r"\boxed{\frac{N}{A}}",
        reference,
    ):
        assert grade("math", reference, answer).outcome == "unreadable_reference", answer


@pytest.mark.parametrize(
    "text",
    ["Evelyn", "no", "no solution", "undefined", "Proofreading", "see-saw", "infinity", "5", "x", "7 errors"],
)
def test_answers_are_no_placeholders(text: str) -> None:
    assert not is_placeholder(text)
    assert grade("math", text, rf"\boxed{{{text}}}").outcome == "right"


def test_an_unknown_word_against_a_number_is_not_known_to_be_wrong() -> None:
    assert not grade("math", "banana", r"\boxed{5}").judged
    assert grade("math", "banana", r"\boxed{\text{apple}}").outcome == "wrong"
    assert grade("math", "Evelyn", r"\boxed{5}").outcome == "wrong"
