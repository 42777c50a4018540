"""The inside of a worker process: take a job from the socket, run it under kernel limits, send the result back.

Started by workers.py as `python -c`, so that no script of the user is imported again and nothing is inherited but
one socket. Two kernel timers guard each job: their signals keep the default action, so that they end the process
even inside a long C call, and even when the parent is gone.
"""

from __future__ import annotations

import functools
import importlib
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec

MEMORY_BYTES = 4 << 30
"""Address space of one worker; a job that wants more ends with "MemoryError"."""


def main(handle: int) -> None:
    """Serve jobs [function, args, cpu_s, wall_s] until the parent closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(name, signal.SIG_DFL)
    _limit_memory()
    with Connection(handle) as pipe:
        pipe.send_bytes(b"ready")
        while True:
            try:
                function, args, cpu_s, wall_s = msgspec.msgpack.decode(pipe.recv_bytes())
                pipe.send_bytes(msgspec.msgpack.encode(_answer(function, args, cpu_s, wall_s)))
            except (EOFError, OSError):
                return


def _answer(function: str, args: list[Any], cpu_s: float, wall_s: float) -> dict[str, Any]:
    try:
        call = _resolve(function)
        _timers(cpu_s, wall_s)
        try:
            found = call(*args)
            if not isinstance(found, dict):
                raise TypeError(f"a measurement is a dict, not {type(found).__name__}")
            return {"value": msgspec.to_builtins(found)}
        finally:
            _timers(0, 0)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the fence around one check on one trace
        return {"error": error_text(error)}


@functools.lru_cache(maxsize=64)
def _resolve(function: str) -> Callable[..., Any]:
    """The function by its dotted name, its module's `warm_up` done (it is not on the job's clock)."""
    module_name, _, name = function.partition(":")
    module = importlib.import_module(module_name)
    warm_up = getattr(module, "warm_up", None)
    if warm_up is not None:
        warm_up()
    found: Callable[..., Any] = getattr(module, name)
    return found


def _timers(cpu_s: float, wall_s: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wall_s)


def _limit_memory() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def error_text(error: BaseException) -> str:
    """A countable name for a check's error: its class only, since its text differs from trace to trace."""
    return f"error: {type(error).__name__}"
