"""What a run has spent and may still spend: reservations on disk before each request, so that a budget holds over kill -9.

An answer's cost stands in its trace row. This ledger holds the rest: `reserve` rows, written before a request is sent, with
the most that it can cost; `lost` rows for what attempts without a usable answer cost, or may have cost; `free` rows that
close a reservation for which nothing was paid. A reservation is closed by the trace of the same id, so that storing an
answer and accounting for it are one write. One that is still open when a harvest starts was under way at a kill: it counts
as spent in full.

Each part of a sharded harvest has a spending file of its own, and the n-th part of what is left of the budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from r1distill.ledger import Ledger, read_lines

LOOKED_UP = 2_000
"""Rows between two looks at which reservations have got their trace."""
FILES = re.compile(r"spending-(\d+)-of-(\d+)\.jsonl|spending-batch\.jsonl")


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of a spending file: exactly one of the three ids is set, to a trace id."""

    usd: float
    reserve: str = ""
    lost: str = ""
    free: str = ""
    why: str = ""
    """Error class of a lost attempt."""
    maybe: bool = False
    """Nobody here knows whether it was billed: `usd` is its worst case."""


class Book(NamedTuple):
    """What one spending file adds up to."""

    lost_usd: float
    """Paid, or maybe paid, for attempts that gave no trace."""
    maybe_usd: float
    """Of that, what nobody here knows: requests that broke off, or were under way at a kill, at their worst case."""
    open: dict[str, float]
    """Reservations without an end and without a trace: USD by trace id."""


def read_book(path: Path, answered: Callable[[Iterable[str]], set[str]] = lambda ids: set()) -> Book:
    """Add up one spending file; one that is not there is empty. `answered` tells which trace ids have a trace.

    Only reservations that are still open are held, and as many more as are looked up at a time.
    """
    lost, maybe, reserved = 0.0, 0.0, dict[str, float]()
    decoder = msgspec.json.Decoder(Row)
    for number, (_, line) in enumerate(read_lines(path) if path.exists() else ()):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            row = decoder.decode(line)
            lost += row.usd if row.lost else 0.0
            maybe += row.usd if row.lost and row.maybe else 0.0
            if row.reserve:
                reserved[row.reserve] = row.usd
            elif row.free or row.lost:
                reserved.pop(row.free or row.lost, None)
        if number % LOOKED_UP == 0:
            _close(reserved, answered)
    _close(reserved, answered)
    return Book(lost, maybe, reserved)


def _close(reserved: dict[str, float], answered: Callable[[Iterable[str]], set[str]]) -> None:
    for trace_id in answered(list(reserved)) if reserved else ():
        del reserved[trace_id]


def spending_file(run_folder: Path, shard: tuple[int, int]) -> Path:
    """Where part i of n accounts for its spending."""
    return run_folder / f"spending-{shard[0]}-of-{shard[1]}.jsonl"


def spending_files(run_folder: Path) -> list[Path]:
    """All spending files of a run."""
    return sorted(path for path in run_folder.glob("spending-*.jsonl") if FILES.fullmatch(path.name))


def parts_of(path: Path) -> int | None:
    """Into how many parts the harvest was split that wrote this spending or traces file; None for a batch."""
    found = re.search(r"-\d+-of-(\d+)\.jsonl$", path.name)
    return int(found[1]) if found else None


class Spending:
    """The account of one asking process over its open spending ledger."""

    def __init__(self, ledger: Ledger | None, limit_usd: float | None, spent_usd: float = 0.0) -> None:
        self.ledger, self.limit_usd = ledger, limit_usd
        """`limit_usd`: what this process may have spent in the end, with what was spent before; None: no budget."""
        self.spent_usd = spent_usd
        """Certainly or possibly paid, earlier harvests of this part included."""
        self.reserved_usd = 0.0
        """The most that the requests under way can cost."""
        self.lost_usd = 0.0
        """Of this process: paid, or maybe paid, for attempts without a usable answer."""
        self.maybe_usd = 0.0
        """Of that, at their worst case since nobody here knows."""
        self._open: dict[str, float] = {}

    def close_left_over(self, reserved: dict[str, float]) -> float:
        """Account for reservations that a kill left open (those with a trace are none): they count as spent.

        Returns the USD that so many requests under way may have cost.
        """
        for trace_id, usd in reserved.items():
            self._write(Row(usd, lost=trace_id, why="killed", maybe=True))
        return sum(reserved.values())

    def fits(self, usd: float) -> bool:
        """True when a request that may cost so much stays within the budget."""
        return self.limit_usd is None or self.spent_usd + self.reserved_usd + usd <= self.limit_usd + 1e-9

    def reserve(self, trace_id: str, usd: float) -> None:
        """Set money aside before a request is sent; nothing is written without a budget. A second call changes nothing."""
        if self.limit_usd is None or trace_id in self._open:
            return
        self._write(Row(usd, reserve=trace_id))
        self._open[trace_id] = usd
        self.reserved_usd += usd

    def holds(self, trace_id: str) -> bool:
        """True while money is set aside for this request."""
        return trace_id in self._open

    def paid(self, trace_id: str, usd: float | None) -> None:
        """The trace is in its ledger; without a known cost the reservation counts as spent."""
        reserved = self._take(trace_id)
        if usd is None and reserved:
            self._write(Row(reserved, lost=trace_id, why="cost unknown", maybe=True))
        self.spent_usd += reserved if usd is None else usd

    def wasted(self, trace_id: str, usd: float | None, why: str) -> None:
        """An attempt gave nothing usable but was, or may have been, paid for: `usd`, or all that was reserved if None."""
        reserved = self._take(trace_id)
        cost = reserved if usd is None else usd
        if cost > 0 or reserved:
            self._write(Row(cost, lost=trace_id, why=why, maybe=usd is None))
        self.spent_usd += cost
        self.lost_usd += cost
        self.maybe_usd += cost if usd is None else 0.0

    def released(self, trace_id: str) -> None:
        """The request was given up and nothing was paid."""
        if self._take(trace_id):
            self._write(Row(0.0, free=trace_id))

    def sync(self) -> None:
        """Fsync what was written (see Ledger.sync)."""
        if self.ledger is not None:
            self.ledger.sync()

    def _take(self, trace_id: str) -> float:
        usd = self._open.pop(trace_id, 0.0)
        self.reserved_usd = max(0.0, self.reserved_usd - usd) if self._open else 0.0
        return usd

    def _write(self, row: Row) -> None:
        if self.ledger is not None:
            self.ledger.append(row)
