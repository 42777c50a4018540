"""Measure every trace once, judge as often as wanted: the engine of the filter.

In: rows (problem, trace, where its line stands), checks, the index with what was measured before. Out: compact
rows with a judgement from every check, ordered by problem and sample. A measurement is cached under a key that
names all it depends on, so a changed threshold re-measures nothing, and a corrected reference only its traces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

from r1distill.checks.base import UNMEASURED, Check
from r1distill.checks.workers import Workers
from r1distill.filtering.decide import Decider, Fence
from r1distill.filtering.judged import Judged, Place, Source
from r1distill.filtering.late import Logprobs
from r1distill.filtering.measuring import Engine, Record
from r1distill.index import Index
from r1distill.queries import batched

__all__ = [
    "UNMEASURED",
    "Judged",
    "Logprobs",
    "Measured",
    "Place",
    "Source",
    "measure_all",
    "measure_and_judge",
]

TICK_EVERY = 25
"""Traces that are read (some 3 ms) between two looks at the workers."""
BATCH = 500
"""Traces that are measured between two commits: at most so many are measured again after a kill."""


class Measured(NamedTuple):
    """All traces, judged, in order."""

    rows: list[Judged]
    measured: int
    """Measurements made now."""
    cached: int
    """Measurements found in the index."""
    errors: dict[str, str]
    """By check: the first error that it raised, with the trace, for the person who writes the check."""


class Count(NamedTuple):
    """What measuring alone comes to."""

    traces: int
    measured: int
    """Measurements made now."""
    cached: int
    """Measurements that were known."""
    errors: dict[str, str]
    """As in Measured."""


def measure_and_judge(
    rows: Iterable[Source], checks: dict[str, Check], index: Index, workers: Workers | int | None = None,
    progress: Callable[[int], None] = lambda done: None, dry_run: bool = False, keep: Collection[str] = (),
    logprobs: Logprobs | None = None,
) -> Measured:  # fmt: skip
    """Measure what is not in the index yet, then judge everything. `dry_run` only counts, and judges nothing.

    The measurements of the checks named in `keep` stay in the rows' `values`; all others are let go. `workers`: how many, or
    those that are there and stay.
    """
    fence, teachers = Fence(), dict[str, str]()
    decider = Decider(checks, keep, fence)
    with nullcontext(workers) if isinstance(workers, Workers) else Workers(workers) as pool:
        engine = Engine(checks, index, pool, fence, logprobs, dry_run)
        for batch, found in engine.take_all(batched(_ticking(rows, pool), BATCH)):
            for source, raws in zip(batch, found, strict=True):
                row = Judged(source, teachers.setdefault(source.about.teacher, source.about.teacher))
                if dry_run:
                    decider.rows.append(row)
                else:
                    decider.add(row, raws)
            progress(len(decider.rows))
        for late, raw in engine.take_late():
            decider.replace(decider.rows[late.number], late.name, raw)
    judged = decider.rows if dry_run else decider.finish()
    return Measured(judged, engine.measured, engine.cached, fence.errors)


def measure_all(
    rows: Iterable[Source], checks: dict[str, Check], index: Index, record: Record | None = None,
    workers: int | None = None, progress: Callable[[int], None] = lambda done: None, dry_run: bool = False,
    logprobs: Logprobs | None = None,
) -> Count:  # fmt: skip
    """Measure what is not in the index yet, and judge nothing; `record` gets every measurement, known ones, too."""
    fence, done = Fence(), 0
    with Workers(workers) as pool:
        engine = Engine(checks, index, pool, fence, logprobs, dry_run, record)
        for batch, _ in engine.take_all(batched(_ticking(rows, pool), BATCH)):
            done += len(batch)
            progress(done)
        for _ in engine.take_late():
            pass
    return Count(done, engine.measured, engine.cached, fence.errors)


def _ticking(rows: Iterable[Source], pool: Workers) -> Iterator[Source]:
    """The rows, with a look at the workers now and then, who should not wait for the next ones to be read."""
    for number, row in enumerate(rows):
        if number % TICK_EVERY == 0:
            pool.tick()
        yield row
