"""Worker processes that can be killed: a stuck job costs its worker, never the run.

Started lazily (a worker that imports computer algebra takes about 0.7 s), at most one per job. Results come back in
the order of the jobs and do not depend on the number of workers: limits are CPU seconds, kept by the kernel inside
the worker. A killed parent leaves no orphans: idle workers see the socket close, busy ones run into their timer.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from r1distill.checks.base import Job, Value
from r1distill.errors import R1DistillError

WALL_FACTOR, WALL_EXTRA_S = 10.0, 5.0
"""A job may take timeout_s x factor + extra seconds of wall time before it counts as stuck without using CPU."""
START_S = 120.0
"""Seconds of wall time for a worker to start, and beyond a job's own limit before the parent kills it itself."""
JOBS_PER_WORKER = 8
"""A further worker is started for every so many open jobs: starting one costs as much as 300 ordinary jobs."""
WARM_UP_JOBS = 150
"""So many waiting jobs of one function are worth importing computer algebra in one more worker (0.7 s and 50 MB)."""
EXIT_S = 2.0
"""Seconds that a worker with a closed socket gets to end by itself, so that its exit code tells why."""
BOOT = (
    "import json, sys, types; handle, path, package = json.loads(sys.argv[1]); sys.path[:] = path; "
    "root = types.ModuleType('r1distill'); root.__path__ = package; sys.modules['r1distill'] = root; "
    "from r1distill.checks.worker import main; main(handle)"
)
"""The package's own __init__ is left out: all its verbs would be imported, which costs 0.25 s and 25 MB a worker."""


class Result(NamedTuple):
    """What became of a job: a value, or timed_out, or an error."""

    value: Value | None
    timed_out: bool = False
    error: str = ""


class Ticket:
    """Jobs that were handed over together, and what is known of them."""

    __slots__ = ("jobs", "results", "share")

    def __init__(self, jobs: Sequence[Job], share: float) -> None:
        self.jobs, self.share = jobs, share
        self.results: dict[int, Result] = {}


