"""What a person sees: notes, tables and progress on stderr; nothing here decides anything.

Live bars when stderr is a terminal, plain lines every few seconds when it is not.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but tab and newline, line and paragraph separators, bidirectional controls, lone surrogates."""
PLAIN_EVERY_S = 5.0
"""Seconds between two plain progress lines when stderr is not a terminal."""
PIPED_COLUMNS = 400
"""Width of tables that go into a file or a pipe: their rows are not to be broken, but a cell without end is."""


class Show:
    """Writes for a person: level 0 errors only (-q), 1 normal, 2 details (-v).

    When nobody listens any more (a closed pipe, a terminal that is gone) it falls silent: showing must never end a
    run that is paid for.
    """

    def __init__(self, level: int = 1) -> None:
        self.level = level
        self._said: set[int] = set()

    def note(self, text: str, level: int = 1) -> None:
        """Print one line, if the level asks for it."""
        if self.level >= level:
            self._said.add(hash(text))
            self._print(plain(text))

    def note_once(self, text: str) -> None:
        """Print one line, unless the same was printed before: what is told live need not stand in the summary again."""
        if hash(text) not in self._said:
            self.note(text)

    def _print(self, text: str) -> None:
        with self._silenced_when_nobody_listens():
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place that prints for people

    @contextmanager
    def _silenced_when_nobody_listens(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            self.level = -1

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; every column but the first is aligned to the right when all its cells are numbers."""
        if self.level < 1 or not rows:
            return
        from rich import box
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            numeric = number > 0 and all(_is_number(str(row[number])) for row in rows)
            table.add_column(escape(plain(column)), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(plain(str(cell))) for cell in row))
        with self._silenced_when_nobody_listens():
            console = Console(stderr=True, width=None if sys.stderr.isatty() else PIPED_COLUMNS)
            with console.capture() as made:
                console.print(f"[bold]{escape(plain(title))}[/bold]", soft_wrap=True, highlight=False)
                console.print(table)
            lines = [line.rstrip() for line in made.get().splitlines()]
            self._print("\n".join(line for line in lines if line) + "\n")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Progress]:
        """A progress display for `total` steps, live or in plain lines."""
        progress: Progress
        if self.level < 1:
            progress = Progress(what, total, None)
        elif sys.stderr.isatty():
            progress = _LiveProgress(what, total, self)
        else:
            progress = Progress(what, total, self)
        with progress:
            yield progress


class Progress:
    """Plain lines: what, done of total, the detail text, time left by the rate so far."""

    def __init__(self, what: str, total: int, show: Show | None) -> None:
        self.what, self.total, self.show = what, total, show
        self.done = self.given_up = 0
        self.started = self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.show and self.done and self.done != self._shown:
            self.show.note(f"{self.what}: {self.done:,}/{self.total:,}")

    _shown = -1

    def update(self, done: int, detail: str = "", given_up: int = 0) -> None:
        """Say how far it is; cheap, prints only every PLAIN_EVERY_S. What was `given_up` is not done, nor will it be."""
        self.done, self.given_up = min(done, self.total), given_up
        now = time.monotonic()
        if self.show and now - self.printed >= PLAIN_EVERY_S:
            self.printed = now
            self._print(detail)

    def left_s(self) -> float | None:
        """Seconds left by the rate so far, or None."""
        spent = time.monotonic() - self.started
        return spent / self.done * max(0, self.total - self.done - self.given_up) if self.done else None

    def left(self) -> str:
        """'4 min 05 s left', or "" when nobody knows or nothing is left."""
        left_s = self.left_s()
        return f"{duration(left_s)} left" if left_s else ""

    def _print(self, detail: str) -> None:
        self._shown = self.done
        assert self.show is not None
        parts = (f"{self.what}: {self.done:,}/{self.total:,}", detail, self.left())
        self.show.note(", ".join(part for part in parts if part))


class _LiveProgress(Progress):
    """A rich bar with what is done and the time left; the detail text below it, on as many lines as it needs."""

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.padding import Padding
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        class WithDetail(Bar):
            def get_renderables(self) -> Iterator[Any]:
                yield self.make_tasks_table(self.tasks)
                for task in self.tasks:
                    if task.fields["detail"]:
                        yield Padding(Text(task.fields["detail"], style="dim"), (0, 0, 0, 2))

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
            TextColumn("{task.completed:,}/{task.total:,}"), TextColumn("{task.fields[left]}"),
        )  # fmt: skip
        self.bar: Any = WithDetail(*columns, console=Console(stderr=True), transient=False)
        self.bar.start()
        self.task = self.bar.add_task(self.what, total=self.total, detail="", left="")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError):
            self.bar.stop()

    def update(self, done: int, detail: str = "", given_up: int = 0) -> None:
        """Move the bar."""
        self.done, self.given_up = min(done, self.total), given_up
        with suppress(OSError, ValueError):
            self.bar.update(self.task, completed=self.done, detail=plain(detail), left=self.left())


def plain(text: str) -> str:
    """`text` without characters that steer a terminal: colours, cursor, the direction of writing."""
    return STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def duration(seconds: float | None) -> str:
    """Seconds for people: '7.3 s', '4 min 05 s', '2 h 10 min'."""
    if seconds is None:
        return "unknown time"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def dollars(cost_usd: float | None) -> str:
    """A cost for people; an unknown one is said to be unknown, never 0."""
    return "cost unknown" if cost_usd is None else f"${cost_usd:.4f}" if cost_usd < 1 else f"${cost_usd:,.2f}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: '1 batch', '2,000 answers'; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _is_number(text: str) -> bool:
    return (
        bool(text) and text.replace(",", "").rstrip("%$ s").replace(".", "", 1).lstrip("+-$").isdigit()
    ) or text in ("-", "")
