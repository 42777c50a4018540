"""Ctrl-C in an asking run: the first one ends it gently, the second one at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Inside the block SIGINT calls `first`, and every further one `second`, instead of raising KeyboardInterrupt.

    Where signals can't be had (not the main thread, no such thing on this system) nothing changes.
    """
    calls = iter([first])
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, lambda: next(calls, second)())
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
