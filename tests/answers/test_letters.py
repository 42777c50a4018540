"""Which letter of a multiple-choice answer counts, and when none does: several letters, a denial, a question."""

from __future__ import annotations

import time

import pytest

from r1distill.answers import grade
from r1distill.answers.letters import read_letters

SEVERAL = [
    "B or C", "B and C", "B, C", "(B) (C)", "(B), (C)", "B; C", "B & C", "B C", "B\nC", "B/C", "(b) or (c)", "either B or C",
    "The answer is B or C", "Answer: B/C", "The answer is either (B) or (C).", "The answer is **B** or **C**.",
    "The answer is $B$ or $C$.", r"\boxed{B, C}", r"\boxed{B or C}", r"\boxed{B \text{ or } C}", r"\boxed{\{B, C\}}",
    r"\boxed{B} or \boxed{C}", r"\boxed{\text{Option B or Option C}}", "B, maybe C", "B (or C)", "B, but C is also possible",
    "B and A are correct", "A, B and D",
]  # fmt: skip
TAKEN_BACK = [
    "B? No, C", "B is wrong", "(B) is incorrect", "B isn't right", "B. No wait, actually C", "Answer: B is wrong", "not B",
    "The answer is B? No, C.", "The answer is not B.", "The answer is not (B).", "I don't think the answer is B.",
    "If the answer is B, we get 3.", "B is tempting, but the mass is conserved, hence C.", "(B) is tempting but (C) is right",
    r"\boxed{B^2}", r"\boxed{B \cap D}", r"\boxed{\text{not B}}", "D-day", "B > A",
]  # fmt: skip
CHOSEN = [
    "B", "(B)", "b", "B.", "B) 42", "B. text of the option", "(B) because A is too small", "B: both A and C of them",
    "(B) both A and C", "B - 42", "B because (A) is wrong", "option B is correct", "B is the correct answer.", "(B) A", "B. No",
    r"\boxed{(B)\ 42}", r"\boxed{B. \text{A and C}}", "The answer is B, not C.", "The answer is B rather than C.", "[B]",
    "The answer is (B) A cat", "The answer is B, I think", "Answer: B (C is wrong)", "B) is not a prime", "**B. both**",
    "Answer: B) None of the above", "Answer: B. No, they do not", "The answer is the second one, (B).", "B\n\nBecause A is wrong",
]  # fmt: skip


@pytest.mark.parametrize("answer", SEVERAL)
def test_several_letters_answer_no_single_one(answer: str) -> None:
    for reference in ("B", "C"):
        assert not grade("choice", reference, answer).right(strict=True)


@pytest.mark.parametrize("answer", TAKEN_BACK)
def test_a_letter_that_is_taken_back_does_not_count(answer: str) -> None:
    assert not grade("choice", "B", answer).right(strict=True)


@pytest.mark.parametrize("answer", CHOSEN)
def test_what_follows_the_letter_may_be_its_text(answer: str) -> None:
    assert grade("choice", "B", answer).right(strict=True)
    assert grade("choice", "C", answer).outcome == "wrong"


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("B, C", "C and B", "right"),
        ("(B) and (C)", "B/C", "right"),
        ("B, C", "B", "wrong"),
        ("A, B and D", "A, B", "wrong"),
        ("B or C", "B", "wrong"),
        ("B. 12 or 13", "B", "right"),
        ("(B) 12", "The answer is not 12.", "wrong"),
        ("(B) 12", "12?", "wrong"),
        ("B is wrong", "B", "unreadable_reference"),
        ("N/A", "A", "unreadable_reference"),
    ],
)
def test_references_with_several_letters_or_text(reference: str, answer: str, outcome: str) -> None:
    assert grade("choice", reference, answer).outcome == outcome


@pytest.mark.parametrize(
    "piece", ["B or ", "B, ", "(B)", "not B ", "B? ", "B is wrong ", "no ", " ", "option B ", "B no "]
)
def test_linear_time(piece: str) -> None:
    started = time.process_time()
    read_letters(piece * 40_000)
    grade("choice", "B", piece * 40_000)
    grade("choice", piece * 40_000, "B")
    assert time.process_time() - started < 3
