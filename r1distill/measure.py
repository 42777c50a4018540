"""Measure every trace once, judge as often as wanted: the engine of the filter.

In: rows (problem, trace, where its line stands), checks, the index with what was measured before. Out: compact
rows with a judgement from every check, ordered by problem and sample. A measurement is cached under a key that
names all it depends on, so a changed threshold re-measures nothing, and a corrected reference only its traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

from r1distill.checks import begin
from r1distill.checks.base import Check, Job, Judgement, Row, Value, unjudged
from r1distill.checks.keys import check_identity, measurement_key
from r1distill.checks.worker import error_text
from r1distill.checks.workers import Result, Workers
from r1distill.index import Index
from r1distill.queries import batched
from r1distill.records import Measurement, Prompt, Trace, digest

BATCH = 500
"""Traces that are measured between two commits: at most so many are measured again after a kill."""
MEMO_ENTRIES = 200_000
"""Worker results kept for equal jobs (samples of one problem repeat the same wrong answers)."""
UNMEASURED = "unmeasured"
"""The one key of a measurement that could not be made: the reason."""


class Place(NamedTuple):
    """Where a trace's line stands."""

    file: int
    """Number of the file in the source's list."""
    offset: int
    length: int


class Source(NamedTuple):
    """One trace on its way to the checks."""

    order: int
    """Number of its problem in the set; one number, one problem."""
    prompt: Prompt
    trace: Trace
    place: Place
    content: str
    """`content_digest` of its line."""


class Judged:
    """The compact row of one trace: its keys, and what each check says (or has measured, until it is judged)."""

    __slots__ = (
        "chars",
        "judgements",
        "order",
        "place",
        "prompt_id",
        "sample",
        "teacher",
        "trace_id",
        "values",
    )

    def __init__(self, source: Source) -> None:
        trace = source.trace
        self.order, self.place = source.order, source.place
        self.trace_id, self.prompt_id, self.sample, self.teacher = (
            trace.id,
            source.prompt.id,
            trace.sample,
            trace.teacher,
        )
        self.chars = len(trace.reasoning) + len(trace.answer)
        self.judgements: dict[str, Judgement] = {}
        self.values: dict[str, Value] = {}

    @property
    def position(self) -> tuple[int, int, str, str]:
        """The order of the set: problem, sample, teacher, id."""
        return self.order, self.sample, self.teacher, self.trace_id


class Measured(NamedTuple):
    """All traces, judged, in order."""

    rows: list[Judged]
    measured: int
    """Measurements made now."""
    cached: int
    """Measurements found in the index."""
    errors: dict[str, str]
    """By check: the first error that it raised, with the trace, for the person who writes the check."""


def measure_and_judge(
    rows: Iterable[Source], checks: dict[str, Check], index: Index, workers: int | None = None,
    progress: Callable[[int], None] = lambda done: None, dry_run: bool = False,
) -> Measured:  # fmt: skip
    """Measure what is not in the index yet, then judge everything. `dry_run` only counts, and judges nothing."""
    with Workers(workers) as pool:
        engine = Engine(checks, index, pool, dry_run)
        for batch in batched(rows, BATCH):
            engine.take(batch)
            progress(len(engine.rows))
    if not dry_run:
        engine.judge_sets()
    return Measured(engine.rows, engine.measured, engine.cached, engine.errors)


