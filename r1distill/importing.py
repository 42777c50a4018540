"""VERB import: take over the traces of another run, so that what was paid for there is not asked for again here.

In: run folders (or their traces/part-*.jsonl files). Out: traces/part-import-DIGEST.jsonl of this run, one per source file,
the rows byte for byte; failures that are final; log-probabilities. Importing again adds only what is new there. Shards of
one harvest need no import: their files simply join when they are copied into one folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from r1distill.errors import InputError, UsageError
from r1distill.index import content_digest
from r1distill.ledger import Ledger, read_lines
from r1distill.queries import batched
from r1distill.records import Failure, Trace, digest
from r1distill.run import Run
from r1distill.show import Show

CHUNK = 500
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
    logprob_files: int
    unreadable: list[str]
    """FILE: byte OFFSET of rows that are no traces; they stay where they are."""
    dry_run: bool = False


class Source(msgspec.Struct, frozen=True):
    """One traces file of another run, and what lies around it."""

    traces: Path
    failures: list[Path]
    logprobs: list[Path]


def import_runs(
    places: list[Path], run: Run, *, dry_run: bool = False, show: Show | None = None
) -> ImportSummary:
    """Take over the traces of `places`. Raises InputError for what is no run or trace file of ours, LockedError."""
    show = show or Show(0)
    sources = [source for place in places for source in _sources(place, run)]
    total = {"traces": 0, "had": 0, "failures": 0, "logprob_files": 0}
    unreadable: list[str] = []
    for source in sources:
        found = _import(source, run, dry_run, unreadable)
        for key, count in found.items():
            total[key] += count
        show.note(
            f"{source.traces}: {found['traces']:,} traces {'to take' if dry_run else 'taken'} over, {found['had']:,} were there."
        )
    for place in unreadable:
        show.note(f"{place}: no trace of ours; left out.")
    if not dry_run and total["traces"]:
        with run.index() as index:
            index.catch_up("traces", run.ledger_folder("traces"))
    return ImportSummary(files=len(sources), unreadable=unreadable, dry_run=dry_run, **total)


def _sources(place: Path, run: Run) -> list[Source]:
    if place.resolve() == run.folder.resolve():
        raise UsageError(f"{place} is the run to import into; name another one.")
    if place.is_file():
        return [Source(place, [], [])]
    found = sorted((place / "traces").glob("part-*.jsonl"))
    if not found:
        raise InputError(f"{place} is no run folder with traces (there is no traces/part-*.jsonl in it).")
    failures, logprobs = sorted(place.glob("failures*.jsonl")), sorted((place / "logprobs").glob("*.parquet"))
    return [
        Source(path, failures if not n else [], logprobs if not n else []) for n, path in enumerate(found)
    ]


def _import(source: Source, run: Run, dry_run: bool, unreadable: list[str]) -> dict[str, int]:
    name = digest(str(source.traces.resolve()))[:12]
    counts = {"traces": 0, "had": 0}
    taken: set[str] = set()
    with ExitStack() as stack:
        target = run.ledger_folder("traces") / f"part-import-{name}.jsonl"
        ledger = None if dry_run else stack.enter_context(Ledger(target))
        index = stack.enter_context(run.index(write=not dry_run))
        index.catch_up("traces", run.ledger_folder("traces"))
        for chunk in batched(_traces(source.traces, unreadable), CHUNK):
            have = index.contents("traces", [trace.id for trace, _ in chunk])
            for _, line in chunk:
                mark = content_digest(line)
                is_new = mark not in have and mark not in taken
                counts["traces" if is_new else "had"] += 1
                taken.add(mark)
                if is_new and ledger is not None:
                    ledger.append_line(line)
    counts["failures"] = _import_failures(source.failures, run, name, dry_run)
    counts["logprob_files"] = _import_logprobs(source.logprobs, run, name, dry_run)
    return counts


def _traces(path: Path, unreadable: list[str]) -> Iterator[tuple[Trace, bytes]]:
    decoder = msgspec.json.Decoder(Trace)
    for offset, line in read_lines(path):
        try:
            yield decoder.decode(line), line
        except UNREADABLE:
            unreadable.append(f"{path}: byte {offset}")


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


def _import_logprobs(paths: list[Path], run: Run, name: str, dry_run: bool) -> int:
    """Copy Parquet files of log-probabilities that are not there yet; readers find rows by trace id."""
    folder = run.folder / "logprobs"
    new = [path for path in paths if not (folder / f"import-{name}-{path.name}").exists()]
    for path in new if not dry_run else ():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"import-{name}-{path.name}.part"
        shutil.copyfile(path, part)
        part.replace(folder / f"import-{name}-{path.name}")
    return len(new)
