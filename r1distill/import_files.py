"""Trace files of others -> a run folder, so that its filter, report and training use them like harvested ones.

In: files of any format (importers/). Out: traces/part-files-DIGEST.jsonl with a row of ours for each trace, the problems in
prompts-files-DIGEST.jsonl, and rows that are no traces in skipped-files-DIGEST.jsonl (file, line, reason). Importing the same
file again adds nothing. Rows of ours that must be unpacked first are taken over as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from r1distill.filtering.few_collections import few_collections
from r1distill.filtering.tracefiles import Taken, TraceFiles
from r1distill.imported import imported_prompts, imported_slot, run_folder_of
from r1distill.importers import Detector
from r1distill.importers.fields import read_row
from r1distill.importers.readers import lines_of
from r1distill.index import Index, content_digest
from r1distill.ledger import Ledger, write_atomic
from r1distill.queries import batched
from r1distill.records import AnswerKind, Prompt, Trace, digest
from r1distill.run import Run

CHUNK = 500
CHUNK_BYTES = 1 << 20
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


NO_FILES = FilesTaken(0, 0, 0, "", [])


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
    name = digest(sorted(str(path.resolve()) for path in read.files))[:12]
    new = had = 0
    with ExitStack() as stack:
        target = run.ledger_folder("traces") / f"part-files-{name}.jsonl"
        ledger = None if dry_run else stack.enter_context(Ledger(target))
        index = stack.enter_context(run.index(write=not dry_run))
        index.catch_up("traces", run.ledger_folder("traces"))
        for chunk in batched(_single_turns(read), CHUNK):
            rows = list(_new_rows(chunk, index))
            new, had = new + len(rows), had + len(chunk) - len(rows)
            if ledger is not None:
                for row in rows:
                    ledger.append_line(row)
    skipped = run.folder / f"skipped-files-{name}.jsonl"
    if not dry_run:
        keep_prompts(read.problems, run, name)
        if len(read.skipped):
            write_atomic(skipped, (msgspec.json.encode(row) + b"\n" for row in read.skipped))
    return FilesTaken(
        new, had, len(read.skipped), str(skipped) if len(read.skipped) else "", read.notes(skipped.name)
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
        yield taken.line if id(taken) in ours else msgspec.json.encode(imported(taken.trace))


def imported(trace: Trace) -> Trace:
    """A trace of others as it stands in a run."""
    return replace(trace, slot=imported_slot(trace.id))


def keep_prompts(prompts: Iterable[Prompt], run: Run, name: str) -> None:
    """Add problems to those that the run knows from files: prompts-files-NAME.jsonl. The first of an id counts."""
    path = run.folder / f"prompts-files-{name}.jsonl"
    new = _new_prompts(prompts, {prompt.id for prompt in imported_prompts(run.folder)})
    first = next(new, None)
    if first is not None:
        before = _read_chunks(path) if path.exists() else ()
        write_atomic(path, chain(before, (first,), new))


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _new_prompts(prompts: Iterable[Prompt], known: set[str]) -> Iterator[bytes]:
    """The lines of those that are not known yet, the first one of each id."""
    for prompt in prompts:
        if prompt.id not in known:
            known.add(prompt.id)
            yield msgspec.json.encode(prompt) + b"\n"


def carry_prompts(place: Path, run: Run) -> None:
    """Bring the problems of imported traces along, when these are taken over from another run: a folder, or a file in one."""
    folder = place if place.is_dir() else run_folder_of(place)
    if folder is not None and folder.resolve() != run.folder.resolve():
        keep_prompts(imported_prompts(folder), run, digest(str(folder.resolve()))[:12])
