#!/usr/bin/env python3
"""How fast the harvest is, beside a stock openai client and raw aiohttp: CPU per answer, memory, use of time and limits.

Usage: .venv/bin/python scripts/bench_harvest.py [SCENARIO ...] [--quick] [--json] [--clients create aiohttp harvest]
It starts its own fast teacher (bench_teacher.py) on one core and each client (bench_clients.py) as a process of its own
on the other. The default scenarios take about three minutes; latency, memory and resume (3 GB of disk) run when named.

  plain     1,000 in flight, 10 KB answers                  logprobs  top_logprobs = 20, bodies of 135 to 400 KB
  stream    64 in flight, 2,600 events an answer            limit     6,000 requests/min, with headers and without
  latency   lognormal, median 2 s; 1.00 is a perfect greedy client that keeps 1,000 requests under way
  memory    300,000 prompts, 1,000 in flight                resume    300,000 finished traces, then one more harvest
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bench_clients
import bench_teacher
from bench_clients import Job
from bench_teacher import Setting

SCRIPTS = Path(__file__).absolute().parent
RESUME_BYTES = 10_000
LATENCY_SEED = 2
"""Of the first dozen the one whose slowest answers weigh least in the best possible time: the strictest."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    clients: list[str]
    quick: bool
    rounds: int
    folder: Path
    events_per_write: int
    profile: str | None = None

    def size(self, usual: int, quick: int) -> int:
        """A number of prompts."""
        return quick if self.quick else usual


def cores() -> tuple[int | None, int | None]:
    """(the teacher's core, the client's core); None where there is only one, or pinning is not possible."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    mine = sorted(os.sched_getaffinity(0))
    return (mine[0], mine[1]) if len(mine) > 1 else (None, None)


@contextmanager
def teacher(setting: Setting) -> Iterator[str]:
    """The address of a teacher that runs while the block does."""
    said = json.dumps({**asdict(setting), "core": cores()[0]})
    child = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "bench_teacher.py"), said],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        port = json.loads(child.stdout.readline())["port"]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.stdin.close()
        child.wait(10)
        child.stdout.close()


def ask_client(job: Job) -> Row:
    """Run one client in a process of its own; returns what it measured."""
    command = [
        sys.executable,
        str(SCRIPTS / "bench_clients.py"),
        json.dumps({**asdict(job), "core": cores()[1]}),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=_environment())
    if done.returncode != 0:
        sys.exit(f"The client {job.client} ended with exit code {done.returncode}.")
    result: Row = json.loads(done.stdout)
    return result


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SCRIPTS.parent), bench_clients.KEY_VARIABLE: bench_clients.KEY}


def measure(
    options: Options, client: str, setting: Setting, prompts: int, in_flight: int, **more: Any
) -> Row:
    """One client against one fresh teacher; the teacher's counts are in the row."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, teacher(setting) as base_url:
        if client == "harvest":
            bench_clients.write_problems(Path(folder), prompts)
        job = Job(client, base_url, folder, prompts, in_flight, profile=options.profile, **more)
        result = ask_client(job)
        return {"client": client, **result, "teacher": stats(base_url)}


def stats(base_url: str) -> Row:
    """What the teacher saw."""
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/stats", timeout=10) as answer:
        seen: Row = json.load(answer)
    return seen


def compare(
    options: Options, setting: Setting, prompts: int, in_flight: int, few: int = 0, **more: Any
) -> list[Row]:
    """All clients, each with the best CPU time of its rounds, and how many times less than create() that is."""
    best: dict[str, Row] = {}
    for _ in range(options.rounds):
        for client in options.clients:
            count = few if few and client == "create" else prompts
            found = measure(options, client, setting, count, in_flight, **more)
            if client not in best or found["cpu_ms"] < best[client]["cpu_ms"]:
                best[client] = found
    base = best["create"]["cpu_ms"] if "create" in best else None
    return [{**row, "times_less": base / row["cpu_ms"] if base else None} for row in best.values()]


