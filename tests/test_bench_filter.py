"""The benchmark runs, with tiny numbers, finds what was planted and says what it left out; no time is asserted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r1distill.answers import Grade, grade_exact
from r1distill.thinking import split_thinking

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bench_filter  # noqa: E402
import bench_filter_peers  # noqa: E402
import bench_traces  # noqa: E402
import bench_watch  # noqa: E402


def run(folder: Path, *arguments: str) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """What the benchmark reports as JSON, and its tables."""
    command = [sys.executable, str(SCRIPTS / "bench_filter.py"), "--quick", "--json", "--dir", str(folder)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=100)
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[dict[str, Any]]], str, Path]:
    pytest.importorskip("math_verify")
    pytest.importorskip("rensa")
    folder = tmp_path_factory.mktemp("bench")
    found, tables = run(folder, "speed", "faults", "again", "reading", "--traces", "160", "--peers", "plain")
    return found, tables, folder


def test_the_programs_are_compared(report: tuple[dict[str, list[dict[str, Any]]], str, Path]) -> None:
    found, tables, _ = report
    ours = found["speed"][0]
    assert (ours["client"], ours["traces"], ours["found"], ours["lost"]) == ("r1distill", 160, 1, 0)
    assert ours["per_cpu_s"] == pytest.approx(160 / ours["cpu_s"])
    if sys.platform == "linux":
        assert ours["peak_mb"] > 30 and ours["processes"] >= 2
    if importlib.util.find_spec("datasketch"):
        assert ours["times_best_peer"] == ours["per_cpu_s"] / found["speed"][1]["per_cpu_s"]
    else:
        assert "plain is left out: ModuleNotFoundError: No module named 'datasketch'" in tables
    assert "traces/CPU s" in tables


def test_every_planted_fault_is_found(report: tuple[dict[str, list[dict[str, Any]]], str, Path]) -> None:
    found, _, folder = report
    rows = {row["client"]: row for row in found["faults"]}
    labels = Counter(bench_traces.read_labels(folder / "traces-160"))
    assert {name: row["planted"] for name, row in rows.items()} == {**dict.fromkeys(rows, 0), **labels}
    assert all(row["met"] == (0 if name == "good" else row["planted"]) for name, row in rows.items())


def test_a_changed_threshold_measures_nothing(
    report: tuple[dict[str, list[dict[str, Any]]], str, Path],
) -> None:
    first, changed, same = report[0]["again"]
    assert first["measured"] == 5 * 160
    assert (changed["measured"], changed["up_to_date"], same["up_to_date"]) == (0, False, True)


def test_reading_is_a_part_of_the_whole(report: tuple[dict[str, list[dict[str, Any]]], str, Path]) -> None:
    shares = {row["client"]: row.get("share") for row in report[0]["reading"]}
    assert 0 < shares["reading"] < 1 and 0 <= shares["copying"] < 1


def test_workers_and_memory(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    pytest.importorskip("rensa")
    found, _ = run(tmp_path, "memory", "workers", "--traces", "24")
    assert [row["traces"] for row in found["memory"]] == [24, 72]
    assert [row["workers"] for row in found["workers"]] == [1, 2]
    assert found["workers"][1]["times_one"] > 0


def test_the_traces_follow_from_the_seed(tmp_path: Path) -> None:
    first = list(bench_traces.rows(64, seed=3))
    assert first == list(bench_traces.rows(80, seed=3))[:64]
    assert first != list(bench_traces.rows(64, seed=4))
    path = bench_traces.write_traces(tmp_path / "a", 64, 3)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row for row, _ in first]
    assert bench_traces.read_labels(tmp_path / "a") == [fault for _, fault in first]


def test_the_traces_are_as_they_are_said_to_be() -> None:
    rows = list(bench_traces.rows(1600))
    faults = Counter(fault for _, fault in rows)
    assert set(faults) == {*bench_traces.SHARES, "good"}
    assert all(faults[name] >= 10 for name in bench_traces.SHARES) and faults["good"] > 1200
    sizes = sorted(len(row["response"]) for row, _ in rows)
    assert 7_000 < sizes[800] < 9_000
    graded = [
        grade_exact("math", row["reference"], split_thinking(row["response"]).answer)
        for row, fault in rows
        if fault in ("good", "wrong")
    ]
    assert 0.85 < sum(isinstance(one, Grade) for one in graded) / len(graded) < 0.99


def test_quality_counts_what_was_asked_for() -> None:
    labels = ["good", "loop", "good", "near", "good", "cut"]
    assert bench_filter.quality(labels, {"traces": 4, "kept": [0, 3]}) == {"found": 0.5, "lost": 0.5}
    assert bench_filter.quality(labels, {"traces": 1, "kept": [0]}) == {"found": None, "lost": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_watch_sees_children() -> None:
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = str(1) * 50_000_000; input()'])"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    watch = bench_watch.Watch(child.pid)
    watch.start()
    give_up = time.monotonic() + 20
    while watch.peak_bytes < 50_000_000 and time.monotonic() < give_up:
        time.sleep(bench_watch.EVERY_S)
    child.communicate(b"\n")
    watch.stop()
    assert watch.peak_bytes >= 50_000_000 and watch.processes == 2


def test_loops_are_seen_by_the_peers() -> None:
    assert bench_filter_peers.loops("so it goes on and on, I say again and again to you: " * 9)
    assert not bench_filter_peers.loops(" ".join(map(str, range(500))))


def test_an_unknown_scenario_is_named() -> None:
    command = [sys.executable, str(SCRIPTS / "bench_filter.py"), "sped"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "no scenario sped" in done.stderr
