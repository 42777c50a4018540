"""What changes between two filter runs, and preference pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_filter import PROBLEMS, World

from r1distill.filter import filter_files
from r1distill.recipe import parse_recipe
from r1distill.show import Show

ANSWERS = {
    "a": [
        "\\boxed{18}",
        "The answer is \\boxed{18}.",
        "\\boxed{19}",
        "That would be, all in all, \\boxed{20}.",
    ],
    "b": ["\\boxed{2}"] * 4,
    "c": ["\\boxed{7}"] * 4,
    "d": ["\\boxed{7}", "\\boxed{8}", "seven, or so", ""],
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.data["filter"]["select"] = {"val_fraction": 0}
    made.harvest(ANSWERS)
    return made


def test_a_changed_threshold_is_told_without_writing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    first = world.filter()
    before = world.bytes()
    world.data["filter"]["checks"]["length"] = {"max_tokens": 20}  # samples have 20, 21, 22, 23 tokens
    dry = world.filter(dry_run=True, diff=True, show=Show(1))
    assert world.bytes() == before
    assert (dry.diff.before, dry.diff.gained) == (first.folder, 0)
    assert dry.diff.lost > 0
    assert dry.diff.lost + dry.diff.same == 16
    assert set(dry.diff.lost_to) == {"length: too long"} or all(
        "length" in reason for reason in dry.diff.lost_to
    )
    said = capsys.readouterr().err
    assert f"{dry.diff.lost:,} lost" in said and "to look at" in said
    wet = world.filter(diff=True)
    assert (wet.diff.lost, wet.diff.lost_to) == (dry.diff.lost, dry.diff.lost_to)
    world.data["filter"]["checks"]["length"] = {}
    back = world.filter(diff=True)
    assert (back.diff.gained, back.diff.lost) == (dry.diff.lost, 0)
    assert back.diff.gained_from == dry.diff.lost_to
    assert len(back.diff.gained_ids) == min(5, back.diff.gained)


def test_new_and_gone_traces_are_told_apart(world: World) -> None:
    world.filter()
    world.data["harvest"] = {"samples": 2}
    diff = world.filter(diff=True).diff
    assert (diff.gone, diff.gained, diff.lost, diff.new_kept) == (8, 0, 0, 0)
    world.data["harvest"] = {"samples": 4}
    diff = world.filter(diff=True).diff
    assert (diff.gone, diff.new_kept + diff.new_rejected) == (0, 8)


def test_the_first_run_has_nothing_to_compare_with(world: World) -> None:
    assert world.filter(diff=True).diff is None


def test_the_same_again_says_that_nothing_changed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.filter()
    assert world.filter(diff=True, show=Show(1)).up_to_date


def test_a_diff_of_plain_files(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{n}", "response": f"<think>{'so ' * n}</think>\\boxed{{4}}", "reference": "4"}
        for n in range(1, 40)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {"name": "r", "filter": {"workers": 1, "checks": {"format": {}, "length": {}}}}
    filter_files([tmp_path / "t.jsonl"], tmp_path / "out", parse_recipe(data, folder=tmp_path))
    data["filter"]["checks"]["length"] = {"max_tokens": 20}
    diff = filter_files(
        [tmp_path / "t.jsonl"], tmp_path / "out", parse_recipe(data, folder=tmp_path), diff=True
    ).diff
    assert diff.lost > 5
    assert diff.lost + diff.same == 39


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
    rejected = {row["rejected"][0]["content"][-10:] for row in world.rows("pairs")}
    assert rejected == {"\\boxed{8}"[-10:]} or all("19" not in text and "20" not in text for text in rejected)


def test_the_card_says_what_is_inside(world: World) -> None:
    tags = {"licence": "CC-BY-4.0 | <b>", "topic": "sums"}
    rows = [{**problem, "answer": "7", "tags": tags} for problem in PROBLEMS]
    world.write_problems(rows)
    world.data["teacher"]["t"] = {"provider": "openai", "model": "o3"}
    world.run.folder.mkdir(parents=True, exist_ok=True)
    (world.run.ledger_folder("traces") / "part-1-of-1.jsonl").unlink()
    world.harvest(ANSWERS)
    summary = world.filter()
    text = (Path(summary.folder) / "README.md").read_text()
    assert f"{summary.train:,} training and {summary.val:,} validation rows" in text
    assert "| t | " in text and "| o3 | OpenAI's terms" in text
    assert "| licence | CC-BY-4.0 \\| &lt;b> | " in text
    for row in summary.funnel:
        assert f"| {row.check} | " in text and f"| {row.removed:,} | {row.removed_only_by_this:,} |" in text
    assert all(f"| {count:,} |" in text for count in summary.reasons.values())
