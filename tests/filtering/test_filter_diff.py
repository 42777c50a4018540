"""What changes between two filter runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_filter import World

from r1distill.cli import main
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


def test_what_is_rejected_for_another_reason_is_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.filter()
    old = {row["trace_id"]: row["reasons"] for row in world.rows("reasons") if row["rejected"]}
    world.data["filter"]["checks"]["length"] = {"max_tokens": 22}
    diff = world.filter(diff=True, show=Show(1)).diff
    new = {row["trace_id"]: row["reasons"] for row in world.rows("reasons") if row["rejected"]}
    moved = [trace_id for trace_id in old.keys() & new.keys() if old[trace_id] != new[trace_id]]
    assert diff.moved == len(moved) > 0
    (reason,) = diff.moved_to
    assert reason.startswith("length: over 22 tokens") and diff.moved_to[reason] == len(moved)
    assert (
        f"{diff.same} as before ({len(moved)} of them rejected for other or more reasons)"
        in capsys.readouterr().err
    )


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


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("diff", [False, True])
def test_a_run_after_one_that_was_compared(
    diff: bool, dry_run: bool, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.filter()
    world.data["filter"]["checks"]["length"] = {"max_tokens": 20}
    compared = world.filter(diff=True)
    assert compared.diff.lost > 0
    again = world.filter(diff=diff, dry_run=dry_run, show=Show(1))
    assert again.up_to_date and again.kept == compared.kept
    said = capsys.readouterr().err
    assert (f"Against {compared.folder}: nothing changed, 16 traces as before." in said) == diff
    assert (again.diff.same if diff else again.diff) == (16 if diff else None)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("diff", [False, True])
def test_plain_files_after_a_run_that_was_compared(diff: bool, dry_run: bool, tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "response": f"<think>{'so ' * n}</think>\\boxed{{4}}"} for n in range(1, 9)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["filter", str(tmp_path / "t.jsonl"), "--to", str(tmp_path / "out"), "-q"]
    limit = ["--set", "filter.checks.length.max_tokens=8"]
    more = ["--diff"] * diff + ["--dry-run"] * dry_run
    assert [main(command), main([*command, *limit, "--diff"]), main([*command, *limit, *more])] == [0, 0, 0]


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


def test_a_changed_selection_is_told_although_nothing_is_gained_or_lost(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    first = world.filter()
    used = {row["trace_id"] for row in world.rows("train")}
    world.data["filter"]["select"] |= {"per_prompt": 1, "prefer": "longest"}
    diff = world.filter(diff=True, show=Show(1)).diff
    now = {row["trace_id"] for row in world.rows("train")}
    assert (diff.gained, diff.lost, diff.same) == (0, 0, 16)
    assert (diff.chosen, diff.unchosen) == (0, first.train - len(now))
    assert now < used
    assert f"Training and validation rows: 0 more, {diff.unchosen} fewer." in capsys.readouterr().err
    world.data["filter"]["select"]["prefer"] = "shortest"
    diff = world.filter(diff=True).diff
    again = {row["trace_id"] for row in world.rows("train")}
    assert (diff.chosen, diff.unchosen) == (len(again - now), len(now - again)) and diff.chosen > 0
