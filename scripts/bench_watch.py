"""For benchmarks: the memory of a process and all below it, and tables as text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVERY_S = 0.05
"""Between two looks at the memory."""


class Watch(threading.Thread):
    """Looks at the memory of a process and its descendants: proportional set sizes, so that shared pages count once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_bytes, self.processes = pid, 0, 0
        self._over = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        while not self._over.wait(EVERY_S):
            sizes = [_pss_bytes(pid) for pid in _tree(self.pid)]
            self.peak_bytes, self.processes = (
                max(self.peak_bytes, sum(sizes)),
                max(self.processes, len(sizes)),
            )

    def stop(self) -> None:
        """End the watch."""
        self._over.set()
        self.join()


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it; Linux only."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return
    for child in children:
        yield from _tree(int(child))


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def table(name: str, rows: list[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> str:
    """The rows of one scenario as text; `columns` has heading and format by key, one that no row has is left out."""
    shown = {key: how for key, how in columns.items() if any(row.get(key) not in (None, "") for row in rows)}
    lines = [[name, *(heading for heading, _ in shown.values())]]
    for row in rows:
        cells = ["-" if row.get(key) is None else format(row[key], how) for key, (_, how) in shown.items()]
        lines.append([row["client"], *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [[cell.rjust(w) for cell, w in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join([line[0].strip().ljust(widths[0]), *line[1:]]).rstrip() for line in texts)
