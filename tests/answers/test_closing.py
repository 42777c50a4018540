"""What the last sentence of an answer states, and what it does not."""

from __future__ import annotations

import time

import pytest

from r1distill.answers import grade
from r1distill.answers.closing import TAIL_CHARS, closing_value, tag_closing


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"We halve it. The slope is $\frac{1}{2}$.", r"$\frac{1}{2}$"),
        (r"The slope is \(\frac{1}{2}\) units.", r"\(\frac{1}{2}\)"),
        ("First 3, then 4.\n\nTotal: **7**", "**7**"),
        ("In all **7 apples** are left.", "7 apples"),
        ("**Total: 7**", "7"),
        ("The day is **Friday**.", "**Friday**"),
        ("The pair is (2, 5).", "(2, 5)"),
        ("So x = 6.", "6"),
        ("Therefore, the price goes up by 40%.", "40%"),
        ("Hence $n = 8$ is the only solution.", "$n = 8$"),
        ("The largest $n$ is 34.", "34"),
        ("From bottom to top, we get $3120_4$.", "$3120_4$"),
        (r"So, $\log_2 64 = 6$.", r"$\log_2 64 = 6$"),
        ("Since y counts the nickels, Zachary used 17 nickels.", "17"),
        ("Since he came late, Zachary would need 17 nickels.", None),
        ("With 3 of them, we get $7$.", None),
        ("So, $y + 1 = 6$.", None),
        ("She sells 9 of them for 18 dollars.", None),
        ("Therefore 3 of the 5 are left.", None),
        ("We use $a$ and $b$.", None),
        ("Nothing is known.", None),
        ("", None),
        ("x" * (TAIL_CHARS + 10) + " is 5.", None),
    ],
)
def test_closing_value(text: str, value: str | None) -> None:
    assert closing_value(text) == value


def test_a_solution_in_an_answer_tag_ends_in_its_value() -> None:
    assert tag_closing("<answer> first 60, so the number should be 110.") == "110"
    assert tag_closing("first 60, so the number should be 110.") is None
    assert tag_closing("<answer> first 60, so it should not be 110.") is None


def test_a_closing_sentence_counts_as_marked() -> None:
    found = grade(
        "math", r"\frac{1}{12}", "Three of 36 cases are good.\n\nSo the probability is $\\frac{1}{12}$."
    )
    assert (found.outcome, found.how) == ("right", "closing") and found.right(strict=True)


def test_a_mark_counts_more_than_the_closing_sentence() -> None:
    assert grade("math", "5", r"It is \boxed{5}. The check value is $7$.").how == "boxed"
    assert grade("math", "5", "The answer is 5. The check value is $7$.").how == "phrase"


@pytest.mark.parametrize("piece", ["**", "$1$", r"\(", "is ", "= ", "So 1 ", ". A", "1,"])
def test_linear_time(piece: str) -> None:
    started = time.process_time()
    closing_value(piece * 100_000)
    assert time.process_time() - started < 0.5
