"""Loops: all planted ones found, good traces kept, linear time on hostile text."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from r1distill.checks.repetition import Loop, Repetition, find_loop
from r1distill.records import Message, Prompt, Trace

STARTS = [
    "So",
    "Then",
    "Wait,",
    "Hmm,",
    "Alternatively,",
    "Let me check:",
    "Now",
    "Therefore",
    "But",
    "Okay,",
    "First,",
    "Since this holds,",
    "On the other hand,",
]
THINGS = [
    "the sum",
    "the product",
    "the number of apples",
    "the area",
    "the first term",
    "the ratio",
    "the remainder",
    "the slope",
    "the price",
    "the angle",
]
DOINGS = [
    "is equal to",
    "should be",
    "can be written as",
    "divides",
    "is at most",
    "must be larger than",
    "comes out as",
    "was given as",
    "differs from",
]
ENDS = [
    "which fits what was asked",
    "as I found above",
    "so that case is done",
    "but I should verify that",
    "because it is even",
    "modulo 7",
    "",
]
SEPARATORS = (" ", " ", "\n", "\n\n")


def sentence(rng: random.Random) -> str:
    value = rng.choice(
        [
            f"{rng.randint(2, 999)}",
            f"\\frac{{{rng.randint(1, 99)}}}{{{rng.randint(2, 99)}}}",
            f"x^2 - {rng.randint(1, 99)}x",
        ]
    )
    return f"{rng.choice(STARTS)} {rng.choice(THINGS)} {rng.choice(DOINGS)} {value}, {rng.choice(ENDS)}."


def prose(rng: random.Random, characters: int) -> list[str]:
    said: list[str] = []
    while sum(map(len, said)) < characters:
        said.append(sentence(rng) + rng.choice(SEPARATORS))
    return said


def good(rng: random.Random) -> str:
    """Thoughts as they come, with what good ones repeat: an expression, a draft written twice, a table, an enumeration."""
    said = prose(rng, rng.randint(300, 16_000))
    kind = rng.choice(["plain", "expression", "draft", "table", "cases", "sum", "doubts"])
    if kind == "expression":  # comes back again and again, in sentences of its own
        terms = " + ".join(f"{rng.randint(2, 99)}x^{{{n}}}" for n in range(9))
        for _ in range(min(7, len(said))):
            said.insert(rng.randrange(len(said)), f"{sentence(rng)} $f(x) = {terms}$. ")
    elif kind == "draft":
        said += said[-8:]
    elif kind == "table":
        rows = [f"| {n} | {n * n} | {n**3} |" for n in range(30)]
        said.append("| n | square | cube |\n|---|---|---|\n" + "\n".join(rows) + "\n" + "-" * 80 + "\n")
    elif kind == "cases":
        said += [f"Case {n}: then the remainder of {n} by 7 is {n % 7}.\n" for n in range(40)]
    elif kind == "sum":
        said.append(" + ".join(["5"] * 30) + " = 150. ")
    elif kind == "doubts":
        said += [f"Wait, let me double-check that once more. {sentence(rng)} " for _ in range(7)]
    return "".join(said)


def looping(rng: random.Random) -> str:
    """A good beginning, then a unit of 1 to about 1,500 characters over and over; cut anywhere, or got over."""
    head = "".join(prose(rng, rng.randint(200, 6_000)))
    unit = rng.choice(
        [
            lambda: "\n\nWait",
            lambda: rng.choice("0.! \n好"),
            lambda: "the answer is ",
            lambda: sentence(rng) + " ",
            lambda: "".join(prose(rng, rng.randint(100, 1_500))),
            lambda: "让我再检查一遍这个结果是否正确。",
        ]
    )()
    copies = max(rng.randint(10, 60), 700 // len(unit))
    loop = unit * copies
    loop = loop[: len(loop) - rng.randrange(len(unit))]
    return head + loop + ("".join(prose(rng, 900)) if rng.random() < 0.3 else "")


def judge(reasoning: str, answer: str = "\\boxed{5}", **settings: Any) -> str:
    trace = Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
        reasoning=reasoning, answer=answer, finish="stop",
    )  # fmt: skip
    check = Repetition(**settings)
    found = check.judge(check.measure(Prompt("p", "q"), trace))
    assert found.score is not None
    return found.reason


def test_planted_loops_are_found_and_good_traces_kept() -> None:
    rng = random.Random(20261122)
    found = [judge(looping(rng)) for _ in range(500)].count("loop")
    lost = [judge(good(rng)) for _ in range(500)].count("loop")
    assert found >= 495, f"{found} of 500 planted loops"
    assert lost <= 5, f"{lost} of 500 good traces lost"


@pytest.mark.parametrize(
    ("unit", "copies"),
    [("\n\nWait", 500), ("0", 120), ("\n", 300), ("the answer is ", 12), ("no, ", 40), ("哈", 200)],
)
def test_a_tail_of_short_units(unit: str, copies: int) -> None:
    head = "Let us add the two numbers and see."
    assert judge(head + unit * copies) == "loop"
    assert judge("short enough", answer=head + unit * copies) == "loop"
    assert find_loop(head + unit * copies).length == len(unit)


def test_what_is_measured() -> None:
    rng = random.Random(1)
    head, unit = "".join(prose(rng, 3_000)), "".join(prose(rng, 700))
    loop = find_loop(head + unit * 12)
    assert loop.repeats in (11, 12) and loop.length == len(unit)
    assert loop.share == loop.adjacent == pytest.approx(12 * len(unit) / len(head + unit * 12), rel=0.1)
    assert find_loop(head) == Loop(1, 0, 0.0, 0.0) or find_loop(head).repeats < 3
    assert find_loop("") == find_loop("word") == Loop(1, 0, 0.0, 0.0)


def test_thresholds() -> None:
    rng = random.Random(2)
    head, line = (
        "".join(prose(rng, 6_000)),
        "Let me go over the whole computation from the very beginning again. ",
    )
    assert judge(head + line * 12) == "loop"
    assert judge(head + line * 12, max_repeats=12, max_share=0.5) == "ok"
    long = "".join(prose(rng, 1_200))
    assert judge(head + long * 4) == "loop"
    assert judge(head + long * 4, max_share=0.9) == "ok"
    assert judge(head + long * 2) == "ok"


def test_a_passage_too_long_for_the_reach_of_a_probe() -> None:
    rng = random.Random(3)
    assert judge("".join(prose(rng, 7_000)) * 5) == "loop"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        ("a" * 59 + "b") * 16_000,
        "".join(random.Random(4).choice("ab") for _ in range(500_000)),
        "".join("a" * random.Random(n).randint(50, 70) + "b" for n in range(16_000)),
    ],
    ids=["one character", "period of a probe", "two letters at random", "nearly periodic"],
)
def test_linear_on_hostile_text(text: str) -> None:
    begun = time.process_time()
    find_loop(text)
    assert time.process_time() - begun < 5