def plain(options: Options) -> list[Row]:
    """Answers in one piece, many at once; they come as fast as the client can take them."""
    return compare(options, Setting("plain"), options.size(3000, 60), options.size(1000, 20))


def stream(options: Options) -> list[Row]:
    """Streams of many events; the stock client gets few of them, since each takes it a third of a second."""
    setting = Setting("stream", events=options.size(2600, 50), events_per_write=options.events_per_write)
    return compare(
        options, setting, options.size(768, 20), options.size(64, 4), options.size(96, 10), stream=True
    )


def logprobs(options: Options) -> list[Row]:
    """Bodies that are nearly all log-probabilities."""
    return compare(options, Setting("logprobs"), options.size(900, 20), options.size(64, 4), top_logprobs=20)


def latency(options: Options) -> list[Row]:
    """Latency as hosted reasoners have it, against a perfect client."""
    count, in_flight = options.size(4000, 40), options.size(1000, 10)
    setting = Setting("plain", median_s=options.size(2000, 20) / 1000, sigma=0.6, seed=LATENCY_SEED)
    best_s = greedy_s(bench_teacher.latencies_s(setting, count), in_flight)
    found = [measure(options, client, setting, count, in_flight) for client in options.clients]
    return [{**row, "ideal_s": best_s, "times_ideal": row["wall_s"] / best_s} for row in found]


def greedy_s(latencies_s: list[float], in_flight: int) -> float:
    """The wall time of a client that always has `in_flight` requests under way and takes no time itself."""
    ends: list[float] = []
    last = 0.0
    for latency_s in latencies_s:
        start = heapq.heappop(ends) if len(ends) >= in_flight else 0.0
        heapq.heappush(ends, start + latency_s)
        last = max(last, start + latency_s)
    return last


def limit(options: Options) -> list[Row]:
    """A real limit: how much of it is used, and at the price of how many refusals."""
    count, per_min = options.size(1500, 50), options.size(6000, 2400)
    rows = []
    for told in (True, False):
        setting = Setting("plain", requests_per_min=per_min, limit_headers=told, median_s=0.2)
        for client in [name for name in options.clients if name == "harvest"]:
            found = measure(options, client, setting, count, options.size(1000, 50))
            ideal_s = count / (per_min / 60)
            more = {"headers": told, "ideal_s": ideal_s, "used": ideal_s / found["wall_s"]}
            rows.append({**found, **more, "refused": found["teacher"]["refused"]})
    return rows


def memory(options: Options) -> list[Row]:
    """Many short answers: the peak, and what each further trace costs."""
    latency_s = options.size(500, 10) / 1000  # so that the teacher really holds 1,000 at a time
    setting, prompts = Setting("plain", answer_bytes=200, median_s=latency_s), options.size(300_000, 500)
    found = measure(options, "harvest", setting, prompts, options.size(1000, 20))
    return [{**found, "growth": found["bytes_per_trace"]}]


def resume(options: Options) -> list[Row]:
    """Time from the call to the first request over many finished traces, without the index (a kill) and with it."""
    finished, more = options.size(300_000, 300), 50
    needed = finished * RESUME_BYTES * 1.3
    if shutil.disk_usage(options.folder).free < needed:
        sys.exit(f"resume needs {needed / 1e9:.1f} GB in {options.folder}; name another folder with --dir.")
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_finished(Path(folder), finished, more)
        for index in ("missing", "present"):
            with teacher(Setting("plain", answer_bytes=200)) as base_url:
                bench_clients.write_problems(Path(folder), finished + more * (1 + len(rows)))
                called_s = time.monotonic()
                found = ask_client(Job("harvest", base_url, folder, more, 50))
                seen = stats(base_url)
            first_s = seen["first_s"] - called_s
            rows.append(
                {"client": "harvest", "index": index, "first_request_s": first_s, **found, "teacher": seen}
            )
    return rows


