#!/usr/bin/env python3
"""How fast the filter is, beside plain Python, datasets, datatrove and distilabel: CPU, memory, workers, what it finds.

Usage: .venv/bin/python scripts/bench_filter.py [SCENARIO ...] [--quick] [--json] [--peers-python PYTHON]
It makes 20,000 seeded traces with planted faults (bench_traces.py) and starts each program (bench_filter_peers.py) as a
process of its own. Peers get fewer traces, since theirs cost the same each; one that is not installed is skipped, and
--peers-python names an interpreter of a virtual environment that has them. All scenarios take about five minutes.

  speed    five checks, all programs        workers  one worker against two
  faults   what each planted fault met      again    one threshold changed; nothing changed
  memory   peak of all processes together   reading  share of reading the lines and copying them
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bench_filter_peers
from bench_filter_peers import Job
from bench_traces import read_labels, write_traces
from bench_watch import Watch, table

SCRIPTS = Path(__file__).absolute().parent
PEERS = [name for name in bench_filter_peers.CLIENTS if name != "r1distill"]
TIMEOUT_S = 1200
SETTLED_S = 2.1
"""A little longer than `SETTLED_S` of r1distill/filtering/known_files.py."""
FAULT_CHECKS = {
    "exact": ("near_duplicate",), "near": ("near_duplicate",), "loop": ("repetition",), "cut": ("format", "correct"),
    "empty": ("format",), "wrong": ("correct",),
}  # fmt: skip
"""Who has to find it; a trace that is cut before its box has a form, but no answer."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    traces: int
    peer_traces: int
    peers: tuple[str, ...]
    peers_python: str
    folder: Path
    seed: int
    profile: str | None

    def file(self, count: int) -> Path:
        """The traces, made once for each count."""
        path = write_traces(self.folder / f"traces-{count}", count, self.seed)
        # What was written just now may still change without its times telling, so the filter reads it again each time.
        time.sleep(max(0.0, SETTLED_S - (time.time() - path.stat().st_mtime)))
        return path


def ask(options: Options, job: Job, is_watched: bool = True) -> Row | None:
    """Run one program in a process of its own; what it measured, None when it is not installed or broken. Watching its memory
    takes some of a core, so where wall time on all cores counts it is not watched.
    """
    python = sys.executable if job.client == "r1distill" else options.peers_python
    command = [python, str(SCRIPTS / "bench_filter_peers.py"), json.dumps(asdict(job))]
    errors = Path(job.folder).with_name(f"{Path(job.folder).name}.log")
    with errors.open("wb") as log:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, cwd=options.folder, env=_environment(options)
        )
        watch = Watch(child.pid)
        if is_watched:
            watch.start()
        try:
            out, _ = child.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
        if is_watched:
            watch.stop()
    if child.returncode != 0:
        last = (errors.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
        print(f"{job.client} is left out: {last[:200]}", file=sys.stderr, flush=True)
        return None
    result: Row = json.loads(out.splitlines()[-1])
    seen = {"peak_mb": watch.peak_bytes / 1e6, "processes": watch.processes} if is_watched else {}
    return {"client": job.client, **result, **seen}


def _environment(options: Options) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(options.folder / "hf")}
    # Compiled modules are kept, as they are wherever somebody installs a package.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **offline, "TOKENIZERS_PARALLELISM": "false"}


@cache
def first_run(options: Options, count: int, workers: int = 0, is_watched: bool = True) -> Row:
    """Our filter over `count` traces, nothing measured before; the scenarios share these runs."""
    folder = options.folder / f"filter-{count}-{workers}"
    shutil.rmtree(folder, ignore_errors=True)
    found = ask(options, _own(options, count, workers), is_watched)
    if found is None:
        sys.exit("The filter ended with an error.")
    return {**found, "traces": count, "workers": workers}


def _own(options: Options, count: int, workers: int = 0, **more: Any) -> Job:
    folder = options.folder / f"filter-{count}-{workers}"
    profile = options.profile if not more else None
    return Job(
        "r1distill", str(options.file(count)), str(folder), None, workers or None, profile=profile, **more
    )


