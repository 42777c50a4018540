"""What a process and all that it started use right now, seen from outside by /proc (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

MAX_PROCESSES = 1000
"""So many are looked at; what has more is over every limit already."""


class Use(NamedTuple):
    """The use of a process tree."""

    tasks: int
    """Processes and threads."""
    memory_bytes: int
    """Resident memory; what two processes share counts twice."""
    cpu_s: float
    """CPU seconds of those that live and of those that they have waited for."""


def use_of(root: int) -> Use:
    """The use of the descendants of process `root`, without itself; nothing where the kernel doesn't list children."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    tasks = memory = seen = ticks = 0
    waiting = _children(root)
    while waiting and seen < MAX_PROCESSES:
        pid = waiting.pop()
        seen += 1
        waiting += _children(pid)
        tasks += len(_threads(pid))
        memory += page * int((_read(f"/proc/{pid}/statm").split() or ["0", "0"])[1])
        ticks += sum(int(field) for field in _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:15])
    return Use(tasks, memory, ticks / tick)


def _children(pid: int) -> list[int]:
    lists = (_read(f"/proc/{pid}/task/{thread}/children") for thread in _threads(pid))
    return [int(child) for text in lists for child in text.split()]


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names, not paths
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def tasks_of_user() -> int:
    """Processes and threads that the kernel counts for this user."""
    me = os.getuid()
    mine = (path for path in Path("/proc").glob("[0-9]*") if _owner(path) == me)
    return sum(len(_threads(int(path.name))) for path in mine)


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1
