"""The filter and the log-probabilities beside the traces: read once, only where needed, found when they come later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_filter import SAMPLES, World
from token_records import record

from r1distill.filter import FilterSummary, filter_files
from r1distill.filtering import late, logprobs_beside
from r1distill.filtering.measure_only import measure_run
from r1distill.logprobs.store import LogprobStore
from r1distill.recipe import parse_recipe

pytest.importorskip("pyarrow")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.harvest({**SAMPLES, "c": ["\\boxed{\\sqrt{2}}"] * 4})
    made.data["filter"]["checks"] = {"finish": {}, "confidence": {}}
    return made


def traces(world: World) -> list[dict[str, Any]]:
    text = (world.run.ledger_folder("traces") / "part-1-of-1.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def tell(world: World, samples: range, k: int = 2, part: str = "part-1-of-1") -> None:
    """Log-probabilities of some samples of every problem: sample n has a mean of -(n + 1)."""
    with LogprobStore(world.run.folder / "logprobs", part) as store:
        for trace in traces(world):
            if trace["sample"] in samples:
                value = -float(trace["sample"] + 1)
                store.append(trace["id"], trace["slot"], record([value] * 4, [[value] * k] * 4, asked=k))


def scores(world: World) -> list[float | None]:
    return [row["score"] for row in world.rows("verdicts") if row["check"] == "confidence"]


def confidence(summary: FilterSummary) -> tuple[int, int, int]:
    row = next(row for row in summary.funnel if row.check == "confidence")
    return row.passed, row.failed, row.unjudged


def test_scores_and_traces_without_any(world: World) -> None:
    tell(world, range(2))
    summary = world.filter()
    assert confidence(summary) == (8, 0, 8)
    assert scores(world) == [-1.0, -2.0, None, None] * 4
    assert summary.reasons == {"confidence: no log-probabilities": 8}
    assert summary.measured == 16 + 8


def test_a_threshold_measures_nothing_and_reads_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(world, range(4))
    assert world.filter().measured == 32
    monkeypatch.setattr(logprobs_beside, "read", None)
    world.data["filter"]["checks"]["confidence"] = {"min_score": -2.5}
    summary = world.filter()
    assert (summary.measured, summary.cached, confidence(summary)) == (0, 32, (8, 8, 0))
    world.data["filter"]["checks"]["confidence"] = {"drop_share": 0.25}
    summary = world.filter()
    assert (summary.measured, confidence(summary)) == (0, (12, 4, 0))


@pytest.mark.parametrize("workers", [1, 2])
def test_they_come_to_their_traces_in_any_batch(
    world: World, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r1distill.filtering.measure.BATCH", 3)
    tell(world, range(1, 4))
    world.data["filter"] |= {"workers": workers}
    world.data["filter"]["checks"] = {"length": {}, "confidence": {}, "correct": {}}
    world.filter()
    assert scores(world) == [None, -2.0, -3.0, -4.0] * 4


def test_log_probabilities_that_come_later_are_seen(world: World) -> None:
    tell(world, range(1))
    first = world.filter()
    assert world.filter().up_to_date
    tell(world, range(1, 4), part="part-9")
    second = world.filter()
    assert not second.up_to_date
    assert second.stage_id != first.stage_id
    assert (second.measured, second.cached, confidence(second)) == (12, 20, (16, 0, 0))


def test_alternatives_that_come_later_are_seen(world: World) -> None:
    tell(world, range(4), k=0)
    world.data["filter"]["checks"]["confidence"] = {"by": "tail", "unjudged": "keep"}
    first = world.filter()
    assert (first.measured, confidence(first)) == (32, (0, 0, 16))
    for path in (world.run.folder / "logprobs").glob("*"):
        path.unlink()
    tell(world, range(4))
    world.data["filter"]["checks"]["confidence"]["min_score"] = 0.0
    again = world.filter()
    assert (again.measured, again.cached, confidence(again)) == (16, 16, (16, 0, 0))


def test_interrupted_reading_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(world, range(4))
    monkeypatch.setattr(late, "LATE_BATCH", 5)
    read = logprobs_beside.read

    def breaks(folder: Path, ids: Any) -> Any:
        for number, found in enumerate(read(folder, ids)):
            if number == 12:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(logprobs_beside, "read", breaks)
        world.filter()
    asked: list[int] = []

    def counts(folder: Path, ids: Any) -> Any:
        asked.append(len(ids))
        return read(folder, ids)

    monkeypatch.setattr(logprobs_beside, "read", counts)
    summary = world.filter()
    assert (summary.measured, summary.cached, asked) == (6, 26, [6])


def test_shards_carry_them(world: World) -> None:
    tell(world, range(3))
    world.filter()
    expected = world.bytes()
    (world.run.folder / "index.sqlite").unlink()
    done = [measure_run(world.recipe, world.run, (number, 2)) for number in (1, 2)]
    assert sum(one.written for one in done) == 16 + 12
    (world.run.folder / "index.sqlite").unlink()
    (world.run.folder / "filter" / "latest" / "summary.json").unlink()
    assert world.filter().measured == 0
    assert world.bytes() == expected


def test_a_dry_run_counts_what_is_there(world: World) -> None:
    tell(world, range(3))
    assert world.filter(dry_run=True).measured == 16 + 12


def test_files_of_a_run_find_their_own(world: World, tmp_path: Path) -> None:
    tell(world, range(2))
    recipe = parse_recipe({"name": "r", "filter": {"checks": {"confidence": {}}}}, folder=tmp_path)
    source = world.run.ledger_folder("traces") / "part-1-of-1.jsonl"
    summary = filter_files([source], tmp_path / "out", recipe)
    assert confidence(summary) == (8, 0, 8)
    copied = tmp_path / "copied.jsonl"
    copied.write_bytes(source.read_bytes())
    recipe = parse_recipe(
        {"name": "r", "filter": {"checks": {"confidence": {"unjudged": "keep"}}}}, folder=tmp_path
    )
    assert confidence(filter_files([copied], tmp_path / "out2", recipe)) == (0, 0, 16)


def test_a_check_of_ones_own_may_read_them(world: World) -> None:
    (world.folder / "mine.py").write_text(
        "from typing import ClassVar\n"
        "from r1distill.checks import Check, passed\n"
        "class Mine(Check):\n"
        "    wants_logprobs: ClassVar[bool] = True\n"
        "    def measure_logprobs(self, record): return {'n': len(record), 'least': 1 / (min(record.logprobs()) + 2)}\n"
        "    def judge(self, value): return passed(score=value['n'])\n"
    )
    tell(world, range(4))
    world.data["filter"]["checks"] = {
        "finish": {}, "mine": {"use": "mine.py:Mine", "unjudged": "keep"}, "needy": {"use": "needy.py:Needy"},
    }  # fmt: skip
    (world.folder / "needy.py").write_text(
        "from r1distill.checks import Check, passed\n"
        "class Needy(Check):\n"
        "    needs = ('mine',)\n"
        "    unjudged: str = 'keep'\n"
        "    def measure(self, prompt, trace): return {}\n"
        "    def judge_all(self, rows, name): return [passed(score=row.values['mine']['n']) for row in rows]\n"
    )
    summary = world.filter()
    assert summary.reasons == {}
    assert summary.notes[0].startswith("The check mine raised an error")
    said = {(row["check"], row["score"], row["reason"]) for row in world.rows("verdicts")}
    assert said == {
        ("finish", None, "finish: stop"), ("mine", 4.0, "mine: ok"), ("needy", 4.0, "needy: ok"),
        ("mine", None, "mine: error: ZeroDivisionError"), ("needy", None, "needy: mine: error: ZeroDivisionError"),
    }  # fmt: skip
