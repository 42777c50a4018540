"""The way of a filter run from traces to files, whatever the traces come from: a run folder or plain files.

In: a `Material` (where the traces are and how to read them) and the filter's settings. Out: the files of
outputs.py and a FilterSummary.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from r1distill.checks.base import Check
from r1distill.checks.keys import check_identity
from r1distill.checks.workers import Workers
from r1distill.filtering.caps import caps_without_use
from r1distill.filtering.diff import Earlier, compare
from r1distill.filtering.few_collections import few_collections
from r1distill.filtering.funnel import (
    FilterSummary,
    Parted,
    funnel,
    not_selected_reasons,
    overlap,
    part,
    reasons,
    unjudged_count,
)
from r1distill.filtering.judged import NOTHING, read_place
from r1distill.filtering.measure import Judged, Logprobs, Measured, Place, Source, measure_and_judge
from r1distill.filtering.outputs import FILES, ExampleRow, write_outputs
from r1distill.filtering.pairs import Pair, length_ratio, preference_pairs
from r1distill.filtering.parquet_files import (
    COLUMNS,
    need_pyarrow,
    refuse_foreign,
    remove_parquet,
    write_parquet,
)
from r1distill.filtering.preference import check_behind
from r1distill.filtering.suspects import reads, suspects
from r1distill.index import MEASUREMENTS, Index
from r1distill.ledger import write_atomic
from r1distill.path_names import as_text
from r1distill.recipe_sections import SelectSection
from r1distill.records import Prompt
from r1distill.run import read_json
from r1distill.show import Show, counted

FILTER_VERSION = 6
"""Raised when the same settings and traces lead to other files."""


@dataclass(frozen=True)
class Material:
    """What a filter run works on."""

    folder: Path
    """Where the outputs go."""
    stage_id: str
    total: int
    """Traces, for the progress display."""
    prompts: int
    """Problems, for the summary."""
    sources: Callable[[], Iterator[Source]]
    """All traces, in any order that is quick to read."""
    problems: Sequence[Prompt]
    """The problems by their number, once all traces were read."""
    lines: Callable[[Iterable[Place]], Iterator[bytes]]
    """The lines at some places, in their order."""
    example: Callable[[bytes, Judged], ExampleRow]
    """The training row of a line."""
    facts: dict[str, Any]
    """Further fields of the summary."""
    card: Callable[[Parted, FilterSummary], str]
    """README.md of the result."""
    logprobs: Logprobs | None = None
    """What lies beside the traces, where a check wants it."""
    passed_over: Callable[[], int] = lambda: 0
    """How many of the `total` were met so far that are no traces."""
    refuse_changed: Callable[[Iterable[Place]], None] = lambda places: None
    """Raises InputError when a file is no more what it was when it was read, of which those places are wanted."""


def settings_of(checks: dict[str, Check], select: SelectSection, more: dict[str, Any]) -> dict[str, Any]:
    """All settings that the outputs depend on, for the stage's id.

    Raises RecipeError for a selection that needs a check that is not there, MissingPackageError without pyarrow for Parquet.
    """
    check_behind(checks, select)
    if select.parquet:
        need_pyarrow()
    tables = {
        name: {**check_identity(check), "judging": check.model_dump(mode="json")}
        for name, check in checks.items()
    }
    order = list(checks)
    chosen = select.model_dump(mode="json")
    return {"version": FILTER_VERSION, "checks": tables, "order": order, "select": chosen, **more}


@few_collections()
def sift(
    material: Material, checks: dict[str, Check], select: SelectSection, index: Index, workers: Workers | int | None,
    dry_run: bool, show: Show, earlier: Earlier | None = None, known: Measured | None = None,
) -> FilterSummary:  # fmt: skip
    """Measure, judge, select, write. Returns the summary, compared with an `earlier` run where one is given.

    `known`: the traces, when they are measured and judged already (with the measurements of `values_read`).
    With `dry_run` nothing is written, and nothing is judged either unless there is something to compare with.
    """
    started = time.monotonic()
    count_only = dry_run and earlier is None
    if select.parquet:
        refuse_foreign(material.folder)
    said = [note for check in checks.values() for note in check.notes()] + torn_notes(index)
    found = known or _measured(material, checks, select, index, workers, show, count_only)
    if count_only:
        return _summary(material, found, started, said, dry_run=True)
    doubts = suspects(found.rows, checks, material.problems)
    parted = part(found.rows, checks, select, material.problems)
    for row in found.rows:
        row.values = NOTHING
    pairs = preference_pairs(parted, checks, select.pairs_per_prompt)
    counts = {**_counts(parted, checks, pairs), "suspect_references": len(doubts), "parquet": select.parquet}
    counts |= {"diff": compare(earlier, parted) if earlier is not None else None, "dry_run": dry_run}
    if not dry_run:
        write_outputs(
            material.folder, parted, pairs, doubts, material.lines, material.example, material.refuse_changed
        )
        (write_parquet if select.parquet else remove_parquet)(material.folder)
    useless = caps_without_use(select.caps, material.problems)
    summary = _summary(material, found, started, [*said, *useless], **counts)
    if not dry_run:
        write_atomic(material.folder / "README.md", material.card(parted, summary).encode("utf-8", "replace"))
    return summary


def values_read(checks: dict[str, Check], select: SelectSection) -> set[str]:
    """The checks whose measurements are read once more after judging. Raises RecipeError."""
    return {*reads(checks), check_behind(checks, select) or ""} & set(checks)


def _measured(
    material: Material, checks: dict[str, Check], select: SelectSection, index: Index, workers: Workers | int | None, show: Show,
    count_only: bool,
) -> Measured:  # fmt: skip
    keep = values_read(checks, select)
    with show.progress("Reading" if count_only else "Filtering", material.total) as progress:
        found = measure_and_judge(
            material.sources(), checks, index, workers, lambda done: progress.update(done + material.passed_over()),
            count_only, keep, material.logprobs,
        )  # fmt: skip
        progress.update(
            material.total
        )  # a file may have more lines than rows: blank ones, or several for one row
        return found


def _counts(parted: Parted, checks: dict[str, Check], pairs: list[Pair]) -> dict[str, Any]:
    chosen = [*parted.train, *parted.val]
    return {
        "kept": len(parted.kept),
        "rejected": len(parted.rows) - len(parted.kept),
        "train": len(parted.train),
        "val": len(parted.val),
        "not_selected": len(parted.kept) - len(chosen),
        "prompts_covered": len({row.prompt_id for row in chosen}),
        "unjudged": unjudged_count(parted),
        "funnel": funnel(parted, checks),
        "reasons": reasons(parted),
        "overlap": overlap(parted),
        "not_selected_reasons": not_selected_reasons(parted),
        "mix": parted.mix,
        "pairs": len(pairs),
        "pairs_length_ratio": length_ratio(pairs),
    }


def _summary(
    material: Material, found: Measured, started: float, notes: Sequence[str] = (), **counts: Any
) -> FilterSummary:
    own = [
        f"The check {name} raised an error, its traces are UNJUDGED: {text}"
        for name, text in found.errors.items()
    ]
    facts = {**material.facts, "notes": [*material.facts.get("notes", []), *own, *notes]}
    return FilterSummary(
        stage_id=material.stage_id, folder=as_text(material.folder), traces=len(found.rows), prompts=material.prompts,
        measured=found.measured, cached=found.cached, elapsed_s=round(time.monotonic() - started, 3), **facts, **counts,
    )  # fmt: skip


def torn_notes(index: Index) -> list[str]:
    """A sentence about the rows in measurements/ that can't be read, if there are any."""
    if not index.torn:
        return []
    return [
        f"{counted(len(index.torn), 'row')} in {MEASUREMENTS}/ can't be read, the first is {index.torn[0]}; what they held is "
        "measured again."
    ]


