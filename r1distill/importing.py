"""VERB import: take over the traces of another run, so that what was paid for there is not asked for again here; and those of
trace files that anybody wrote (import_files.py).

In: run folders (or their traces/part-*.jsonl files), files of any format. Out: traces/part-import-DIGEST.jsonl of this run, one
per source file, the rows byte for byte; failures that are final; log-probabilities (import_logprobs.py). Importing again adds
only what is new there. Shards of one harvest need no import: their files simply join when they are copied into one folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from r1distill.asking.owed import harvest_wanted
from r1distill.errors import InputError, R1DistillError, UsageError
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.import_files import (
    NO_FILES,
    FilesTaken,
    carry_prompts,
    holds_own_traces,
    open_files,
    take_files,
)
from r1distill.import_logprobs import copy_logprobs
from r1distill.import_summary import ImportSummary, lines
from r1distill.imported import is_imported
from r1distill.imported_problems import Kept, distinct, imported_problems, notes_of
from r1distill.importers.detect import chosen_formats
from r1distill.index import content_digest
from r1distill.ledger import Ledger, read_lines
from r1distill.path_names import as_text, shown
from r1distill.problems import ProblemSet
from r1distill.queries import batched
from r1distill.recipe import Recipe
from r1distill.records import AnswerKind, Failure, Trace, digest
from r1distill.run import Run
from r1distill.show import Show

CHUNK = 500
LISTED = 5
"""So many unreadable rows are named; the others are counted."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Source(msgspec.Struct, frozen=True):
    """One traces file of another run, and what lies around it."""

    traces: Path
    failures: list[Path]
    logprobs: Path | None
    """The folder of log-probabilities; one file of a run brings them."""


class Found:
    """What was found while importing."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Of traces (taken over), had, failures, logprob_files: as the summary has them."""
        self.slots: Counter[str] = Counter()
        """How many traces of each slot were taken over; without those that came from files of others."""
        self.from_files = 0
        self.problems = Kept()
        """What became of the problems of traces from files."""
        self.unreadable: list[str] = []
        self.unreadable_rows = 0

    def count(self, trace: Trace) -> None:
        """Count one that was taken over from a run of ours."""
        if is_imported(trace.slot, trace.id):
            self.from_files += 1
        else:
            self.slots[trace.slot] += 1

    def pass_over(self, place: str) -> None:
        """Count a row that is no trace."""
        self.unreadable_rows += 1
        if len(self.unreadable) < LISTED:
            self.unreadable.append(place)


def import_runs(
    places: list[Path],
    run: Run,
    recipe: Recipe | None = None,
    *,
    format: str | None = None,
    columns: dict[str, str] | None = None,
    dry_run: bool = False,
    show: Show | None = None,
) -> ImportSummary:
    """Take over the traces of `places`, which are runs of ours or files; with the `recipe` of `run` the summary tells how many
    of them it wants. The format of files is detected unless `format` names it or `columns` describes it.

    Raises InputError for what is no run and holds no trace, UsageError, LockedError, StorageError.
    """
    show = show or Show(0)
    chosen_formats(format, columns)  # a wrong name is said before anything is read
    theirs, ours = _parted(places, is_described=bool(format or columns))
    sources = [source for place in ours for source in _sources(place, run)]
    read = open_files(theirs, _kind(recipe), format, columns) if theirs else None
    found = Found()
    taken = _take_theirs(read, run, dry_run, found, show) if read is not None else NO_FILES
    for place in ours if not dry_run else ():
        found.problems += carry_prompts(place, run)
    for source in sources:
        _import(source, run, dry_run, found, show)
    if not dry_run and (found.counts["traces"] or found.problems.new):
        _settle(run, recipe)
    notes = [*taken.notes, *notes_of(found.problems, run)]
    summary = _summary(found, len(sources) + len(theirs), taken, _wanted(recipe, found.slots), notes, dry_run)
    for line in lines(summary):
        show.note(line)
    return summary


def _parted(places: list[Path], is_described: bool) -> tuple[list[Path], list[Path]]:
    """(files of others, runs and trace files of ours); when their format `is_described`, files are of others."""
    theirs = [place for place in places if place.is_file() and (is_described or not holds_own_traces(place))]
    return theirs, [place for place in places if place not in theirs]


def _kind(recipe: Recipe | None) -> AnswerKind:
    return recipe.prompts.answer_kind if recipe and recipe.prompts else "math"


def _take_theirs(read: TraceFiles, run: Run, dry_run: bool, found: Found, show: Show) -> FilesTaken:
    taken = take_files(read, run, dry_run=dry_run)
    found.counts.update(traces=taken.traces, had=taken.had)
    found.from_files = taken.traces
    found.problems += taken.problems
    _tell(show, ", ".join(map(shown, read.files)), taken.traces, taken.had, dry_run)
    return taken


def _settle(run: Run, recipe: Recipe | None) -> None:
    """Bring index and problems of the run up to what was taken over."""
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
    if recipe is not None:
        _save_problems(recipe, run)


