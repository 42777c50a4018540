"""The way of a filter run from traces to files, whatever the traces come from: a run folder or plain files.

In: a `Material` (where the traces are and how to read them) and the filter's settings. Out: the files of
outputs.py and a FilterSummary.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from r1distill.checks.base import Check
from r1distill.checks.keys import check_identity
from r1distill.filter_diff import Earlier, compare
from r1distill.funnel import FilterSummary, Parted, funnel, part, reasons, unjudged_count
from r1distill.index import Index
from r1distill.ledger import write_atomic
from r1distill.measure import Judged, Measured, Place, Source, measure_and_judge
from r1distill.outputs import FILES, write_outputs
from r1distill.pairs import preference_pairs
from r1distill.recipe_sections import SelectSection
from r1distill.records import Example
from r1distill.run import read_json
from r1distill.show import Show

FILTER_VERSION = 3
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
    lines: Callable[[Iterable[Place]], Iterator[bytes]]
    """The lines at some places, in their order."""
    example: Callable[[bytes, Judged], Example]
    """The training row of a line."""
    facts: dict[str, Any]
    """Further fields of the summary."""
    card: Callable[[Parted, FilterSummary], str]
    """README.md of the result."""


def settings_of(checks: dict[str, Check], select: SelectSection, more: dict[str, Any]) -> dict[str, Any]:
    """All settings that the outputs depend on, for the stage's id."""
    tables = {
        name: {**check_identity(check), "judging": check.model_dump(mode="json")}
        for name, check in checks.items()
    }
    order = list(checks)
    chosen = select.model_dump(mode="json")
    return {"version": FILTER_VERSION, "checks": tables, "order": order, "select": chosen, **more}


def sift(
    material: Material, checks: dict[str, Check], select: SelectSection, index: Index, workers: int | None,
    dry_run: bool, show: Show, earlier: Earlier | None = None,
) -> FilterSummary:  # fmt: skip
    """Measure, judge, select, write. Returns the summary, compared with an `earlier` run where one is given.

    With `dry_run` nothing is written, and nothing is judged either unless there is something to compare with.
    """
    started = time.monotonic()
    count_only = dry_run and earlier is None
    with show.progress("Measuring", material.total) as progress:
        found = measure_and_judge(material.sources(), checks, index, workers, progress.update, count_only)
    if count_only:
        return _summary(material, found, started, dry_run=True)
    parted = part(found.rows, checks, select)
    pairs = preference_pairs(parted, checks, select.pairs_per_prompt)
    counts = {**_counts(parted, checks), "pairs": len(pairs), "dry_run": dry_run}
    counts["diff"] = compare(earlier, parted) if earlier is not None else None
    if not dry_run:
        write_outputs(material.folder, parted, pairs, material.lines, material.example)
    summary = _summary(material, found, started, **counts)
    if not dry_run:
        write_atomic(material.folder / "README.md", material.card(parted, summary).encode("utf-8", "replace"))
    return summary


def _counts(parted: Parted, checks: dict[str, Check]) -> dict[str, Any]:
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
    }


def _summary(material: Material, found: Measured, started: float, **counts: Any) -> FilterSummary:
    own = [
        f"The check {name} raised an error, its traces are UNJUDGED: {text}"
        for name, text in found.errors.items()
    ]
    facts = {**material.facts, "notes": [*material.facts.get("notes", []), *own]}
    return FilterSummary(
        stage_id=material.stage_id, folder=str(material.folder), traces=len(found.rows), prompts=material.prompts,
        measured=found.measured, cached=found.cached, elapsed_s=round(time.monotonic() - started, 3), **facts, **counts,
    )  # fmt: skip


def earlier_summary(data: dict[str, Any]) -> FilterSummary:
    """The summary of an earlier run, marked as up to date."""
    return msgspec.convert({**data, "up_to_date": True}, FilterSummary)


def finished(folder: Path, stage: str) -> dict[str, Any] | None:
    """The summary of the same filter run, when it and all of its files are there."""
    done = read_json(folder / "summary.json")
    whole = all((folder / f"{name}.jsonl").is_file() for name in FILES)
    return done if done is not None and done.get("stage_id") == stage and whole else None


def read_places(paths: list[Path], places: Iterable[Place]) -> Iterator[bytes]:
    """Yield the lines at `places`, without their newline."""
    files = [path.open("rb") for path in paths]
    try:
        for place in places:
            files[place.file].seek(place.offset)
            yield files[place.file].read(place.length)
    finally:
        for file in files:
            file.close()


@contextmanager
def open_index(folder: Path, dry_run: bool) -> Iterator[Index]:
    """The index in `folder`; for a dry run a copy of it that is thrown away, so that nothing is written."""
    path = folder / "index.sqlite"
    if not dry_run:
        with Index(path) as index:
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
            yield index