def earlier_summary(data: dict[str, Any]) -> FilterSummary:
    """The summary of an earlier run, marked as up to date; what it was compared with then is no news now."""
    return msgspec.convert({**data, "up_to_date": True, "diff": None}, FilterSummary)


def finished(folder: Path, stage: str) -> dict[str, Any] | None:
    """The summary of the same filter run, when it and all of its files are there."""
    done = read_json(folder / "summary.json")
    names = [f"{name}.jsonl" for name in FILES]
    if done is not None and done.get("parquet"):
        names += [f"{name}.parquet" for name in COLUMNS]
    whole = all((folder / name).is_file() for name in names)
    return done if done is not None and done.get("stage_id") == stage and whole else None


def read_places(paths: list[Path], places: Iterable[Place]) -> Iterator[bytes]:
    """Yield the lines at `places`, without their newline."""
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb", buffering=0)).fileno() for path in paths]
        for place in places:
            yield read_place(files[place.file], place)


@contextmanager
def open_index(folder: Path, dry_run: bool) -> Iterator[Index]:
    """The index in `folder`, with what shards have measured (measurements/ in it); for a dry run a copy of it that is thrown
    away, so that nothing is written.
    """
    path = folder / "index.sqlite"
    if not dry_run:
        with Index(path) as index:
            index.take_in(folder / MEASUREMENTS)
            yield index
        return
    with tempfile.TemporaryDirectory(prefix="r1distill-") as scratch:
        copy = Path(scratch) / "index.sqlite"
        if path.exists():
            # Opening a closed index for reading would leave its -wal and -shm files behind, unless it is immutable.
            mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
            with (
                closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
        with Index(copy) as index:
            index.take_in(folder / MEASUREMENTS)
            yield index