class _Worker:
    """One process and what it is doing."""

    def __init__(self) -> None:
        self.pipe, child = Pipe()
        command = [
            sys.executable,
            "-c",
            BOOT,
            json.dumps([child.fileno(), sys.path, [str(Path(__file__).absolute().parents[1])]]),
        ]
        try:
            self.process = subprocess.Popen(
                command, pass_fds=[child.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except OSError as error:
            raise R1DistillError(f"A worker process can't be started: {error.strerror or error}.") from None
        finally:
            child.close()
        self.ready = False
        self.job: tuple[Ticket, int] | None = None
        self.warm: set[str] = set()
        """Functions that it has been given, so that what they import is there."""
        self.last = ""
        self.deadline = time.monotonic() + START_S

    def give(self, ticket: Ticket, number: int) -> None:
        job = ticket.jobs[number]
        wall_s = job.timeout_s * WALL_FACTOR + WALL_EXTRA_S
        self.pipe.send_bytes(_packed([job.function, list(job.args), job.timeout_s, wall_s]))
        self.warm.add(job.function)
        self.last = job.function
        self.job, self.deadline = (ticket, number), time.monotonic() + wall_s + START_S

    def end(self, patience_s: float = 0) -> int:
        """End it, by force when it does not end by itself in time; returns its exit code (negative: the signal)."""
        self.pipe.close()
        try:
            return self.process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Workers:
    """Up to `count` workers (default: one per core); a context manager that ends them all on leaving."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or cores()
        self.killed = 0
        """Workers that were lost to a job so far."""
        self._workers: list[_Worker] = []
        self._urgent: deque[tuple[Ticket, int]] = deque()
        self._queue: deque[tuple[Ticket, int]] = deque()
        """What waits until nothing urgent does that this worker may do."""
        self._waiting: Counter[str] = Counter()
        """Jobs that no worker has yet, by function."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._urgent.clear()
        self._queue.clear()
        self._waiting.clear()

    def run(self, jobs: Sequence[Job], done: Callable[[int], None] = lambda n: None) -> list[Result]:
        """The results of `jobs`, in their order, before all that is not urgent; `done` hears how many are finished.

        Raises R1DistillError.
        """
        return self.wait(self.post(jobs, urgent=True), done)

    def post(self, jobs: Sequence[Job], urgent: bool = False, share: float = 1 / JOBS_PER_WORKER) -> Ticket:
        """Hand over jobs without waiting for them; a worker is started for each whole of their `share`s together.

        Raises R1DistillError.
        """
        ticket = Ticket(jobs, share)
        self._waiting.update(job.function for job in jobs)
        (self._urgent if urgent else self._queue).extend((ticket, number) for number in range(len(jobs)))
        if jobs:
            self._fill()
            self._collect(0.0)
        return ticket

    def start(self) -> None:
        """Start all of them now, for a caller who knows that there is much to do. Raises R1DistillError."""
        while len(self._workers) < self.count:
            self._workers.append(_Worker())

    def tick(self) -> None:
        """Hear what is done and hand out what waits, without waiting: for a caller that has other work for long. Raises
        R1DistillError.
        """
        if self._urgent or self._queue:
            self._collect(0.0)
            self._fill()

    def wait(self, ticket: Ticket, done: Callable[[int], None] = lambda n: None) -> list[Result]:
        """The results of the jobs of a ticket, in their order. Raises R1DistillError."""
        while len(ticket.results) < len(ticket.jobs):
            self._fill()
            self._collect()
            done(len(ticket.results))
        return [ticket.results[number] for number in range(len(ticket.jobs))]

    def _fill(self) -> None:
        """Start the workers that are worth it, and give each idle one a job."""
        under_way = [worker.job for worker in self._workers if worker.job is not None]
        wanted = math.ceil(sum(ticket.share for ticket, _ in (*self._urgent, *self._queue, *under_way)))
        while len(self._workers) < min(self.count, wanted):
            self._workers.append(_Worker())
        for worker in self._workers:
            place = self._next_for(worker) if worker.ready and worker.job is None else None
            if place is not None:
                queue, at = place
                with contextlib.suppress(
                    OSError
                ):  # it died while idle: `_collect` notes that, another one follows
                    worker.give(*queue[at])
                    self._waiting[worker.last] -= 1
                    del queue[at]

    def _next_for(self, worker: _Worker) -> tuple[deque[tuple[Ticket, int]], int] | None:
        """The place of the next job for a worker: the first that it is warm for, or that is worth warming up for."""
        fits: dict[tuple[str, bool], bool] = {}
        for queue in (self._urgent, self._queue):
            for at, (ticket, number) in enumerate(queue):
                kind = ticket.jobs[number].function, ticket.share >= 1
                if kind not in fits:
                    fits[kind] = self._fits(worker, *kind)
                if fits[kind]:
                    return queue, at
        return None

    def _fits(self, worker: _Worker, function: str, is_large: bool) -> bool:
        warm = [other for other in self._workers if function in other.warm]
        return worker in warm or not warm or is_large or self._waiting[function] >= WARM_UP_JOBS

    def _collect(self, longest_s: float = math.inf) -> None:
        """Wait for the next message, death or deadline, and note what it means."""
        by_pipe: dict[Connection, _Worker] = {worker.pipe: worker for worker in self._workers}
        busy = [worker.deadline for worker in self._workers if worker.job is not None or not worker.ready]
        left = min(busy, default=0.0)
        for pipe in wait(list(by_pipe), max(0.0, min(longest_s, left - time.monotonic()))):
            self._hear(by_pipe[pipe])  # type: ignore[index]
        for worker in list(self._workers):
            if (worker.job is not None or not worker.ready) and time.monotonic() > worker.deadline:
                self._lose(worker, timed_out=True)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._lose(worker)
            return
        if not worker.ready:
            worker.ready = True
        elif worker.job is not None:
            answer = msgspec.msgpack.decode(message)
            ticket, number = worker.job
            ticket.results[number] = Result(answer.get("value"), error=answer.get("error", ""))
            worker.job = None

    def _lose(self, worker: _Worker, timed_out: bool = False) -> None:
        """A worker is gone: its job gets a result, and the next round starts another worker."""
        self._workers.remove(worker)
        code = worker.end(patience_s=0 if timed_out else EXIT_S)
        if not worker.ready:
            raise R1DistillError(f"A worker process of {sys.executable} does not start ({_name(code)}).")
        self.killed += 1
        if worker.job is not None:
            timed_out = timed_out or code in (-signal.SIGPROF, -signal.SIGALRM)
            ticket, number = worker.job
            ticket.results[number] = Result(
                None, timed_out, "" if timed_out else f"error: worker ended ({_name(code)})"
            )


def _packed(message: list[Any]) -> bytes:
    """The message as bytes; half a surrogate pair, which no UTF-8 can say, becomes a question mark."""
    try:
        return msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        text = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        return msgspec.msgpack.encode(json.loads(text))


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
