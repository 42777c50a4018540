"""VERB import: take over the traces of another run, so that what was paid for there is not asked for again here; and those of
trace files that anybody wrote (import_files.py).

In: run folders (or their traces/part-*.jsonl files), files of any format. Out: traces/part-import-DIGEST.jsonl of this run, one
per source file, the rows byte for byte; failures that are final; log-probabilities, also those that a killed harvest left in
spools. Importing again adds only what is new there. Shards of one harvest need no import: their files simply join when they are
copied into one folder.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from r1distill.asking.owed import harvest_wanted
from r1distill.errors import InputError, R1DistillError, UsageError
from r1distill.import_files import NO_FILES, carry_prompts, holds_own_traces, open_files, take_files
from r1distill.imported import imported_prompts, is_imported
from r1distill.importers.detect import chosen_formats
from r1distill.index import content_digest
from r1distill.ledger import Ledger, read_lines, storage_errors, write_atomic
from r1distill.logprobs.spool import FILE_NAME, whole_frames
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


class ImportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    files: int
    traces: int
    """Taken over now."""
    had: int
    """In this run already."""
    failures: int
    """Final failures taken over: their slots are not asked again."""
    wanted: int | None
    """Of the traces taken over now, those that the recipe of this run asks for; None when that can't be told."""
    logprob_files: int
    """Files of log-probabilities taken over."""
    unreadable: list[str]
    """FILE: byte OFFSET of the first rows that are no traces; they stay where they are."""
    unreadable_rows: int
    """How many there are in all."""
    from_files: int = 0
    """Of the traces taken over now, those that files of others held: the filter of this run uses all of them."""
    skipped: int = 0
    """Rows of such files that are no traces."""
    skipped_file: str = ""
    """Where those are listed with file, line and reason."""
    notes: list[str] = []
    """What else is to be told of such files."""
    dry_run: bool = False


class Source(msgspec.Struct, frozen=True):
    """One traces file of another run, and what lies around it."""

    traces: Path
    failures: list[Path]
    logprobs: Path | None
    """The folder of log-probabilities; one file of a run brings them."""


class Found:
    """What was found while importing."""

    def __init__(self) -> None:
        self.slots: Counter[str] = Counter()
        """How many traces of each slot were taken over; without those that came from files of others."""
        self.from_files = 0
        self.unreadable: list[str] = []
        self.unreadable_rows = 0

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
    theirs = [
        place for place in places if place.is_file() and (format or columns or not holds_own_traces(place))
    ]
    ours = [place for place in places if place not in theirs]
    sources = [source for place in ours for source in _sources(place, run)]
    kind: AnswerKind = recipe.prompts.answer_kind if recipe and recipe.prompts else "math"
    read = open_files(theirs, kind, format, columns) if theirs else None
    total = {"traces": 0, "had": 0, "failures": 0, "logprob_files": 0}
    found = Found()
    taken = take_files(read, run, dry_run=dry_run) if read is not None else NO_FILES
    if theirs:
        total |= {"traces": taken.traces, "had": taken.had}
        found.from_files = taken.traces
        _tell(show, ", ".join(map(str, theirs)), taken.traces, taken.had, dry_run)
    for place in ours if not dry_run else ():
        carry_prompts(place, run)
    for source in sources:
        counts = _import(source, run, dry_run, found)
        for key, count in counts.items():
            total[key] += count
        _tell(show, str(source.traces), counts["traces"], counts["had"], dry_run)
    if not dry_run and total["traces"]:
        with run.index() as index:
            index.catch_up("traces", run.ledger_folder("traces"))
        if recipe is not None:
            _save_problems(recipe, run)
    summary = ImportSummary(
        files=len(sources) + len(theirs), wanted=_wanted(recipe, found.slots), unreadable=found.unreadable,
        unreadable_rows=found.unreadable_rows, from_files=found.from_files, skipped=taken.skipped,
        skipped_file=taken.skipped_file, notes=taken.notes, dry_run=dry_run, traces=total["traces"], had=total["had"],
        failures=total["failures"], logprob_files=total["logprob_files"],
    )  # fmt: skip
    for line in lines(summary):
        show.note(line)
    return summary


def _tell(show: Show, where: str, new: int, had: int, dry_run: bool) -> None:
    verb = "to take" if dry_run else "taken"
    show.note(f"{where}: {new:,} traces {verb} over, {had:,} were there.")


def _save_problems(recipe: Recipe, run: Run) -> None:
    """The problems of the recipe, so that status and filter work before the first harvest; of a recipe without any, those that
    came with the traces.
    """
    with suppress(R1DistillError):
        if recipe.prompts is None:
            run.save_prompts(list(imported_prompts(run.folder)))
        elif not (run.folder / "prompts.jsonl").exists():
            run.save_prompts(ProblemSet(recipe))
        else:
            return
        run.save_recipe(recipe)


