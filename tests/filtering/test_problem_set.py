"""Problems are the same whether they stand in memory or in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1distill.filtering import problem_set
from r1distill.filtering.problem_set import UNPACKED, ProblemSet
from r1distill.records import Message, Prompt


def problem(number: int, **more: Any) -> tuple[Prompt, list[Message]]:
    question = f"How much is {number} and {number}? " + "x" * 100
    return Prompt(f"id{number}", question, str(2 * number), **more), [Message("user", question)]


@pytest.mark.parametrize("held_bytes", [0, 5_000, 1 << 20])
def test_every_problem_is_found_again(
    held_bytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(problem_set, "HELD_BYTES", held_bytes)
    some = [problem(number) for number in range(3 * UNPACKED)]
    problems = ProblemSet((), tmp_path)
    assert [problems.number(*one) for one in some] == list(range(len(some)))
    assert [problems.number(*one) for one in reversed(some)] == list(reversed(range(len(some))))
    assert list(problems) == [prompt for prompt, _ in some]
    for number in (0, 2 * UNPACKED, 5, len(some) - 1, 5):
        assert (problems[number], problems.asked(number)) == some[number]
        assert problems.known(problems.key(number)) == number
    assert problems[1:3] == [some[1][0], some[2][0]]
    assert problems.known(b"another") is None


def test_memory_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(problem_set, "HELD_BYTES", 5_000)
    problems = ProblemSet((), tmp_path)
    for number in range(500):
        problems.number(*problem(number))
    assert 0 < len(problems._held) < 40
    assert [prompt.id for prompt in problems] == [f"id{number}" for number in range(500)]
    assert len(problems._used) == UNPACKED


def test_a_number_that_can_not_be_packed_is_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(problem_set, "HELD_BYTES", 0)
    problems = ProblemSet((), tmp_path)
    odd = problem(1, tags={"size": 1 << 70})
    assert (problems.number(*odd), problems.number(*problem(2))) == (0, 1)
    assert problems[0] == odd[0]


def test_one_question_with_two_references_is_two_problems() -> None:
    problems = ProblemSet(())
    one, asked = problem(1)
    other = Prompt(one.id, one.question, "another")
    assert (problems.number(one, asked), problems.number(other, asked)) == (0, 1)
    assert (len(problems), problems.questions) == (2, 1)


def test_tags_count_where_the_problems_are_known_beforehand() -> None:
    easy, asked = problem(1, tags={"level": "easy"})
    hard, _ = problem(1, tags={"level": "hard"})
    for saved, want in (((), 1), ((easy.id,), 2)):
        problems = ProblemSet(saved)
        problems.number(easy, asked)
        problems.number(hard, asked)
        assert len(problems) == want
