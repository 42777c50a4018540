"""Trace files of others -> a run folder, so that its filter, report and training use them like harvested ones.

In: files of any format (importers/). Out: traces/part-files-DIGEST.jsonl with a row of ours for each trace, the problems in
prompts-files-DIGEST.jsonl, and rows that are no traces in skipped-files-DIGEST.jsonl (file, line, reason). Importing the same
file again adds nothing. Rows of ours that must be unpacked first are taken over as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from r1distill.filtering.few_collections import few_collections
from r1distill.filtering.tracefiles import Taken, TraceFiles
from r1distill.imported import imported_prompts, imported_slot, run_folder_of
from r1distill.imported_problems import Kept, imported_id, keep_prompts
from r1distill.importers import Detector
from r1distill.importers.fields import read_row
from r1distill.importers.readers import lines_of
from r1distill.index import Index, content_digest
from r1distill.ledger import Ledger, write_atomic
from r1distill.path_names import as_text
from r1distill.queries import batched
from r1distill.records import AnswerKind, Prompt, Trace, digest
from r1distill.run import Run

CHUNK = 500
SEVERAL_TURNS = (
    "a conversation of several turns can't join a run, whose students are asked one question: "
    "filter its file with --to DIR"
)
OWN = "r1distill"


class FilesTaken(NamedTuple):
    """What files gave."""

    traces: int
    """Taken over now."""
    had: int
    """In the run already."""
    skipped: int
    """Rows, or parts of rows, that are no traces."""
    skipped_file: str
    """Where they are listed; "" when there are none."""
    notes: list[str]
    problems: Kept


NO_FILES = FilesTaken(0, 0, 0, "", [], Kept())


def holds_own_traces(path: Path) -> bool:
    """True for a plain JSONL file whose first readable row is a trace of ours, and for an empty file."""
    detector = Detector()
    for line in lines_of(path):
        if line.offset is None and not line.fault:
            return False
        try:
            return detector.format_of(read_row(line.data)).name == OWN
        except (ValueError, RecursionError):
            continue
    return path.stat().st_size == 0


def open_files(
    files: list[Path], kind: AnswerKind, format: str | None = None, columns: dict[str, str] | None = None
) -> TraceFiles:
    """The reader of the files. Raises InputError when they hold no trace at all, UsageError for a format that is none."""
    read = TraceFiles(files, kind, format=format, columns=columns, keep_lines=False)
    next(read.taken(), None)
    return TraceFiles(files, kind, format=format, columns=columns, keep_lines=False)


@few_collections()
def take_files(read: TraceFiles, run: Run, *, dry_run: bool = False) -> FilesTaken:
    """Take the traces of the files over into a run. Raises InputError, LockedError, StorageError."""
    name = path_digest(read.files)
    new = had = 0
    problems = _Problems(read)
    with ExitStack() as stack:
        target = run.ledger_folder("traces") / f"part-files-{name}.jsonl"
        ledger = None if dry_run else stack.enter_context(Ledger(target))
        index = stack.enter_context(run.index(write=not dry_run))
        index.catch_up("traces", run.ledger_folder("traces"))
        for chunk in batched(_single_turns(read), CHUNK):
            problems.note(chunk)
            rows = list(_new_rows(chunk, index))
            new, had = new + len(rows), had + len(chunk) - len(rows)
            if ledger is not None:
                for row in rows:
                    ledger.append_line(row)
    skipped = run.folder / f"skipped-files-{name}.jsonl"
    kept = Kept()
    if not dry_run:
        kept = problems.keep(run, name)
        if len(read.skipped):
            write_atomic(skipped, (msgspec.json.encode(row) + b"\n" for row in read.skipped))
    return FilesTaken(
        new,
        had,
        len(read.skipped),
        as_text(skipped) if len(read.skipped) else "",
        read.notes(skipped.name),
        kept,
    )


def _single_turns(read: TraceFiles) -> Iterator[Taken]:
    """The traces that one question led to; in a run the student's template asks that question and nothing else."""
    for taken in read.taken():
        if taken.found.trace.slot or sum(m.role != "system" for m in taken.trace.messages) == 1:
            yield taken
        else:
            read.skipped.add(taken.path, taken.number, SEVERAL_TURNS)


def _new_rows(chunk: list[Taken], index: Index) -> Iterator[bytes]:
    """The rows of a chunk that the run does not hold yet."""
    ours = {id(taken): taken.found.trace for taken in chunk if taken.found.trace.slot}
    known = index.has_traces("traces", [taken.trace.id for taken in chunk])
    contents = index.contents("traces", [trace.id for trace in ours.values()]) if ours else set()
    seen: set[str] = set()
    for taken in chunk:
        mark = content_digest(taken.line) if id(taken) in ours else taken.trace.id
        if mark in contents or mark in known or mark in seen:
            continue
        seen.add(mark)
        yield taken.line if id(taken) in ours else msgspec.json.encode(imported(taken))


def imported(found: Taken) -> Trace:
    """A trace of others as it stands in a run."""
    trace = found.trace
    return replace(trace, slot=imported_slot(trace.id), prompt_id=imported_id(found.found.prompt))


class _Problems:
    """The problems that come with traces: those of others get ids of their own, traces of ours keep the id that they name."""

    def __init__(self, read: TraceFiles) -> None:
        self._read = read
        self._theirs: set[int] = set()
        self._ours: set[int] = set()
        self._is_any_ours = False

    def note(self, chunk: list[Taken]) -> None:
        """Remember whose problems they are."""
        for taken in chunk:
            if not taken.found.trace.slot:
                self._theirs.add(taken.order)
                continue
            self._is_any_ours = True
            if taken.found.trace.prompt_id == taken.found.prompt.id:  # else it is stored under both: see keep
                self._ours.add(taken.order)

    def keep(self, run: Run, name: str) -> Kept:
        """Let the run know them."""
        kept = Kept()
        for path in self._read.files if self._is_any_ours else ():
            kept += carry_prompts(path, run)
        return kept + keep_prompts(self._named(), run, name)

    def _named(self) -> Iterator[Prompt]:
        for order, prompt in enumerate(self._read.problems):
            if order in self._ours:
                yield prompt
            if order in self._theirs:
                yield replace(prompt, id=imported_id(prompt))


def carry_prompts(place: Path, run: Run) -> Kept:
    """Bring the problems of imported traces along, when these are taken over from another run: a folder, or a file in one."""
    folder = place if place.is_dir() else run_folder_of(place)
    if folder is None or folder.resolve() == run.folder.resolve():
        return Kept()
    return keep_prompts(imported_prompts(folder), run, path_digest([folder]))


def path_digest(paths: list[Path]) -> str:
    """12 hex digits for the places of files, whatever bytes their names are made of."""
    return digest(sorted(as_text(path.resolve()) for path in paths))[:12]
