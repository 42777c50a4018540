"""What was asked for and did not come is told once, and nothing is told of a teacher that gives it."""

from __future__ import annotations

from typing import Any

import pytest

from r1distill.records import Message, Trace
from r1distill.teachers.asked import FEWEST_CHARACTERS, REMEMBERED_PROMPTS, SAME_PROMPTS, Asked

LONG = "Because it is so. " * 20


def trace(
    prompt: str = "p", sample: int = 0, *, reasoning: str = LONG, answer: str = "42", **fields: Any
) -> Trace:
    fields = {"sampling": {"temperature": 0.6, "seed": 7}, **fields}
    return Trace(
        id=f"{prompt}-{sample}", slot="", prompt_id=prompt, sample=sample, teacher="r1", model="m",
        messages=[Message("user", "?")], reasoning=reasoning, answer=answer, finish="stop", **fields,
    )  # fmt: skip


def pairs(number: int, second: str = LONG, **fields: Any) -> list[Trace]:
    """Two samples of so many prompts, the first samples first."""
    prompts = [f"p{at}" for at in range(number)]
    return [trace(p, 0, reasoning=f"{p} {LONG}", **fields) for p in prompts] + [
        trace(p, 1, reasoning=f"{p} {second}", **fields) for p in prompts
    ]


def told(traces: list[Trace]) -> list[str]:
    asked = Asked()
    return [text for one in traces for text in asked.see(one, 1, False, None)]


@pytest.mark.parametrize("choices", [0, 2, 8])
def test_more_or_fewer_answers_than_one(choices: int) -> None:
    asked = Asked()
    (text,) = asked.see(trace(), choices, False, None)
    assert f"r1 sent {choices} answers to a request for one" in text
    assert asked.see(trace("q"), choices + 1, False, None) == []


def test_log_probabilities_that_did_not_come() -> None:
    asked = Asked()
    (text,) = asked.see(trace(), 1, False, None, 5)
    assert "sends no log-probabilities, though top_logprobs = 5" in text
    assert asked.see(trace("q"), 1, False, None, 5) == []


def test_fewer_alternatives_than_asked() -> None:
    asked = Asked()
    (text,) = asked.see(trace(), 1, True, 5, 20)
    assert "sends 5 log-probabilities a token, not the 20" in text
    assert asked.see(trace("q"), 1, True, 5, 20) == []


@pytest.mark.parametrize(("came", "alternatives"), [(True, 20), (True, 25), (True, None)])
def test_enough_alternatives(came: bool, alternatives: int | None) -> None:
    assert Asked().see(trace(), 1, came, alternatives, 20) == []


def test_nothing_asked_nothing_missed() -> None:
    assert Asked().see(trace(), 1, False, None) == []
    assert (
        Asked().see(trace(reasoning="", answer=""), 1, False, None, 5) == []
    )  # no token, no log-probability


def test_several_faults_of_one_reply() -> None:
    assert len(Asked().see(trace(extras={"seed": 1}), 2, False, None, 5)) == 3


@pytest.mark.parametrize(
    ("sample", "used", "faulty"),
    [(0, 7, False), (3, 10, False), (3, 7, True), (0, 123, True), (0, None, False), (0, "7", False)],
)
def test_together_names_the_seed_that_it_used(sample: int, used: Any, faulty: bool) -> None:
    found = told([trace(sample=sample, extras={"seed": used})] * 2)
    assert len(found) == faulty
    assert all(f"used the seed {used} where {7 + sample} was sent" in text for text in found)
    assert told([trace(extras={"seed": 5}, sampling={})]) == []  # none was asked for


@pytest.mark.parametrize("sampling", [{"temperature": 0.6, "seed": 7}, {"temperature": 1}, {}])
def test_the_same_answer_with_other_seeds(sampling: dict[str, Any]) -> None:
    found = told(pairs(SAME_PROMPTS, sampling=sampling))
    assert len(found) == 1
    assert "sampling seems not to be used" in found[0]
    assert told(pairs(SAME_PROMPTS - 1, sampling=sampling)) == []
    assert len(told(pairs(SAME_PROMPTS, sampling=sampling) * 3)) == 1


def test_greedy_answers_may_be_the_same() -> None:
    assert told(pairs(REMEMBERED_PROMPTS, sampling={"temperature": 0, "seed": 7})) == []


def test_one_difference_clears_a_teacher() -> None:
    same = pairs(SAME_PROMPTS)
    different = [trace("other", 0), trace("other", 1, reasoning=f"{LONG}!")]
    assert told([*different, *same]) == []
    assert told([*same[:-1], *different, same[-1]]) == []
    assert told(pairs(SAME_PROMPTS, second=f"{LONG}!")) == []


def test_short_answers_and_the_same_sample_again_prove_nothing() -> None:
    short = [
        trace(f"p{at}", sample, reasoning="", answer="4" * (FEWEST_CHARACTERS - 1))
        for sample in (0, 1)
        for at in range(8)
    ]
    assert told(short) == []
    assert told([trace(f"p{at}") for at in range(8)] * 2) == []  # asked once more with a higher ceiling


def test_memory_is_bounded() -> None:
    asked = Asked()
    for at in range(1000):
        asked.see(trace(f"p{at}"), 1, False, None)
    assert len(asked._first) == REMEMBERED_PROMPTS
