"""Measurements that wait for the log-probabilities beside the traces: noted while the traces are read, made in one pass after.

So the log-probabilities (far larger than the traces) are read once, only where a measurement is not known, some at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.queries import batched
from r1distill.records import Trace

LATE_BATCH = 32
"""Records of log-probabilities held at a time, and measured between two commits: one may be 10 MB."""


class Logprobs(NamedTuple):
    """The token log-probabilities that lie beside the traces."""

    known: Collection[str]
    """The ids of the traces that have some."""
    read: Callable[[Collection[str]], Iterator[tuple[str, TokenLogprobs]]]
    """Reads those of some ids, one after the other, in any order."""
    id_of: Callable[[Trace], str]
    """The id under which a trace's are kept."""


class Late(NamedTuple):
    """A measurement that waits."""

    number: int
    """Of the trace, as they came."""
    name: str
    """Of the check."""
    key: str
    trace_id: str


class LateOnes:
    """All measurements of a pass that wait, by the id under which the log-probabilities are kept."""

    def __init__(self, logprobs: Logprobs | None) -> None:
        self._logprobs = logprobs
        self._waiting: dict[str, list[Late]] = {}

    def note(self, late: Late, trace: Trace) -> None:
        """Remember it, if the trace has log-probabilities."""
        kept_as = "" if self._logprobs is None else self._logprobs.id_of(trace)
        if self._logprobs is not None and kept_as in self._logprobs.known:
            self._waiting.setdefault(kept_as, []).append(late)

    def count(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def read(self) -> Iterator[list[tuple[Late, TokenLogprobs]]]:
        """Those that wait, with their log-probabilities, some at a time."""
        if self._logprobs is None or not self._waiting:
            return
        for records in batched(self._logprobs.read(self._waiting.keys()), LATE_BATCH):
            yield [(late, record) for kept_as, record in records for late in self._waiting[kept_as]]
