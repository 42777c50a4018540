"""A program that runs, seen from outside: what it has written so far, and whether it has had its share.

In: the process of a sandbox and the pipes that the program writes into. Out: why it was stopped, and what it wrote, read only up
to the limit.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from typing import Literal

from r1distill.sandbox.box import MIB, Box, Limits
from r1distill.sandbox.watch import use_of

Stop = Literal["", "timeout", "output limit", "memory limit", "process limit", "no start"]
START_S = 30.0
"""Seconds for the sandbox itself to stand."""
POLL_S, WATCH_S = 0.01, 0.05
"""Seconds between two looks at the process, and at what its tree uses."""
END_S = 5.0
"""Seconds for a supervisor to sweep."""
OWN_TASKS = 2
"""Processes of the sandbox itself that count like the program's: its first process and the sandbox's init."""


class Watched:
    """A running program: what it has written so far, and whether it has had its share."""

    def __init__(
        self,
        box: Box,
        process: subprocess.Popen[bytes],
        limits: Limits,
        wall_s: float,
        pipes: tuple[int, int],
    ):
        self.box, self.process, self.limits, self.wall_s = box, process, limits, wall_s
        self.output, self.reports = bytearray(), bytearray()
        self.into = dict(zip(pipes, (self.output, self.reports), strict=True))
        self.deadline = time.monotonic() + START_S
        self.look_at = time.monotonic() + WATCH_S
        self.cpu_s = 0.0
        self.selector = selectors.DefaultSelector()
        for pipe in pipes:
            os.set_blocking(pipe, False)
            self.selector.register(pipe, selectors.EVENT_READ)

    @property
    def started(self) -> bool:
        """Whether the program's own time is running."""
        return b"\n" in self.reports

    def until_end(self) -> Stop:
        """Wait for its end, or for a reason to stop it."""
        with self.selector:
            while self.process.poll() is None:
                was_started = self.started
                self._read()
                if self.started and not was_started:
                    self.deadline = time.monotonic() + self.wall_s
                if stop := self._over():
                    return stop
        return ""

    def _read(self) -> None:
        if not self.selector.get_map():  # nobody can write any more; select would not see the end
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(POLL_S)
            return
        for key, _ in self.selector.select(POLL_S):
            if not self._take(key.fd):
                self.selector.unregister(key.fd)

    def _take(self, pipe: int) -> bool:
        """Read what is there, in one piece of bounded size; False at the end."""
        try:
            piece = os.read(pipe, 65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.into[pipe] += piece
        return bool(piece)

    def drain(self) -> None:
        """What still stands in the pipes when all who could write are dead."""
        for pipe, into in self.into.items():
            size = -1
            while size < len(into) <= self.limits.output_bytes:
                size = len(into)
                self._take(pipe)

    def _over(self) -> Stop:
        """Which limit it is over."""
        now = time.monotonic()
        if max(len(self.output), len(self.reports)) > self.limits.output_bytes:
            return "output limit"
        if now > self.deadline:
            return "timeout" if self.started else "no start"
        if now < self.look_at:
            return ""
        self.look_at = now + WATCH_S
        use = use_of(self.process.pid)
        self.cpu_s = max(self.cpu_s, use.cpu_s)
        if use.memory_bytes > self.limits.memory_mb * MIB:
            return "memory limit"
        return "process limit" if use.tasks > self.limits.processes + 2 * OWN_TASKS else ""


def end(box: Box, process: subprocess.Popen[bytes]) -> None:
    """End the sandbox with all that is in it, and wait until it is gone."""
    if process.poll() is None and box.level == "limits":
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    if process.poll() is None:
        process.kill()  # what is inside dies with it: --die-with-parent, --kill-child
    process.wait()