def speed(options: Options) -> list[Row]:
    """All programs; the ratio is to the quickest peer, each counted per trace."""
    rows = [first_run(options, options.traces)]
    path = options.file(options.traces)
    few = min(options.peer_traces, options.traces)
    for name in options.peers:
        folder = options.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        found = ask(options, Job(name, str(path), str(folder), few))
        if found is not None:
            rows.append({**found, "traces": few})
    for row in rows:
        row |= {"per_cpu_s": row["traces"] / row["cpu_s"], **quality(read_labels(path.parent), row)}
    best = max((row["per_cpu_s"] for row in rows if row["client"] in PEERS), default=None)
    return [{**row, "times_best_peer": row["per_cpu_s"] / best if best else None} for row in rows]


def quality(labels: list[str], row: Row) -> Row:
    """Shares: planted faults that were not kept, and good traces that were."""
    labels, kept = labels[: row["traces"]], set(row["kept"])
    planted = [number for number, fault in enumerate(labels) if fault != "good"]
    good = [number for number, fault in enumerate(labels) if fault == "good"]
    return {
        "found": 1 - len(kept.intersection(planted)) / len(planted) if planted else None,
        "lost": 1 - len(kept.intersection(good)) / len(good) if good else None,
    }


def faults(options: Options) -> list[Row]:
    """For each fault: how many were planted, and how many the check that looks for it found."""
    run = first_run(options, options.traces)
    folder = Path(_own(options, options.traces).folder)
    labels = read_labels(options.file(options.traces).parent)
    failing = failed_checks(folder, len(labels))
    assert [number for number, names in enumerate(failing) if not names] == sorted(run["kept"])
    rows = []
    for fault, checks in FAULT_CHECKS.items():
        marked = [names for label, names in zip(labels, failing, strict=True) if label == fault]
        found = sum(any(name in names for name in checks) for names in marked)
        rows.append({"client": fault, "planted": len(marked), "met": found, "by": " or ".join(checks)})
    good = [names for label, names in zip(labels, failing, strict=True) if label == "good"]
    by = Counter(name for names in good for name in names)
    told = ", ".join(f"{name} {count}" for name, count in by.items())
    return [
        *rows,
        {"client": "good", "planted": len(good), "met": sum(map(bool, good)), "by": told or "none"},
    ]


def failed_checks(folder: Path, count: int) -> list[set[str]]:
    """The checks that each row did not pass: verdicts stand in the order of the file, as its problems are in order."""
    with (folder / "verdicts.jsonl").open("rb") as file:
        verdicts = [json.loads(line) for line in file]
    each = len(verdicts) // count
    groups = (verdicts[each * number : each * (number + 1)] for number in range(count))
    return [{verdict["check"] for verdict in group if verdict["outcome"] != "PASS"} for group in groups]


def memory(options: Options) -> list[Row]:
    """The peak, and three times as many traces: what each further one costs."""
    rows = [first_run(options, options.traces * factor) for factor in (1, 3)]
    growth = (rows[1]["peak_mb"] - rows[0]["peak_mb"]) * 1e6 / (2 * options.traces)
    return [rows[0], {**rows[1], "bytes_per_trace": growth}]


