"""Measuring alone, in shards: several machines measure, one judges.

In: the traces of a filter run, those of shard i of n (by the hash of their problem's id). Out: measurements/part-i-of-n.jsonl
(records.Measurement, append-only, one writer), which every later filter of that folder takes into its index: so the work of
many machines is joined by copying these files together. A row that is there already is not written again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from r1distill.checks import build_checks
from r1distill.checks.base import Check
from r1distill.checks.judge import Judge
from r1distill.checks.own_faults import own_faults
from r1distill.filtering.chosen import Chosen, choose, run_sources
from r1distill.filtering.logprobs_beside import logprobs_for
from r1distill.filtering.measure import Count, Logprobs, Source, measure_all
from r1distill.filtering.plain_files import plain
from r1distill.filtering.sift import open_index, torn_notes
from r1distill.index import MEASUREMENTS, Index
from r1distill.ledger import Ledger, read_lines, storage_errors
from r1distill.path_names import as_text
from r1distill.recipe import Recipe
from r1distill.records import Measurement
from r1distill.run import Run
from r1distill.shards import Shard, in_shard
from r1distill.show import Show


class MeasureSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What measuring a shard comes to."""

    file: str
    """Where the measurements are; copy it into the folder measurements/ of the run that judges."""
    shard: str
    traces: int
    """Of this shard."""
    measured: int
    """Measurements made now (with dry_run: to be made)."""
    cached: int
    """Measurements that were known."""
    written: int = 0
    """Rows added to the file; it held the others already."""
    notes: list[str] = []
    dry_run: bool = False
    elapsed_s: float = 0.0


class _Job:
    """What is measured, and where to."""

    def __init__(
        self, folder: Path, checks: dict[str, Check], shard: Shard, workers: int | None, dry_run: bool, show: Show
    ) -> None:  # fmt: skip
        self.folder, self.shard, self.workers, self.dry_run, self.show = folder, shard, workers, dry_run, show
        # Judges have a ledger of their own: asking them costs money.
        self.checks = {name: check for name, check in checks.items() if not isinstance(check, Judge)}
        self.path = folder / MEASUREMENTS / f"part-{shard[0]}-of-{shard[1]}.jsonl"
        self._others = 0
        """Traces of other shards that were read on the way; a file must be read whole."""

    def do(
        self, sources: Iterable[Source], total: int, index: Index, logprobs: Logprobs | None
    ) -> MeasureSummary:
        started = time.monotonic()
        with ExitStack() as stack:
            ledger = None if self.dry_run else stack.enter_context(Ledger(self.path))
            part = Part(ledger, self.path)
            progress = stack.enter_context(
                self.show.progress("Reading" if self.dry_run else "Measuring", total)
            )
            found = measure_all(
                self._mine(sources), self.checks, index, part.add, self.workers,
                lambda done: progress.update(done + self._others), self.dry_run, logprobs,
            )  # fmt: skip
            progress.update(total)  # of a file these are lines, and not each of them is a trace
        return self._told(self._summary(found, part.written, started, torn_notes(index)))

    def _mine(self, sources: Iterable[Source]) -> Iterator[Source]:
        for source in sources:
            if in_shard(source.prompt.id, self.shard):
                yield source
            else:
                self._others += 1

    def _summary(self, found: Count, written: int, started: float, torn: list[str]) -> MeasureSummary:
        notes = [f"The check {name} raised an error: {text}" for name, text in found.errors.items()] + torn
        return MeasureSummary(
            file=as_text(self.path), shard=f"{self.shard[0]}/{self.shard[1]}", traces=found.traces, measured=found.measured,
            cached=found.cached, written=written, notes=notes, dry_run=self.dry_run,
            elapsed_s=round(time.monotonic() - started, 3),
        )  # fmt: skip

    def _told(self, summary: MeasureSummary) -> MeasureSummary:
        for note in summary.notes:
            self.show.note(note)
        begun = "Would measure" if summary.dry_run else "Measured"
        made = "measurements to make" if summary.dry_run else "measurements made"
        self.show.note(
            f"{begun} shard {summary.shard}, {summary.traces:,} traces: {summary.measured:,} {made}, "
            f"{summary.cached:,} known already ({summary.file})."
        )
        return summary


class Part:
    """The measurements in one file: what is there already, and what is added."""

    def __init__(self, ledger: Ledger | None, path: Path) -> None:
        self.written = 0
        self._ledger = ledger
        self._there = set(_held(path)) if path.exists() else set()

    def add(self, measurement: Measurement) -> None:
        """Append it, unless the file has it."""
        name = hash((measurement.trace_id, measurement.key))
        if self._ledger is not None and name not in self._there:
            self._ledger.append(measurement)
            self._there.add(name)
            self.written += 1


class _Named(msgspec.Struct):
    trace_id: str
    key: str


def _held(path: Path) -> Iterator[int]:
    """A number for each measurement in a file (of 64 bits: two that share one would cost one measuring)."""
    decoder = msgspec.json.Decoder(_Named)
    for _, line in read_lines(path):
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        yield hash((row.trace_id, row.key))


@own_faults()
def measure_run(
    recipe: Recipe, run: Run, shard: Shard = (1, 1), *, dry_run: bool = False, show: Show | None = None
) -> MeasureSummary:
    """Measure the traces of a run that today's filter would judge. Raises InputError when there is none, LockedError."""
    job = _Job(
        run.folder, build_checks(recipe.filter.checks, recipe.folder), shard, recipe.filter.workers, dry_run,
        show or Show(0),
    )  # fmt: skip
    with open_index(run.folder, dry_run) as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        chosen = _share(choose(recipe, run, index), shard)
        logprobs = logprobs_for(job.checks, [run.folder / "logprobs"], lambda trace: trace.id)
        return job.do(run_sources(run, chosen), len(chosen.refs), index, logprobs)


def _share(chosen: Chosen, shard: Shard) -> Chosen:
    """The traces of a shard, so that those of others are not even read."""
    refs = [(ref, order) for ref, order in chosen.refs if in_shard(chosen.prompts[order].id, shard)]
    return chosen._replace(refs=refs)


@own_faults()
def measure_files(
    files: list[Path], to: Path, recipe: Recipe | None = None, shard: Shard = (1, 1), *, format: str | None = None,
    columns: dict[str, str] | None = None, dry_run: bool = False, show: Show | None = None,
) -> MeasureSummary:  # fmt: skip
    """Measure plain trace files; the measurements go to TO/measurements. Raises InputError, LockedError."""
    material = plain(files, recipe, format, columns)
    job = _Job(to, material.checks, shard, material.section.workers, dry_run, show or Show(0))
    traces = material.reader()
    traces.fingerprints()
    if not dry_run:
        with storage_errors(to):
            to.mkdir(parents=True, exist_ok=True)  # without it the index would forget what is measured
    with open_index(to, dry_run) as index:
        return job.do(traces.sources(), traces.lines, index, material.logprobs)
