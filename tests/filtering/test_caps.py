"""Caps by tag."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from judged_rows import judged, problems

from r1distill.errors import RecipeError
from r1distill.filtering.caps import caps_without_use, over_caps
from r1distill.filtering.judged import Judged
from r1distill.recipe import parse_recipe
from r1distill.records import Prompt


def picked(made: dict[int, Prompt], samples: int) -> dict[str, list[Judged]]:
    return {p.id: [judged(p, n, s) for s in range(samples)] for n, p in made.items()}


def taken(found: dict[str, list[Judged]], left_out: dict[int, str]) -> list[Judged]:
    return [row for rows in found.values() for row in rows if id(row) not in left_out]


def test_a_cap_for_each_value() -> None:
    made = problems(30, topic=lambda n: "algebra" if n < 25 else "logic")
    found = picked(made, 2)
    left_out = over_caps(found, {"topic": 12}, made, 0)
    assert Counter(made[row.order].tags["topic"] for row in taken(found, left_out)) == {
        "algebra": 12,
        "logic": 10,
    }
    assert set(left_out.values()) == {"cap of topic=algebra"}
    assert {row.sample for row in taken(found, left_out) if row.order < 25} == {
        0
    }  # first traces before second ones


def test_caps_by_value_and_for_all_others() -> None:
    made = problems(40, topic=lambda n: ["algebra", "logic", "sets", None][n % 4])
    found = picked(made, 1)
    caps = {"topic": {"algebra": 3, "*": 5}}
    counts = Counter(made[row.order].tags["topic"] for row in taken(found, over_caps(found, caps, made, 0)))
    assert counts == {"algebra": 3, "logic": 5, "sets": 5, None: 10}
    only = over_caps(found, {"topic": {"algebra": 0}}, made, 0)
    assert (len(only), set(only.values())) == (10, {"cap of topic=algebra"})


@limits(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(1, 4), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
def test_no_cap_is_passed_and_none_is_left_with_room(
    count: int, samples: int, a: int, b: int, seed: int
) -> None:
    made = problems(count, topic=lambda n: "xyz"[n % 3], language=lambda n: ["en", "zh"] if n % 2 else "en")
    found = picked(made, samples)
    caps: dict[str, Any] = {"topic": a, "language": {"zh": b}}
    left_out = over_caps(found, caps, made, seed)
    kept = Counter(key for row in taken(found, left_out) for key in _keys(made[row.order]))
    limits = {"x": a, "y": a, "z": a, "zh": b}
    assert all(kept[key] <= most for key, most in limits.items())
    for row in (row for rows in found.values() for row in rows if id(row) in left_out):
        assert any(kept[key] == limits[key] for key in _keys(made[row.order]))
    turns = Counter(row.prompt_id for row in taken(found, left_out))
    for topic in "xyz":  # no problem without a trace where one of the same tags has two
        for odd in (0, 1):
            alike = [turns[p.id] for n, p in made.items() if p.tags["topic"] == topic and n % 2 == odd]
            assert not alike or max(alike) - min(alike) <= 1
    assert over_caps(dict(reversed(found.items())), caps, made, seed) == left_out


def _keys(prompt: Prompt) -> list[str]:
    return [prompt.tags["topic"]] + (["zh"] if "zh" in prompt.tags["language"] else [])


def test_the_seed_decides_who_fills_a_cap() -> None:
    made = problems(20, topic="t")
    found = picked(made, 1)
    chosen = {
        tuple(row.order for row in taken(found, over_caps(found, {"topic": 5}, made, seed)))
        for seed in range(9)
    }
    assert len(chosen) > 5


def test_caps_that_nothing_comes_under_are_told() -> None:
    made = problems(3, topic="algebra", level=3)
    assert caps_without_use({"topic": {"algebra": 1, "*": 2}, "level": {"3": 1}}, made.values()) == []
    assert caps_without_use({"topc": 5, "topic": {"algebr": 1}}, made.values()) == [
        "filter.select.caps: no problem has the tag 'topc'.",
        "filter.select.caps: no problem has topic = 'algebr'.",
    ]


@pytest.mark.parametrize("cap", [-1, 0, "many", 2.5, True, {"algebra": -3}, {"algebra": {"x": 1}}])
def test_a_cap_is_a_number_of_traces(cap: Any) -> None:
    with pytest.raises(RecipeError, match=r"filter.select.caps': topic\S* must be a whole number of traces"):
        parse_recipe({"name": "r", "filter": {"select": {"caps": {"topic": cap}}}})