def write_finished(folder: Path, finished: int, more: int) -> None:
    """A run folder whose ledger holds the traces of the first `finished` problems."""
    sys.path.insert(0, str(SCRIPTS.parent))
    import msgspec

    from r1distill.asking.owed import harvest_wanted
    from r1distill.problems import load_problems
    from r1distill.recipe import parse_recipe
    from r1distill.records import Trace, Usage, split_ceiling, trace_id_of

    bench_clients.write_problems(folder, finished)
    recipe = parse_recipe(
        bench_clients.recipe_data(Job("harvest", "http://127.0.0.1:9/v1", "", finished, 50)), folder=folder
    )
    reasoning = bench_teacher.text(RESUME_BYTES - 1500)
    path = folder / "run" / "traces" / "part-1-of-1.jsonl"
    path.parent.mkdir(parents=True)
    encoder = msgspec.json.Encoder()
    with path.open("wb", buffering=1 << 20) as file:
        for item in harvest_wanted(recipe, load_problems(recipe)[0]):
            rest, ceiling = split_ceiling(item.sampling)
            trace = Trace(
                id=trace_id_of(item.slot, ceiling), slot=item.slot, prompt_id=item.prompt_id, sample=item.sample,
                teacher=item.teacher, model=item.model, messages=item.messages, reasoning=reasoning, answer="42",
                finish="stop", sampling=rest, max_tokens=ceiling, usage=Usage(40, 2500), cost_usd=0.005,
                latency_s=1.0, created="2026-11-22T00:00:00Z",
            )  # fmt: skip
            file.write(encoder.encode(trace) + b"\n")


SCENARIOS: dict[str, Callable[[Options], list[Row]]] = {
    "plain": plain, "stream": stream, "logprobs": logprobs, "limit": limit, "latency": latency, "memory": memory,
    "resume": resume,
}  # fmt: skip
DEFAULT = ["plain", "stream", "logprobs", "limit"]
COLUMNS = {
    "cpu_ms": ("CPU ms/answer", ".3f"), "times_less": ("times less", ".1f"), "wall_s": ("wall s", ".1f"),
    "peak_mb": ("peak MB", ".0f"), "headers": ("headers", ""), "ideal_s": ("ideal s", ".1f"),
    "used": ("limit used", ".1%"), "refused": ("429s", ""), "times_ideal": ("times ideal", ".2f"),
    "growth": ("bytes/further trace", ".0f"), "index": ("index", ""), "first_request_s": ("first request s", ".1f"),
}  # fmt: skip
"""Of the table: key, heading, format; a column that no row has is left out."""


def table(name: str, rows: list[Row]) -> str:
    """The rows of one scenario as text."""
    shown = {key: how for key, how in COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    lines = [[name, *(heading for heading, _ in shown.values())]]
    for row in rows:
        cells = ["-" if row.get(key) is None else format(row[key], how) for key, (_, how) in shown.items()]
        lines.append([row["client"], *(str(cell) for cell in cells)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def main() -> None:
    """Run the scenarios, print a table each, or all as one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"of {', '.join(SCENARIOS)} (default: {' '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--clients", nargs="+", choices=list(bench_clients.CLIENTS), default=list(bench_clients.CLIENTS)
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="runs of each client, woven; the best CPU time counts"
    )
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does it run at all?")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--dir", type=Path, help="where the run folders are made (default: the system's folder for such)"
    )
    parser.add_argument(
        "--events-per-write", type=int, default=64, help="how many events of a stream leave in one write"
    )
    parser.add_argument("--profile", metavar="FILE", help="cProfile of the last client into FILE")
    said = parser.parse_args()
    unknown = [name for name in said.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    options = Options(
        said.clients,
        said.quick,
        said.rounds,
        said.dir or Path(tempfile.gettempdir()),
        said.events_per_write,
        said.profile,
    )
    found: dict[str, list[Row]] = {}
    for name in said.scenarios or DEFAULT:
        found[name] = SCENARIOS[name](options)
        print(table(name, found[name]) + "\n", file=sys.stderr if said.json else sys.stdout, flush=True)
    if said.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
