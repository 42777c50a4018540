"""Answers that nothing marks, known by the reference."""

from __future__ import annotations

import time

import pytest

from r1distill.answers.bare import is_bare, is_list, one_list
from r1distill.answers.wording import by_reference


@pytest.mark.parametrize(
    ("wanted", "text", "found"),
    [
        ("2e", "2e", "2e"),
        ("N=n", "n", "n"),
        ("Evelyn", "evelyn.", "evelyn."),
        ("no solution", "There is no solution.", "There is no solution."),
        ("A", "A. Alice", "A"),
        ("A", "B. Bob", "B"),
        ("Yes", "Yes, because it is even.", "Yes, because it is even."),
        ("east", "Therefore she faces **east**.", "east"),
        ("2e", "3e", None),
        ("a", "A", None),
        ("A", "A. Alice, or B. Bob", None),
        ("A", "A. Alice is wrong", None),
        ("Yes", "Yes, but only at night.", None),
        ("east", "Therefore she does not face **east**.", None),
        ("east", "She faces **east** at first.", None),
        ("7", "Therefore she faces **east**.", None),
    ],
)
def test_by_reference(wanted: str, text: str, found: str | None) -> None:
    given = by_reference(wanted, text)
    assert (given and given.text) == found


def test_bare_texts() -> None:
    assert is_bare("theta^2") and is_bare("asin(1/2)") and is_bare(" **7**\n")
    assert not is_bare("The decimal of $\\frac{9}{2}$ is 4.5.\n") and not is_bare("the 2^2")
    assert is_list("(1, 2), (3, 4)" * 3) and is_list("$2$ or $3$") and is_list("[-1, -2]")
    assert (
        not is_list("so (1, 2)")
        and not is_list("1, 2\n3, 4")
        and not is_list("x = 1, 2")
        and not is_list("5")
    )
    assert one_list("$2$, $3$") == "$2, 3$"


@pytest.mark.parametrize("piece", ["**a** ", "Yes, ", "A. ", "So **east** ", "</answer>"])
def test_linear_time(piece: str) -> None:
    started = time.process_time()
    for wanted in ("east", "A", "Yes", "2e"):
        by_reference(wanted, piece * 100_000)
    assert time.process_time() - started < 0.5
