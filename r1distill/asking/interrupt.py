"""Ctrl-C in an asking run, or a polite kill: the first one ends it gently, the second one at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a terminal sends, and what systemd, Slurm, docker stop and timeout send first."""


@contextmanager
def interruptible(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Inside the block SIGINT or SIGTERM calls `first`, and every further one `second`, instead of ending the process.

    Where signals can't be had (not the main thread, no such thing on this system) nothing changes.
    """
    calls = iter([first])
    loop = asyncio.get_running_loop()
    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, lambda: next(calls, second)())
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
