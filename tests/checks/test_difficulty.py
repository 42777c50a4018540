"""Difficulty: the pass rate of a problem decides about all of its traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.checks import build_checks, failed, passed, unjudged
from r1distill.checks.base import Check, Judgement, Row
from r1distill.checks.difficulty import Difficulty
from r1distill.errors import RecipeError

RIGHT = {"outcome": "right", "how": "boxed"}
WRONG = {"outcome": "wrong", "how": "boxed"}
NOBODY = {"outcome": "unreadable_reference", "note": "no reference"}
GUESSED = {"outcome": "right", "how": "last_number"}


def built(correct: dict[str, Any] | None = None, **options: Any) -> Check:
    return build_checks({"difficulty": options, "correct": correct or {}}, Path())["difficulty"]


def rows(*problems: list[dict[str, Any]]) -> list[Row]:
    return [
        Row(f"{p}-{n}", str(p), p, "r1", n, {"correct": value, "difficulty": {}})
        for p, values in enumerate(problems)
        for n, value in enumerate(values)
    ]


def judged(check: Check, *problems: list[dict[str, Any]]) -> list[Judgement]:
    """The judgement of each problem, which all of its traces share."""
    found = check.judge_all(rows(*problems), "difficulty")
    parts = [[found.pop(0) for _ in values] for values in problems]
    assert all(len(set(part)) == 1 for part in parts) and not found
    return [part[0] for part in parts]


EASY, MIXED, HARD = [RIGHT] * 4, [RIGHT, WRONG, WRONG, WRONG], [WRONG] * 4


def test_problems_that_all_or_none_solve_are_dropped() -> None:
    found = judged(built(min_pass_rate=0.01, max_pass_rate=0.99), EASY, MIXED, HARD)
    assert found == [
        failed("pass rate over 0.99", 1.0),
        passed("ok", 0.25),
        failed("pass rate under 0.01", 0.0),
    ]


def test_limits_belong_to_what_stays() -> None:
    assert [j.outcome for j in judged(built(), EASY, MIXED, HARD)] == ["PASS"] * 3
    for limits in (
        {"min_pass_rate": 0.25},
        {"max_pass_rate": 0.25},
        {"min_pass_rate": 0.25, "max_pass_rate": 0.25},
    ):
        assert judged(built(**limits), MIXED)[0].outcome == "PASS"
    assert judged(built(min_pass_rate=0.26), MIXED)[0] == failed("pass rate under 0.26", 0.25)


def test_too_few_judged_samples() -> None:
    few = unjudged("fewer than 2 judged samples")
    assert judged(built(), [RIGHT], [NOBODY] * 5, [RIGHT, NOBODY], [RIGHT, WRONG, NOBODY]) == [
        few, few, few, passed("ok", 0.5),
    ]  # fmt: skip
    assert judged(built(min_samples=1), [RIGHT])[0].outcome == "PASS"


def test_correct_judges_by_its_own_settings() -> None:
    assert judged(built(), [GUESSED, GUESSED])[0].score == 0.0
    assert judged(built({"extraction": "lenient"}), [GUESSED, GUESSED])[0].score == 1.0


def test_the_recipe_keeps_its_order() -> None:
    assert list(build_checks({"difficulty": {}, "length": {}, "correct": {}})) == [
        "difficulty",
        "length",
        "correct",
    ]


def test_rows_need_not_stand_together() -> None:
    mixed = rows([RIGHT, RIGHT], [WRONG, WRONG])
    found = built().judge_all([mixed[0], mixed[2], mixed[3], mixed[1]], "difficulty")
    assert [j.score for j in found] == [1.0, 0.0, 0.0, 1.0]


def test_what_can_not_be_built() -> None:
    with pytest.raises(RecipeError, match=r"needs the check 'correct': add \[filter.checks.correct\]"):
        build_checks({"difficulty": {}})
    with pytest.raises(RecipeError, match="min_pass_rate is greater than max_pass_rate"):
        built(min_pass_rate=0.6, max_pass_rate=0.5)
    with pytest.raises(ValueError, match="build_checks"):
        Difficulty().judge_all(rows([RIGHT]), "difficulty")


def test_nothing_is_measured_anew() -> None:
    assert Difficulty().measuring() == Difficulty(min_pass_rate=0.5, min_samples=9).measuring() == {}


@given(st.lists(st.lists(st.sampled_from([RIGHT, WRONG, NOBODY]), min_size=1, max_size=8), max_size=6))
def test_the_score_is_the_share_among_the_judged(problems: list[list[dict[str, Any]]]) -> None:
    for values, found in zip(problems, judged(built(), *problems), strict=True):
        right, known = values.count(RIGHT), len(values) - values.count(NOBODY)
        assert found.score == (round(right / known, 3) if known >= 2 else None)