def workers(options: Options) -> list[Row]:
    """Wall time with one worker and with two, by turns, the median of each; they must keep the same traces."""
    runs: dict[int, list[Row]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for count, found in runs.items():
            found.append(first_run.__wrapped__(options, options.traces, count, is_watched=False))
    assert all(run["kept"] == runs[1][0]["kept"] for found in runs.values() for run in found)
    one, two = (sorted(found, key=lambda run: run["wall_s"])[ROUNDS // 2] for found in runs.values())
    return [one, {**two, "times_one": one["wall_s"] / two["wall_s"]}]


def again(options: Options) -> list[Row]:
    """Another threshold, then the same again; the measurements of the first run are there."""
    first = first_run(options, options.traces)
    rows = [{**first, "what": "first"}]
    for what in ("threshold changed", "nothing changed"):
        found = ask(options, _own(options, options.traces, near=0.7), is_watched=False)
        assert found is not None
        rows.append({**found, "traces": options.traces, "what": what})
    return rows


def reading(options: Options) -> list[Row]:
    """CPU time of reading every line as a trace, and of copying every line to a file, against a whole first run."""
    path, whole = options.file(options.traces), first_run(options, options.traces)
    command = [sys.executable, str(SCRIPTS / "bench_filter.py"), "--read-and-copy", str(path)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    )
    parts: dict[str, float] = json.loads(done.stdout)
    shares = [
        {"client": name, "cpu_s": cpu_s, "share": cpu_s / whole["cpu_s"]} for name, cpu_s in parts.items()
    ]
    return [{**whole, "client": "all"}, *shares]


def read_and_copy(path: Path) -> dict[str, float]:
    """CPU seconds of the filter's own reader over a file, and of copying its lines one by one."""
    from r1distill.filtering.sift import read_places
    from r1distill.filtering.tracefiles import TraceFiles

    files = TraceFiles([path], "math")
    started_s = time.process_time()
    files.fingerprints()
    places = [source.place for source in files.sources()]
    read_s = time.process_time()
    with tempfile.TemporaryFile("wb", buffering=1 << 18) as copy:
        for line in read_places([path], places):
            copy.write(line + b"\n")
    return {"reading": read_s - started_s, "copying": time.process_time() - read_s}


ROUNDS = 3
"""Runs with each number of workers: single ones differ by some percent."""
SCENARIOS: dict[str, Callable[[Options], list[Row]]] = {
    "speed": speed, "faults": faults, "memory": memory, "workers": workers, "again": again, "reading": reading,
}  # fmt: skip
COLUMNS = {
    "what": ("", ""), "workers": ("workers", ""), "traces": ("traces", ",d"), "cpu_s": ("CPU s", ".2f"),
    "per_cpu_s": ("traces/CPU s", ",.0f"), "times_best_peer": ("times best peer", ".2f"), "wall_s": ("wall s", ".2f"),
    "times_one": ("times one", ".2f"), "peak_mb": ("peak MB", ".0f"), "processes": ("processes", ""),
    "bytes_per_trace": ("bytes/further trace", ",.0f"), "measured": ("measured", ",d"), "share": ("share", ".1%"),
    "found": ("faults found", ".1%"), "lost": ("good lost", ".2%"), "planted": ("planted", ",d"), "met": ("rejected", ",d"),
    "by": ("by", ""),
}  # fmt: skip
"""Of the table: key, heading, format; a column that no row has is left out."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)} (default: all)"
    )
    made.add_argument("--quick", action="store_true", help="tiny numbers: does it run at all?")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    made.add_argument("--traces", type=int, help="how many (default: 20,000; quick: 160)")
    made.add_argument("--peer-traces", type=int, help="how many for the peers (default: 2,000; quick: 80)")
    made.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    made.add_argument(
        "--peers-python", default=sys.executable, metavar="PYTHON", help="the interpreter that has the peers"
    )
    made.add_argument(
        "--dir", type=Path, help="keep traces and results here (default: a folder that is removed)"
    )
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--profile", metavar="FILE", help="cProfile of our first run into FILE (its times mean nothing then)"
    )
    made.add_argument("--read-and-copy", type=Path, help=argparse.SUPPRESS)
    return made


def main() -> None:
    """Run the scenarios, print a table each, or all as one JSON object."""
    commands = parser()
    said = commands.parse_args()
    if said.read_and_copy:
        print(json.dumps(read_and_copy(said.read_and_copy)))
        return
    unknown = [name for name in said.scenarios if name not in SCENARIOS]
    if unknown:
        commands.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    usual = (160, 80) if said.quick else (20_000, 2_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (said.dir or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        options = Options(
            said.traces or usual[0], said.peer_traces or usual[1], tuple(said.peers), said.peers_python, folder, said.seed,
            said.profile,
        )  # fmt: skip
        found: dict[str, list[Row]] = {}
        for name in said.scenarios or SCENARIOS:
            rows = SCENARIOS[name](options)
            found[name] = [{key: value for key, value in row.items() if key != "kept"} for row in rows]
            print(table(name, rows, COLUMNS) + "\n", file=sys.stderr if said.json else sys.stdout, flush=True)
    if said.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