def lines(summary: ImportSummary) -> list[str]:
    """What is to be told of an import beyond its files, as sentences."""
    told = list(summary.notes)
    told += [f"{place}: no trace of ours; left out." for place in summary.unreadable]
    if more := summary.unreadable_rows - len(summary.unreadable):
        told.append(f"... and {more:,} more rows that are no trace of ours.")
    own = summary.traces - summary.from_files
    if own and summary.wanted is not None:
        why = "" if summary.wanted else ": other teacher, model, template, problems or sampling"
        told.append(f"{summary.wanted:,} of these {own:,} traces are wanted by this recipe{why}.")
    if summary.from_files:
        told.append(f"{summary.from_files:,} traces come from files of others; filter uses all of them.")
    return told


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
        raise UsageError(f"{place} is the run to import into; name another one.")
    if place.is_file():
        return [Source(place, [], None)]
    found = sorted((place / "traces").glob("part-*.jsonl"))
    if not found:
        raise InputError(f"{place} is no run folder with traces (there is no traces/part-*.jsonl in it).")
    failures = sorted(place.glob("failures*.jsonl"))
    first, *others = found
    return [Source(first, failures, place / "logprobs"), *(Source(path, [], None) for path in others)]


def _import(source: Source, run: Run, dry_run: bool, found: Found) -> dict[str, int]:
    name = digest(str(source.traces.resolve()))[:12]
    counts = {"traces": 0, "had": 0}
    taken: set[str] = set()
    with ExitStack() as stack:
        target = run.ledger_folder("traces") / f"part-import-{name}.jsonl"
        ledger = None if dry_run else stack.enter_context(Ledger(target))
        index = stack.enter_context(run.index(write=not dry_run))
        index.catch_up("traces", run.ledger_folder("traces"))
        for chunk in batched(_traces(source.traces, found), CHUNK):
            have = index.contents("traces", [trace.id for trace, _ in chunk])
            for trace, line in chunk:
                mark = content_digest(line)
                is_new = mark not in have and mark not in taken
                counts["traces" if is_new else "had"] += 1
                taken.add(mark)
                if is_new and is_imported(trace.slot, trace.id):
                    found.from_files += 1
                elif is_new:
                    found.slots[trace.slot] += 1
                if is_new and ledger is not None:
                    ledger.append_line(line)
    counts["failures"] = _import_failures(source.failures, run, name, dry_run)
    counts["logprob_files"] = _import_logprobs(source.logprobs, run, name, dry_run) if source.logprobs else 0
    return counts


def _traces(path: Path, found: Found) -> Iterator[tuple[Trace, bytes]]:
    decoder = msgspec.json.Decoder(Trace)
    for offset, line in read_lines(path):
        try:
            yield decoder.decode(line), line
        except UNREADABLE:
            found.pass_over(f"{path}: byte {offset}")


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


def _import_logprobs(source: Path, run: Run, name: str, dry_run: bool) -> int:
    """Copy log-probabilities that are not there yet, under names by which readers find them; returns how many files.

    Current spools are read first and numbered files listed after: what a writer rotates meanwhile is then in one of both.
    """
    folder = run.folder / "logprobs"
    spools = {
        path.name: whole_frames(path) for path in sorted(source.glob("*.spool")) if not _number_of(path)
    }
    new = 0
    for stem in sorted({path.stem for path in source.glob("*") if _number_of(path)}):
        kinds = [f"{stem}.{kind}" for kind in ("spool", "parquet")]
        pairs = [(source / file, folder / f"import-{name}-{file}") for file in kinds]
        if not any(copy.exists() for _, copy in pairs):
            new += 1
            if not dry_run:
                _copy_first(pairs)
    for spool, frames in spools.items():
        copy = folder / f"import-{name}-{spool}"
        old = whole_frames(copy)
        if not old.endswith(frames):
            new += 1
            if not dry_run:  # a spool that has been emptied since keeps what was in it
                write_atomic(copy, frames if frames.startswith(old) else old + frames)
    return new


def _number_of(path: Path) -> str:
    """The number of a rotated spool or Parquet file; "" for other files."""
    match = FILE_NAME.fullmatch(path.name)
    return match["number"] if match else ""


def _copy_first(pairs: list[tuple[Path, Path]]) -> None:
    """Copy the first original that is there: a spool that its writer has converted meanwhile is a Parquet file now."""
    for original, copy in pairs:
        part = copy.with_name(copy.name + ".part")
        with storage_errors(copy), suppress(FileNotFoundError):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, part)
            part.replace(copy)
            return
