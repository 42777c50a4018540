"""Measuring in shards: the parts join by copying, and judging afterwards says the same as one plain run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_filter import PROBLEMS, SAMPLES, World

from r1distill.cli import main
from r1distill.errors import LockedError
from r1distill.filter import filter_files
from r1distill.filtering import measure
from r1distill.filtering.measure_only import MeasureSummary, measure_files, measure_run
from r1distill.ledger import Ledger
from r1distill.show import Show

MEASUREMENTS = 16 * 5


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.harvest({**SAMPLES, "c": ["\\boxed{\\sqrt{2}}"] * 4})
    return made


def measured(world: World, shard: tuple[int, int] = (1, 1), **options: Any) -> MeasureSummary:
    return measure_run(world.recipe, world.run, shard, **options)


def part(world: World, number: int, count: int) -> Path:
    return world.run.folder / "measurements" / f"part-{number}-of-{count}.jsonl"


def forget(world: World) -> None:
    """Leave only what would be copied: traces, problems, measurements."""
    (world.run.folder / "index.sqlite").unlink()
    shutil.rmtree(world.run.folder / "filter", ignore_errors=True)


def plain_bytes(world: World) -> dict[str, bytes]:
    """What one filter run without any shards writes."""
    world.filter()
    found = world.bytes()
    forget(world)
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_join_by_copying(world: World, count: int, tmp_path: Path) -> None:
    expected = plain_bytes(world)
    collected = tmp_path / "collected"
    collected.mkdir()
    done = []
    for number in range(1, count + 1):  # each on a machine that knows nothing of the others
        done.append(measured(world, (number, count)))
        part(world, number, count).rename(collected / part(world, number, count).name)
        forget(world)
    assert sum(one.measured for one in done) == sum(one.written for one in done) == MEASUREMENTS
    assert sum(one.traces for one in done) == 16
    shutil.rmtree(world.run.folder / "measurements")
    shutil.copytree(collected, world.run.folder / "measurements")
    summary = world.filter()
    assert (summary.measured, summary.cached) == (0, MEASUREMENTS)
    assert world.bytes() == expected


def test_a_shard_run_twice_writes_nothing_twice(world: World) -> None:
    first = measured(world, (1, 2))
    before = part(world, 1, 2).read_bytes()
    again = measured(world, (1, 2))
    assert (again.measured, again.cached, again.written) == (0, first.measured, 0)
    forget(world)
    elsewhere = measured(world, (1, 2))
    assert (elsewhere.measured, elsewhere.cached, elsewhere.written) == (0, first.measured, 0)
    assert part(world, 1, 2).read_bytes() == before


def test_what_the_index_knows_goes_into_the_file(world: World) -> None:
    world.filter()
    summary = measured(world)
    assert (summary.measured, summary.cached, summary.written) == (0, MEASUREMENTS, MEASUREMENTS)
    rows = [json.loads(line) for line in part(world, 1, 1).read_text().splitlines()]
    assert set(rows[0]) == {"key", "trace_id", "check", "value"}
    assert len({(row["trace_id"], row["check"]) for row in rows}) == MEASUREMENTS


def test_measurements_of_other_settings_never_match(world: World) -> None:
    measured(world)
    forget(world)
    world.write_problems([{**row, "answer": "19"} if row["id"] == "a" else row for row in PROBLEMS])
    summary = world.filter()
    assert (summary.measured, summary.cached) == (4, MEASUREMENTS - 4)


def test_torn_and_broken_rows_are_measured_again(world: World) -> None:
    expected = plain_bytes(world)
    measured(world)
    lines = part(world, 1, 1).read_bytes().splitlines(keepends=True)
    lines[3] = b'{"key": 1}\n'
    part(world, 1, 1).write_bytes(b"".join(lines)[:-9])
    forget(world)
    summary = measured(world)
    assert (summary.measured, summary.written) == (2, 2)
    assert [note for note in summary.notes if "1 row in measurements/ can't be read, the first is " in note]
    assert len(part(world, 1, 1).read_bytes().splitlines()) == MEASUREMENTS + 1
    forget(world)
    again = world.filter()
    assert again.measured == 0
    assert [note for note in again.notes if "part-1-of-1.jsonl: byte " in note and "measured again" in note]
    assert world.bytes() == expected


def test_one_writer_per_part(world: World) -> None:
    with Ledger(part(world, 1, 2)):
        with pytest.raises(LockedError, match="part-1-of-2"):
            measured(world, (1, 2))
        measured(world, (2, 2))


def test_a_dry_run_counts_and_writes_nothing(world: World) -> None:
    before = sorted(str(path) for path in world.folder.rglob("*"))
    summary = measured(world, dry_run=True)
    assert (summary.measured, summary.cached, summary.written, summary.dry_run) == (MEASUREMENTS, 0, 0, True)
    assert sorted(str(path) for path in world.folder.rglob("*")) == before


def test_kill_in_the_middle(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """kill -9 while a check is measuring: what was finished is in the file, the next call does the rest."""
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time\n"
        "from r1distill.checks import Check, passed\n"
        "class Stuck(Check):\n"
        "    def measure(self, prompt, trace):\n"
        f"        flag = pathlib.Path({str(tmp_path / 'flag')!r})\n"
        "        while prompt.id == 'c' and trace.sample == 1 and not flag.exists(): time.sleep(0.01)\n"
        "        return {'n': trace.sample}\n"
        "    def judge(self, value): return passed()\n"
    )
    world.data["filter"]["checks"]["stuck"] = {"use": "stuck.py:Stuck"}
    (tmp_path / "recipe.json").write_text(json.dumps(world.data))
    program = (
        "import json, sys; from pathlib import Path\n"
        "from r1distill.filtering import measure; measure.BATCH = 3\n"
        "from r1distill.filtering.measure_only import measure_run; from r1distill.recipe import parse_recipe\n"
        "from r1distill.run import Run\n"
        "folder = Path(sys.argv[1]); data = json.loads((folder / 'recipe.json').read_text())\n"
        "measure_run(parse_recipe(data, folder=folder), Run(folder / 'runs' / 'r'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if part(world, 1, 1).exists() and part(world, 1, 1).read_bytes().count(b"\n") >= 9 * 6:
                break
            time.sleep(0.02)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (tmp_path / "flag").touch()
    monkeypatch.setattr(measure, "BATCH", 3)
    (world.run.folder / "index.sqlite").unlink()
    rest = measured(world)
    assert (rest.cached, rest.measured) == (9 * 6, 7 * 6)
    forget(world)
    assert world.filter().measured == 0
    found = world.bytes()
    shutil.rmtree(world.run.folder / "measurements")
    forget(world)
    world.filter()
    assert world.bytes() == found


def test_plain_files(tmp_path: Path) -> None:
    rows = [
        {"question": f"{n} * 2?", "response": f"<think>twice</think>\n\\boxed{{{2 * n}}}", "reference": str(2 * n)}
        for n in range(6)
    ]  # fmt: skip
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    plain, joined = tmp_path / "plain", tmp_path / "joined"
    filter_files([source], plain)
    for number in (1, 2):
        made = measure_files([source], tmp_path / str(number), None, (number, 2))
        assert 0 < made.traces < 7
        (joined / "measurements").mkdir(parents=True, exist_ok=True)
        shutil.copy(made.file, joined / "measurements")
    summary = filter_files([source], joined)
    assert (summary.measured, summary.cached) == (0, 7 * 6)
    assert (joined / "verdicts.jsonl").read_bytes() == (plain / "verdicts.jsonl").read_bytes()


def test_the_traces_of_other_shards_count_as_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps({"question": f"{n}?", "response": "1"}) + "\n" for n in range(40)))
    made = measure_files([source], tmp_path / "out", None, (1, 4), show=Show(1))
    assert 0 < made.traces < 40
    assert "Measuring: 40/40\n" in capsys.readouterr().err


def test_what_is_only_read_is_not_called_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "t.jsonl"
    source.write_text(json.dumps({"question": "1?", "response": "<think>a</think>1"}) + "\n")
    for dry_run, word in ((True, "Reading"), (False, "Filtering")):
        filter_files([source], tmp_path / "out", dry_run=dry_run, show=Show(1))
        assert f"{word}: 1/1\n" in capsys.readouterr().err


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "t.jsonl"
    source.write_text(json.dumps({"question": "1?", "response": "<think>a</think>1"}) + "\n")
    command = ["filter", str(source), "--to", str(tmp_path / "out"), "-q"]
    assert main([*command, "--measure-only", "--shard", "1/1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["shard"], said["traces"], said["measured"], said["written"]) == ("1/1", 1, 6, 6)
    assert not (tmp_path / "out" / "verdicts.jsonl").exists()
    assert main([*command, "--shard", "1/2"]) == 2
    assert main([*command, "--measure-only", "--diff"]) == 2
    assert main([*command, "--measure-only", "--shard", "3/2"]) == 2
    assert main(command) == 0