class Engine:
    """One pass over the traces; holds the compact rows, the memo and the counters."""

    def __init__(self, checks: dict[str, Check], index: Index, pool: Workers, dry_run: bool) -> None:
        self.checks, self.index, self.pool, self.dry_run = checks, index, pool, dry_run
        self.rows: list[Judged] = []
        self.measured = self.cached = 0
        self.errors: dict[str, str] = {}
        self._identity = {name: digest(check_identity(check)) for name, check in checks.items()}
        compared = {name for name, check in checks.items() if check.compares()}
        self._kept_values = compared | {needed for name in compared for needed in checks[name].needs}
        self._reads: dict[int, dict[str, str]] = {}
        self._memo: dict[tuple[Any, ...], Result] = {}
        self._judged: dict[tuple[str, Judgement], Judgement] = {}

    def take(self, batch: list[Source]) -> None:
        """Measure and judge one batch of traces."""
        keys = [[self._key(name, source) for name in self.checks] for source in batch]
        known = self.index.measurements(key for row in keys for key in row)
        self.cached += len(known)
        values: list[dict[str, Value | Job]] = []
        for source, row in zip(batch, keys, strict=True):
            named = zip(self.checks, row, strict=True)
            values.append(
                {name: known[key] if key in known else self._begin(name, source) for name, key in named}
            )
        self._finish_jobs(values)
        if not self.dry_run:
            self.index.store(self._fresh(batch, keys, values, known))
        self.rows += [self._row(source, found) for source, found in zip(batch, values, strict=True)]

    def _key(self, name: str, source: Source) -> str:
        reads = self._reads.setdefault(source.order, {})
        if name not in reads:
            reads[name] = digest(self.checks[name].reads(source.prompt))
        return measurement_key(self._identity[name], source.trace.id, source.content, reads[name])

    def _begin(self, name: str, source: Source) -> Value | Job:
        self.measured += 1
        if self.dry_run:
            return {}
        check = self.checks[name]
        found = self._fenced(name, source.trace.id, lambda: begin(check, source.prompt, source.trace))
        return cast("Value | Job", found)

    def _fenced(self, name: str, trace_id: str, call: Callable[[], Any]) -> Any:
        """The fence around one check on one trace: an error becomes UNJUDGED, the run goes on."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the fence
            self.errors.setdefault(name, f"{type(error).__name__}: {error} (trace {trace_id})")
            return {UNMEASURED: error_text(error)}

    def _finish_jobs(self, values: list[dict[str, Value | Job]]) -> None:
        """Run the jobs among `values` in workers, equal ones once, and put their results in place."""
        places = [
            (row, name, value) for row in values for name, value in row.items() if isinstance(value, Job)
        ]
        new = {_memo_key(job): job for _, _, job in places if _memo_key(job) not in self._memo}
        if len(self._memo) > MEMO_ENTRIES:
            self._memo.clear()
            new = {_memo_key(job): job for _, _, job in places}
        self._memo.update(zip(new, self.pool.run(list(new.values())), strict=True))
        for row, name, job in places:
            row[name] = _outcome(job, self._memo[_memo_key(job)])

    def _fresh(
        self,
        batch: list[Source],
        keys: list[list[str]],
        values: list[dict[str, Any]],
        known: dict[str, Value],
    ) -> Iterator[Measurement]:
        """What is worth caching: all new measurements but errors, which may be gone the next time."""
        for source, row, found in zip(batch, keys, values, strict=True):
            for (name, value), key in zip(found.items(), row, strict=True):
                if key not in known and not str(value.get(UNMEASURED, "")).startswith("error"):
                    yield Measurement(key, source.trace.id, name, value)

    def _row(self, source: Source, values: dict[str, Any]) -> Judged:
        row = Judged(source)
        if self.dry_run:
            return row
        for name, check in self.checks.items():
            value = values[name]
            if name in self._kept_values:
                row.values[name] = value
            if UNMEASURED in value:
                row.judgements[name] = unjudged(value[UNMEASURED])
            elif not check.compares():
                row.judgements[name] = self._shared(name, self._judge(name, check, value, row.trace_id))
        return row

    def _judge(self, name: str, check: Check, value: Value, trace_id: str) -> Judgement:
        found = self._fenced(name, trace_id, lambda: check.judge(value))
        return found if isinstance(found, Judgement) else unjudged(str(found[UNMEASURED]))

    def _shared(self, name: str, judgement: Judgement) -> Judgement:
        """One object for equal judgements: most rows of a large set say the same few things."""
        if len(self._judged) > 10_000:
            self._judged.clear()
        return self._judged.setdefault((name, judgement), judgement)

    def judge_sets(self) -> None:
        """Order the rows, and let the checks that compare traces judge the whole set."""
        self.rows.sort(key=lambda row: row.position)
        for name, check in self.checks.items():
            if check.compares():
                self._judge_set(name, check)
        for row in self.rows:
            row.judgements = {name: row.judgements[name] for name in self.checks}
            row.values = {}

    def _judge_set(self, name: str, check: Check) -> None:
        wanted = (name, *check.needs)
        able = [row for row in self.rows if not any(UNMEASURED in row.values[w] for w in wanted)]
        view = [
            Row(r.trace_id, r.prompt_id, r.order, r.teacher, r.sample, {w: r.values[w] for w in wanted})
            for r in able
        ]
        found = self._fenced(name, "all", lambda: check.judge_all(view, name))
        if isinstance(found, dict) or len(found) != len(able):
            reason = found[UNMEASURED] if isinstance(found, dict) else "error: one judgement per row wanted"
            found = [unjudged(reason)] * len(able)
        for row, judgement in zip(able, found, strict=True):
            row.judgements[name] = self._shared(name, judgement)
        for row in self.rows:
            row.judgements.setdefault(name, unjudged("a needed measurement is missing"))


def _memo_key(job: Job) -> tuple[Any, ...]:
    """Equal jobs have equal keys; arguments of any JSON shape are compared by their text."""
    return job.function, repr(job.args), job.timeout_s


def _outcome(job: Job, result: Result) -> Value:
    if result.value is not None:
        return {**job.base, **result.value}
    return {**job.base, UNMEASURED: "timeout" if result.timed_out else result.error}
