"""Preference pairs: a right answer over the wrong one nearest in length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_filter import World
from test_filter_diff import ANSWERS

from r1distill.filter import filter_files
from r1distill.filtering.plain_files import changed_defaults


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.data["filter"]["select"] = {"val_fraction": 0}
    made.harvest(ANSWERS)
    return made


def test_pairs_are_a_right_answer_over_the_wrong_one_nearest_in_length(world: World) -> None:
    summary = world.filter()
    pairs = world.rows("pairs")
    assert summary.pairs == len(pairs) == 2
    by_problem = {row["prompt"][-1]["content"]: row for row in pairs}
    a = by_problem["Solve: What is 9 * 2?"]
    assert a["chosen"][0]["content"].endswith("\\boxed{18}")
    assert a["rejected"][0]["content"].endswith("\\boxed{19}")
    assert a["chosen"][0]["role"] == a["rejected"][0]["role"] == "assistant"
    assert a["prompt"][0]["role"] == "system"
    d = by_problem["Solve: Say it."]  # what has no marked answer is a fault of form, no wrong answer
    assert d["rejected"][0]["content"].endswith("\\boxed{8}")
    ids = {row["trace_id"] for row in world.rows("train")}
    assert {row["trace_id"] for row in pairs} <= ids
    assert not {row["rejected_trace_id"] for row in pairs} & ids


def test_of_all_pairs_those_nearest_in_length_are_taken(tmp_path: Path) -> None:
    """One short and one long right answer, one long wrong one: the long ones pair, whichever stands first."""
    texts = [
        "so \\boxed{4}",
        "so, after some more thought, \\boxed{4}",
        "so, after some more thought, \\boxed{5}",
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        rows = [
            {"question": "2 + 2?", "reference": "4", "response": f"<think>hm</think>{texts[n]}"}
            for n in order
        ]
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        filter_files(
            [tmp_path / "t.jsonl"], tmp_path / "out", changed_defaults(("filter.select.val_fraction=0",))
        )
        (pair,) = [json.loads(line) for line in (tmp_path / "out/pairs.jsonl").read_text().splitlines()]
        assert pair["chosen"][0]["content"].endswith(texts[1]) and pair["rejected"][0]["content"].endswith(
            texts[2]
        )


def test_as_many_pairs_as_wanted_and_no_wrong_answer_twice(world: World) -> None:
    world.data["filter"]["select"] = {"val_fraction": 0, "pairs_per_prompt": 5}
    assert world.filter().pairs == 3
    used = [row["rejected_trace_id"] for row in world.rows("pairs")]
    assert len(used) == len(set(used))
    world.data["filter"]["select"] = {"val_fraction": 0, "pairs_per_prompt": 0}
    assert world.filter().pairs == 0


def test_what_fails_another_check_as_well_is_no_rival(world: World) -> None:
    world.data["filter"]["checks"]["length"] = {"max_tokens": 21}
    world.filter()
    assert [row["rejected"][0]["content"].split("\n")[-1] for row in world.rows("pairs")] == ["\\boxed{8}"]


def test_checks_of_answers_and_problems_cost_no_pair(world: World) -> None:
    before = world.filter().pairs
    world.data["filter"]["checks"] |= {"agreement": {"min_share": 0.4}, "difficulty": {}}
    summary = world.filter()
    removed = {row.check: row.removed for row in summary.funnel}
    assert removed["agreement"] > 0 and before == 2
    assert summary.pairs == 1  # of d no two samples agree, so that its right answer is no training row
    world.data["filter"]["checks"]["agreement"] = {"min_share": 0.2, "unjudged": "keep"}
    assert world.filter().pairs == 2


def test_how_far_length_tells_right_from_wrong_is_told(world: World) -> None:
    summary = world.filter()
    ratios = []
    for row in world.rows("pairs"):
        wrong, right = (
            row[key][0]["content"].replace("<think>\n", "").replace("\n</think>\n\n", "")
            for key in ("rejected", "chosen")
        )
        ratios.append(len(wrong) / len(right))
    assert summary.pairs_length_ratio == round(sum(ratios) / 2, 3)
    world.data["filter"]["select"] = {"pairs_per_prompt": 0}
    assert world.filter().pairs_length_ratio is None
