"""The measuring half of the filter's engine: what every check measures on every trace, from the index where it is known.

In: batches of traces. Out: for each trace the measurements of all checks, as JSON, in the order of the checks. What is new is
in the index before it is handed on, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, cast

import msgspec

from r1distill.checks import begin
from r1distill.checks.ahead import Ahead, Begun, Posted, Raised, Wanted
from r1distill.checks.base import NO_LOGPROBS, UNMEASURED, Check, Job, Value
from r1distill.checks.keys import Reads, check_identity, measurement_key, trace_key
from r1distill.checks.values import as_json
from r1distill.checks.workers import Workers
from r1distill.filtering.decide import MARK, Fence
from r1distill.filtering.jobs import Jobs, Sent
from r1distill.filtering.judged import Source
from r1distill.filtering.late import Late, LateOnes, Logprobs
from r1distill.index import Index
from r1distill.queries import Made
from r1distill.records import Measurement, digest

SAVE_EVERY_S = 2.0
"""Seconds of measuring that a kill may cost (besides the measurement that is being made): within a batch, too."""
WITHOUT = msgspec.json.encode({UNMEASURED: NO_LOGPROBS})
Record = Callable[[Measurement], None]


class Batch(NamedTuple):
    """Some traces; the lists have a row for each trace and a column for each check."""

    first: int
    """How many traces come before its own."""
    sources: list[Source]
    keys: list[list[str]]
    found: list[list[bytes | None]]
    """The measurements; None: not there yet."""
    new: dict[tuple[int, int], Any]
    """By row and column: what is measured now and not in its place yet, as a Value, its JSON or the Job that makes it."""
    missing: list[tuple[int, int]]
    """Row and column of what is to be measured."""
    posted: Posted
    """What workers have to do with it."""


class Engine:
    """One pass over the traces; holds the memo of the workers' results and the counters.

    `record` gets every measurement that may be kept, known ones, too. With `dry_run` nothing is measured, only counted.
    """

    def __init__(
        self, checks: dict[str, Check], index: Index, pool: Workers, fence: Fence, logprobs: Logprobs | None = None,
        dry_run: bool = False, record: Record | None = None,
    ) -> None:  # fmt: skip
        self.measured = self.cached = 0
        self._checks, self._index, self._pool, self._fence, self._dry_run = (
            checks,
            index,
            pool,
            fence,
            dry_run,
        )
        self._columns = list(checks.items())
        self._any_late = any(check.wants_logprobs for check in checks.values())
        self._record = record
        self._identities = [digest(check_identity(check)) for check in checks.values()]
        self._reads = Reads(checks)
        self._jobs = Jobs(pool)
        self._late = LateOnes(logprobs)
        self._looked_at = 0
        """Traces of all batches so far."""
        self._begun: deque[tuple[Batch, list[Sent]]] = deque()
        """Batches of which nothing is missing but what jobs will bring."""
        self._saved_s = time.monotonic()

    def take_all(self, batches: Iterable[list[Source]]) -> Iterator[tuple[list[Source], list[list[bytes]]]]:
        """Each batch, with what every check measures on each of its traces, as JSON.

        While one batch is put in place, the workers measure the next ones and run the jobs of those between.
        """
        with Ahead([check for _, check in self._columns], self._pool) as ahead:
            under_way: deque[Batch] = deque()
            for sources in batches:
                under_way.append(self._looked_up(sources, ahead))
                if len(under_way) > ahead.batches:
                    self._begin_batch(under_way.popleft(), ahead)
                    yield from self._completed(ahead.batches)
            for batch in under_way:
                self._begin_batch(batch, ahead)
                yield from self._completed(ahead.batches)
            yield from self._completed(0)

    def _begin_batch(self, batch: Batch, ahead: Ahead) -> None:
        self._begin_missing(batch, ahead)
        self._begun.append((batch, self._jobs.post(batch.new)))
        self._put_in_place(batch)
        self._save_now_and_then()
        self._pool.tick()

    def _completed(self, most: int) -> Iterator[tuple[list[Source], list[list[bytes]]]]:
        """The batches whose jobs are done, in their order; at most so many others are left waiting."""
        while self._begun and (len(self._begun) > most or self._jobs.are_done(self._begun[0][1])):
            batch, jobs = self._begun[0]
            self._jobs.finish(batch.new, jobs, self._save_now_and_then)
            self._put_in_place(batch)
            self._begun.popleft()
            self._pool.tick()
            if self._record is not None and not self._dry_run:
                self._record_all(batch, self._record)
            yield batch.sources, cast("list[list[bytes]]", batch.found)

    def _save(self) -> None:
        """All that is measured of the batches under way goes into the index."""
        for batch, jobs in self._begun:
            self._jobs.put(batch.new, jobs)
            self._put_in_place(batch)
        self._saved_s = time.monotonic()

    def _looked_up(self, sources: list[Source], ahead: Ahead) -> Batch:
        """What is known of some traces; the rest is handed to the workers, as far as they can begin it."""
        known = self._index.measured([source.trace_id for source in sources])
        keys = [self._keys(source) for source in sources]
        batch = Batch(
            self._looked_at, sources, keys, [[known.get(key) for key in row] for row in keys], {}, [], []
        )
        self._looked_at += len(sources)
        batch.missing.extend(self._missing(batch))
        if ahead.batches and not self._dry_run:
            batch.posted.extend(ahead.post(_wanted(batch)))
        return batch

    def _keys(self, source: Source) -> list[str]:
        trace, reads = trace_key(source.trace_id, source.content), self._reads.of(source.order, source.prompt)
        return [
            measurement_key(*parts) for parts in zip(self._identities, repeat(trace), reads, strict=False)
        ]

    def _missing(self, batch: Batch) -> Iterator[tuple[int, int]]:
        """The places of what is not known, or not for good (only log-probabilities may come later)."""
        for row, found in enumerate(batch.found):
            if not self._any_late and None not in found:
                self.cached += len(found)
                continue
            for column, raw in enumerate(found):
                check = self._columns[column][1]
                late = check.wants_logprobs
                if raw is None or (late and not check.settled(msgspec.json.decode(raw))):
                    yield row, column
                else:
                    self.cached += 1

    def _begin_missing(self, batch: Batch, ahead: Ahead) -> None:
        """Begin all that is missing, row by row; the rows of a piece when the workers are through with it."""
        left = deque(batch.missing)
        for posted in batch.posted:
            self._begin_rows(batch, left, posted[1][-1].at, ahead.fetch([posted], self._save_now_and_then))
            self._pool.tick()
        self._begin_rows(batch, left, len(batch.sources), {})

    def _begin_rows(
        self, batch: Batch, left: deque[tuple[int, int]], last: int, begun: dict[tuple[int, int], Begun]
    ) -> None:
        """Begin what is `left` up to the row `last`; `begun`: what workers made of it."""
        while left and left[0][0] <= last:
            place = left.popleft()
            self._begin(batch, *place, begun.get(place))
            if self._is_time():
                self._put_in_place(batch)
                self._save()

    def _is_time(self) -> bool:
        """True when the last measurements went into the index long ago."""
        return time.monotonic() - self._saved_s >= SAVE_EVERY_S

    def _save_now_and_then(self) -> None:
        if self._is_time():
            self._save()

    def _begin(self, batch: Batch, row: int, column: int, begun: Begun | None) -> None:
        (name, check), source = self._columns[column], batch.sources[row]
        if check.wants_logprobs:
            batch.found[row][column] = WITHOUT
            late = Late(batch.first + row, name, batch.keys[row][column], source.trace_id)
            self._late.note(late, source.trace)
        else:
            self.measured += 1
            if isinstance(begun, Raised):
                batch.new[row, column] = self._fence.note(name, source.trace_id, *begun)
            elif begun is not None:
                batch.new[row, column] = begun
            elif not self._dry_run:
                batch.new[row, column] = self._begun_here(name, check, source)

    def _begun_here(self, name: str, check: Check, source: Source) -> bytes | Job:
        made = self._fence.call(name, source.trace_id, begin, check, source.prompt, source.trace)
        return made if isinstance(made, Job) else self._encoded(name, source.trace_id, made)

    def _put_in_place(self, batch: Batch) -> None:
        """New measurements become JSON and go into the index; jobs that are not done stay where they are."""
        fresh = []
        for (row, column), value in batch.new.items():
            if isinstance(value, Job):
                continue
            name, trace_id = self._columns[column][0], batch.sources[row].trace_id
            raw = value if isinstance(value, bytes) else self._encoded(name, trace_id, value)
            batch.found[row][column] = raw
            if _settled(self._checks[name], raw):
                fresh.append(Made(trace_id, batch.keys[row][column], raw))
        if fresh:
            self._index.store(fresh)
        for place in [place for place, value in batch.new.items() if not isinstance(value, Job)]:
            del batch.new[place]

    def _encoded(self, name: str, trace_id: str, value: Any) -> bytes:
        """A measurement as JSON; what is no JSON object becomes an error of its check."""
        raw = self._fence.call(name, trace_id, as_json, value)
        return raw if isinstance(raw, bytes) else msgspec.json.encode(raw)

    def _record_all(self, batch: Batch, record: Record) -> None:
        for source, keys, found in zip(batch.sources, batch.keys, batch.found, strict=True):
            for (name, check), key, raw in zip(self._columns, keys, found, strict=True):
                if raw is not None and raw is not WITHOUT and _settled(check, raw):
                    record(Measurement(key, source.trace_id, name, msgspec.json.decode(raw)))

    def take_late(self) -> Iterator[tuple[Late, bytes]]:
        """Read the log-probabilities that are still wanted, once; yield what is measured by them."""
        if self._dry_run:
            self.measured += self._late.count()
            return
        for group in self._late.read():
            done = [
                (late, self._encoded(late.name, late.trace_id, self._measured(late, record)))
                for late, record in group
            ]
            self.measured += len(done)
            self._keep([(late, raw) for late, raw in done if _settled(self._checks[late.name], raw)])
            yield from done

    def _measured(self, late: Late, record: Any) -> Value:
        check = self._checks[late.name]
        value: Value = self._fence.call(late.name, late.trace_id, check.measure_logprobs, record)
        return value

    def _keep(self, fresh: Sequence[tuple[Late, bytes]]) -> None:
        self._index.store(Made(late.trace_id, late.key, raw) for late, raw in fresh)
        for late, raw in fresh if self._record is not None else ():
            one = Measurement(late.key, late.trace_id, late.name, msgspec.json.decode(raw))
            cast("Record", self._record)(one)


def _settled(check: Check, raw: bytes) -> bool:
    """Whether a measurement is for good: only one that says why it could not be made may be asked of its check."""
    plain = MARK not in raw and type(check).settled is Check.settled
    return plain or check.settled(msgspec.json.decode(raw))


def _wanted(batch: Batch) -> Iterator[Wanted]:
    columns: dict[int, list[int]] = {}
    for row, column in batch.missing:
        columns.setdefault(row, []).append(column)
    for row, wanted in columns.items():
        source = batch.sources[row]
        yield Wanted(row, source.prompt, source.trace, wanted)
