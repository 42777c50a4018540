"""The measuring half of the filter's engine: what every check measures on every trace, from the index where it is known.

In: batches of traces. Out: for each trace the measurements of all checks, as JSON, in the order of the checks. What is new is
in the index before it is handed on, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from r1distill.checks import begin
from r1distill.checks.ahead import Ahead, Begun, Posted, Raised, Wanted
from r1distill.checks.base import NO_LOGPROBS, UNMEASURED, Check, Job, Value
from r1distill.checks.keys import Reads, check_identity, measurement_key
from r1distill.checks.workers import Result, Workers
from r1distill.filtering.decide import MARK, Fence
from r1distill.filtering.judged import Source
from r1distill.filtering.late import Late, LateOnes, Logprobs
from r1distill.index import Index
from r1distill.queries import Made
from r1distill.records import Measurement, digest

MEMO_ENTRIES = 200_000
"""Worker results kept for equal jobs (samples of one problem repeat the same wrong answers)."""
WITHOUT = msgspec.json.encode({UNMEASURED: NO_LOGPROBS})
Record = Callable[[Measurement], None]


class Batch(NamedTuple):
    """Some traces; all lists have a row for each trace and a column for each check."""

    sources: list[Source]
    keys: list[list[str]]
    found: list[list[bytes | None]]
    """The measurements; None: not there yet."""
    new: dict[tuple[int, int], Any]
    """By row and column: what is measured now, as a Value or as the Job that makes it."""
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
        self._memo: dict[tuple[Any, ...], Result] = {}
        self._late = LateOnes(logprobs)
        self._taken = 0

    def take_all(self, batches: Iterable[list[Source]]) -> Iterator[tuple[list[Source], list[list[bytes]]]]:
        """Each batch, with what every check measures on each of its traces, as JSON.

        While one batch is put in place, the workers measure the next ones.
        """
        with Ahead([check for _, check in self._columns], self._pool) as ahead:
            under_way: deque[Batch] = deque()
            for sources in batches:
                under_way.append(self._looked_up(sources, ahead))
                if len(under_way) > ahead.batches:
                    yield self._completed(under_way.popleft(), ahead)
            while under_way:
                yield self._completed(under_way.popleft(), ahead)

    def _completed(self, batch: Batch, ahead: Ahead) -> tuple[list[Source], list[list[bytes]]]:
        begun = ahead.fetch(batch.posted)
        for place in batch.missing:
            self._begin(batch, *place, begun.get(place))
        self._finish_jobs(batch.new)
        self._put_in_place(batch)
        self._taken += len(batch.sources)
        return batch.sources, cast("list[list[bytes]]", batch.found)

    def _looked_up(self, sources: list[Source], ahead: Ahead) -> Batch:
        """What is known of some traces; the rest is handed to the workers, as far as they can begin it."""
        known = self._index.measured([source.trace_id for source in sources])
        keys = [self._keys(source) for source in sources]
        batch = Batch(sources, keys, [[known.get(key) for key in row] for row in keys], {}, [], [])
        batch.missing.extend(self._missing(batch))
        if ahead.batches and not self._dry_run:
            batch.posted.extend(ahead.post(_wanted(batch)))
        return batch

    def _keys(self, source: Source) -> list[str]:
        trace_id, content = source.trace_id, source.content
        pairs = zip(self._identities, self._reads.of(source.order, source.prompt), strict=True)
        return [measurement_key(identity, trace_id, content, reads) for identity, reads in pairs]

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

    def _begin(self, batch: Batch, row: int, column: int, begun: Begun | None) -> None:
        (name, check), source = self._columns[column], batch.sources[row]
        if check.wants_logprobs:
            batch.found[row][column] = WITHOUT
            late = Late(self._taken + row, name, batch.keys[row][column], source.trace_id)
            self._late.note(late, source.trace)
        else:
            self.measured += 1
            if isinstance(begun, Raised):
                batch.new[row, column] = self._fence.note(name, source.trace_id, *begun)
            elif begun is not None:
                batch.new[row, column] = begun
            elif not self._dry_run:
                batch.new[row, column] = self._fence.call(
                    name, source.trace_id, begin, check, source.prompt, source.trace
                )

    def _finish_jobs(self, new: dict[tuple[int, int], Any]) -> None:
        """Run the jobs among the new measurements in workers, equal ones once, and put their results in place."""
        jobs = [(place, value, _memo_key(value)) for place, value in new.items() if isinstance(value, Job)]
        if len(self._memo) > MEMO_ENTRIES:
            self._memo.clear()
        still_open = {key: job for _, job, key in jobs if key not in self._memo}
        self._memo.update(zip(still_open, self._pool.run(list(still_open.values())), strict=True))
        for place, job, key in jobs:
            new[place] = _outcome(job, self._memo[key])

    def _put_in_place(self, batch: Batch) -> None:
        """New measurements become JSON and go into the index; everything goes to `record`."""
        fresh = []
        for (row, column), value in batch.new.items():
            name, trace_id = self._columns[column][0], batch.sources[row].trace_id
            raw = batch.found[row][column] = self._encoded(name, trace_id, value)
            if _settled(self._checks[name], raw):
                fresh.append(Made(trace_id, batch.keys[row][column], raw))
        if fresh:
            self._index.store(fresh)
        if self._record is not None and not self._dry_run:
            self._record_all(batch, self._record)

    def _encoded(self, name: str, trace_id: str, value: Any) -> bytes:
        """A measurement as JSON; what is no JSON object becomes an error of its check."""
        raw = self._fence.call(name, trace_id, _as_json, value)
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


def _as_json(value: Value | bytes) -> bytes:
    """A worker has encoded its own already."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict):
        raise TypeError(f"a measurement is a dict, not {type(value).__name__}")
    return msgspec.json.encode(value)


def _wanted(batch: Batch) -> Iterator[Wanted]:
    columns: dict[int, list[int]] = {}
    for row, column in batch.missing:
        columns.setdefault(row, []).append(column)
    for row, wanted in columns.items():
        source = batch.sources[row]
        yield Wanted(row, source.prompt, source.trace, wanted)


def _memo_key(job: Job) -> tuple[Any, ...]:
    """Equal jobs have equal keys; arguments of any JSON shape are compared by their text."""
    args = hashlib.sha256(repr(job.args).encode("utf-8", "replace")).digest()  # tests of programs may be long
    return job.function, args, job.timeout_s


def _outcome(job: Job, result: Result) -> Value:
    if result.value is not None:
        return {**job.base, **result.value}
    return {**job.base, UNMEASURED: "timeout" if result.timed_out else result.error}
