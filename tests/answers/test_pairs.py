"""The seeded corpus of pairs.txt: no false pass, no false fail, nothing unjudged; and how the cheap tier does on it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from r1distill.answers import Grade, grade, grade_exact


class Pair(NamedTuple):
    """A reference, an answer text, and whether the answer is right."""

    reference: str
    answer: str
    right: bool


def read_pairs() -> list[Pair]:
    lines = (Path(__file__).parent / "pairs.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        if line.startswith(("+ ", "- ")):
            reference, answer = line[2:].replace("⏎", "\n").split(" => ")
            found.append(Pair(reference, answer, line[0] == "+"))
    return found


PAIRS = read_pairs()


def test_no_wrong_verdict_on_the_corpus() -> None:
    pytest.importorskip("math_verify")
    faults: dict[str, list[Pair]] = {"false pass": [], "false fail": [], "unjudged": []}
    for pair in PAIRS:
        found = grade("math", pair.reference, pair.answer)
        if not found.judged:
            faults["unjudged"].append(pair)
        elif found.right(strict=True) != pair.right:
            faults["false fail" if pair.right else "false pass"].append(pair)
    counts = {name: len(pairs) for name, pairs in faults.items()}
    print(len(PAIRS), counts)
    assert counts == {"false pass": 0, "false fail": 0, "unjudged": 0}, faults


def test_the_corpus_is_varied() -> None:
    assert len(PAIRS) == len(set(PAIRS)) >= 450
    rights = sum(pair.right for pair in PAIRS)
    assert len(PAIRS) / 3 < rights < len(PAIRS) * 3 / 4


def test_every_reference_is_right_by_itself() -> None:
    pytest.importorskip("math_verify")
    for reference in {pair.reference for pair in PAIRS}:
        assert grade("math", reference, rf"\boxed{{{reference}}}").outcome == "right", reference


def test_the_exact_tier_settles_most_and_is_cheap() -> None:
    started = time.process_time()
    found = [grade_exact("math", pair.reference, pair.answer) for pair in PAIRS]
    assert time.process_time() - started < 0.25  # ten times what it takes
    settled = Counter(isinstance(item, Grade) for item in found)
    assert settled[True] >= 0.7 * len(PAIRS)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("3 men and 2 women", r"\boxed{\text{2 men and 3 women}}"),
        ("rotation about the origin", r"\boxed{\frac{x}{2} turned}"),
        ("x", r"\boxed{" + "x+" * 300 + "1}"),
        ("x", r"\boxed{" + "(" * 60 + "x" + ")" * 60 + "}"),
        (r"\frac{1}{", r"\boxed{\frac{1}{}"),
        (r"\sqrt", r"\boxed{\sqrt}"),
        (r"(-\infty,-1] \cup [1,\infty)", r"\boxed{|x| \ge 1}"),
        ("2 hours 30 minutes", r"\boxed{2.5 \text{ hours}}"),
        ("(1, ???)", r"\boxed{(1, ???)x}"),
        (r"\frac{n(n+1)}{2}", r"\boxed{1 + 2 + \cdots + n}"),
        ("a", r"\boxed{a \mid b}"),
        (r"1 + 2 \mid n", r"\boxed{1}"),
    ],
)
def test_what_can_not_be_told_is_not_right(reference: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    found = grade("math", reference, answer)
    assert not found.right(strict=False)
    assert not found.judged and (found.note or found.outcome == "timeout")