def _summary(
    found: Found, files: int, taken: FilesTaken, wanted: int | None, notes: list[str], dry_run: bool
) -> ImportSummary:
    counts = found.counts
    return ImportSummary(
        files=files, traces=counts["traces"], had=counts["had"], failures=counts["failures"], wanted=wanted,
        logprob_files=counts["logprob_files"], unreadable=found.unreadable, unreadable_rows=found.unreadable_rows,
        from_files=found.from_files, skipped=taken.skipped, skipped_file=taken.skipped_file, notes=notes, dry_run=dry_run,
    )  # fmt: skip


def _tell(show: Show, where: str, new: int, had: int, dry_run: bool) -> None:
    verb = "to take" if dry_run else "taken"
    show.note(f"{where}: {new:,} traces {verb} over, {had:,} were there.")


def _save_problems(recipe: Recipe, run: Run) -> None:
    """The problems of the recipe, so that status and filter work before the first harvest; of a recipe without any, those that
    came with the traces.
    """
    with suppress(R1DistillError):
        if recipe.prompts is None:
            run.save_prompts(distinct(imported_problems(run.folder)))
        elif not (run.folder / "prompts.jsonl").exists():
            run.save_prompts(ProblemSet(recipe))
        else:
            return
        run.save_recipe(recipe)


def _wanted(recipe: Recipe | None, taken: Counter[str]) -> int | None:
    """How many of the traces taken over (slot -> count) the recipe asks for."""
    if recipe is None or not taken:
        return None if recipe is None else 0
    left = Counter(taken)
    try:
        return sum(left.pop(item.slot, 0) for item in harvest_wanted(recipe, ProblemSet(recipe)))
    except R1DistillError:  # a file of the recipe is gone: that is for the harvest to say
        return None


def _sources(place: Path, run: Run) -> list[Source]:
    if place.resolve() == run.folder.resolve():
        raise UsageError(f"{shown(place)} is the run to import into; name another one.")
    if place.is_file():
        return [Source(place, [], None)]
    found = sorted((place / "traces").glob("part-*.jsonl"))
    if not found:
        raise InputError(
            f"{shown(place)} is no run folder with traces (there is no traces/part-*.jsonl in it)."
        )
    failures = sorted(place.glob("failures*.jsonl"))
    first, *others = found
    return [Source(first, failures, place / "logprobs"), *(Source(path, [], None) for path in others)]


def _import(source: Source, run: Run, dry_run: bool, found: Found, show: Show) -> None:
    name = digest(as_text(source.traces.resolve()))[:12]
    counts = _import_traces(source.traces, run, name, dry_run, found)
    found.counts.update(counts)
    found.counts["failures"] += _import_failures(source.failures, run, name, dry_run)
    if source.logprobs:
        found.counts["logprob_files"] += copy_logprobs(source.logprobs, run, name, dry_run)
    _tell(show, shown(source.traces), counts["traces"], counts["had"], dry_run)


def _import_traces(path: Path, run: Run, name: str, dry_run: bool, found: Found) -> dict[str, int]:
    """Take over rows that this run does not hold; returns how many are new (`traces`) and how many were there (`had`)."""
    counts = {"traces": 0, "had": 0}
    taken: set[str] = set()
    with ExitStack() as stack:
        target = run.ledger_folder("traces") / f"part-import-{name}.jsonl"
        ledger = None if dry_run else stack.enter_context(Ledger(target))
        index = stack.enter_context(run.index(write=not dry_run))
        index.catch_up("traces", run.ledger_folder("traces"))
        for chunk in batched(_traces(path, found), CHUNK):
            have = index.contents("traces", [trace.id for trace, _ in chunk])
            for trace, line in chunk:
                mark = content_digest(line)
                is_new = mark not in have and mark not in taken
                counts["traces" if is_new else "had"] += 1
                taken.add(mark)
                if is_new:
                    found.count(trace)
                if is_new and ledger is not None:
                    ledger.append_line(line)
    return counts


def _traces(path: Path, found: Found) -> Iterator[tuple[Trace, bytes]]:
    decoder = msgspec.json.Decoder(Trace)
    for offset, line in read_lines(path):
        try:
            yield decoder.decode(line), line
        except UNREADABLE:
            found.pass_over(f"{shown(path)}: byte {offset}")


def _import_failures(paths: list[Path], run: Run, name: str, dry_run: bool) -> int:
    """Take over final failures of slots that this run does not know of."""
    decoder = msgspec.json.Decoder(Failure)
    with run.index(write=False) as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        known = index.final_failures("traces")
    rows: dict[str, bytes] = {}
    for path in paths:
        for _, line in read_lines(path):
            try:
                failure = decoder.decode(line)
            except UNREADABLE:
                continue
            if failure.final and failure.slot not in known:
                rows[failure.slot] = line
    if rows and not dry_run:
        with Ledger(run.folder / f"failures-import-{name}.jsonl") as ledger:
            for line in rows.values():
                ledger.append_line(line)
    return len(rows)
