"""VERB batch: ask by batch APIs (half the price at many providers, answers within a day) instead of one by one.

In: a recipe. Out: batches.jsonl and batches/ in the run folder (batches/ledger.py); answers are taken in by batch_collect.py.
Nothing is submitted twice: what is about to be asked for is on disk before it is asked for, and after a kill it is looked
for at the endpoint under our own name for it before anything is asked again (batches/asking.py).
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from r1distill.batches.asking import refresh, submit_all
from r1distill.batches.files import Limits, Part, Style, drop_parts
from r1distill.batches.ledger import (
    Batch,
    BatchLedger,
    batches_folder,
    items_file,
    ledger_file,
    no_harvest_beside,
    read_batches,
    request_file,
)
from r1distill.batches.plan import base_url, export_kinds, plan_files, release_strays, reserve, submit_kinds
from r1distill.batches.waiting import Waiting, came, waiting
from r1distill.errors import UsageError
from r1distill.ledger import storage_errors
from r1distill.problems import ProblemSet
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.show import Show, counted, dollars
from r1distill.teachers.endpoints import open_endpoint

OURS = re.compile(r"(.+-[0-9a-f]{16})(\.items)?\.jsonl")
"""Names of request files, as RequestFiles gives them."""


class SubmitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a submit or an export did (or would do)."""

    batches: list[dict[str, Any]]
    """One per file: name, teacher, lines, size_bytes, worst_usd, batch_id, status."""
    lines: int = 0
    """Answers asked for by these."""
    resumed: int = 0
    """Batches of an interrupted submit that were finished or found again."""
    out_before: int = 0
    """Answers that waited in batches or exported files before."""
    worst_usd: float | None = None
    dry_run: bool = False
    warnings: list[str] = []


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All batches of a run, as the endpoints say."""

    batches: list[dict[str, Any]]
    out: int
    """Answers that wait in batches or in exported files."""
    exported: int = 0
    """Of these, the ones in exported files."""
    warnings: list[str] = []


def submit(
    recipe: Recipe,
    run: Run,
    *,
    limit: int | None = None,
    window: str = "24h",
    limits: Limits | None = None,
    dry_run: bool = False,
    show: Show | None = None,
) -> SubmitSummary:
    """Submit what is owed, `limit` answers at most, as batches. Raises R1DistillError; the same command goes on from there."""
    show = show or Show(0)
    kinds, warnings = submit_kinds(recipe)
    if recipe.harvest.top_logprobs:
        warnings.append(
            "harvest.top_logprobs is not asked for in batches: these answers come without log-probabilities."
        )
    how: dict[str, Any] = {"limits": limits, "limit": limit}
    if dry_run:
        return _summary(plan_files(recipe, run, None, kinds, **how), run, 0, dry_run=True, warnings=warnings)
    for name in kinds:  # a key that is missing is told before anything is planned
        with open_endpoint(name, recipe.teacher[name], recipe, run.folder / "logs" / f"teacher-{name}.log"):
            pass
    with BatchLedger(run) as ledger:
        _tidy(run, ledger)
        release_strays(run, ledger.batches.values())
        before = waiting(run).total
        resumed = [b for b in ledger.batches.values() if b.open and b.kind != "export" and b.batch_id is None]
        with no_harvest_beside(run):
            parts = plan_files(recipe, run, batches_folder(run), kinds, **how)
            try:
                reserve(recipe, run, parts)
            except UsageError:
                drop_parts(batches_folder(run), parts)
                raise
            fresh = [_planned(ledger, recipe, part, kinds[part.teacher]) for part in parts]
        _save(recipe, run)
        asyncio.run(submit_all(recipe, run, ledger, [*resumed, *fresh], window, show))
    return _summary(parts, run, before, resumed=len(resumed), warnings=warnings)


def export(
    recipe: Recipe,
    run: Run,
    to: Path,
    *,
    style: Style = "openai",
    mark_out: bool = False,
    limit: int | None = None,
    limits: Limits | None = None,
    dry_run: bool = False,
) -> SubmitSummary:
    """Write what is owed as request files into the folder `to`, for others to run; `batch import` reads what comes back.

    The slots are held back from harvest and submit only with `mark_out`: a file may never be run, and answers that came
    twice are recognised when they are imported. Raises R1DistillError.
    """
    kinds = export_kinds(recipe)
    how: dict[str, Any] = {"style": style, "limits": limits, "limit": limit}
    if dry_run:
        return _summary(plan_files(recipe, run, None, kinds, **how), run, 0, dry_run=True)
    with BatchLedger(run) as ledger, ExitStack() as stack:
        _tidy(run, ledger)
        before = waiting(run).total
        if mark_out:
            stack.enter_context(no_harvest_beside(run))
        parts = plan_files(recipe, run, batches_folder(run), kinds, **how)
        for part in parts:
            known = ledger.batches.get(part.name)
            if known is None or (mark_out and not known.open):
                _planned(ledger, recipe, part, "export", out=mark_out)
            _copy(request_file(run, part.name), to)
        _save(recipe, run)
    return _summary(parts, run, before)


def status(recipe: Recipe, run: Run, *, show: Show | None = None) -> BatchStatus:
    """Ask each open batch how it stands, and write down what is new. Raises R1DistillError."""
    if not ledger_file(run).exists():
        return BatchStatus(batches=[], out=0)
    with BatchLedger(run) as ledger:
        warnings = asyncio.run(refresh(recipe, run, ledger))
        rows = [_row_now(run, batch) for batch in ledger.batches.values()]
    left = waiting(run)
    return BatchStatus(batches=rows, out=left.total, exported=left.exported, warnings=warnings)


def _planned(ledger: BatchLedger, recipe: Recipe, part: Part, kind: str, out: bool = True) -> Batch:
    return ledger.note(
        part.name, "planned", teacher=part.teacher, base_url=base_url(recipe.teacher[part.teacher]), kind=kind, out=out,
        lines=part.lines, size_bytes=part.size_bytes, worst_usd=part.worst_usd,
    )  # fmt: skip


def _save(recipe: Recipe, run: Run) -> None:
    run.save_recipe(recipe)
    run.save_prompts(list(ProblemSet(recipe)))


def _tidy(run: Run, ledger: BatchLedger) -> None:
    """Remove request files that a killed command had not planned yet: nobody knows of them."""
    for path in batches_folder(run).glob("*"):
        found = OURS.fullmatch(path.name)
        if path.suffix == ".part" or (found and found[1] not in ledger.batches):
            path.unlink(missing_ok=True)


def _copy(path: Path, to: Path) -> None:
    with storage_errors(to / path.name):
        to.mkdir(parents=True, exist_ok=True)
        part = to / f"{path.name}.part"
        shutil.copyfile(path, part)
        part.replace(to / path.name)


def _row_now(run: Run, batch: Batch) -> dict[str, Any]:
    """A row of `row_of`; of an export nobody but our own traces knows how much was done."""
    row = row_of(batch)
    known = batch.kind == "export" and items_file(run, batch.name).exists()
    return {**row, "done": came(run, batch)} if known else row


def row_of(batch: Batch) -> dict[str, Any]:
    """A batch for people and scripts."""
    return {
        "name": batch.name, "teacher": batch.teacher, "id": batch.batch_id, "status": batch.state, "done": batch.done,
        "total": batch.lines, "failed": batch.failed, "size_bytes": batch.size_bytes, "worst_usd": batch.worst_usd,
        "message": batch.message,
    }  # fmt: skip


def _summary(
    parts: list[Part],
    run: Run,
    before: int,
    *,
    resumed: int = 0,
    dry_run: bool = False,
    warnings: Sequence[str] = (),
) -> SubmitSummary:
    known = read_batches(run)
    worst = [part.worst_usd for part in parts]
    return SubmitSummary(
        batches=[row_of(known[part.name]) if part.name in known else part._asdict() for part in parts],
        lines=sum(part.lines for part in parts), resumed=resumed, dry_run=dry_run, warnings=list(warnings),
        out_before=waiting(run).total if dry_run else before,
        worst_usd=None if None in worst else sum(usd for usd in worst if usd is not None),
    )  # fmt: skip


def lines(summary: SubmitSummary, verb: str) -> Iterator[str]:
    """A submit or an export for people, a sentence a line."""
    s = summary
    yield from s.warnings
    if s.out_before:
        yield f"{counted(s.out_before, 'answer')} {_were(s.out_before)} out in batches or exported files before."
    if s.resumed:
        yield f"{counted(s.resumed, 'batch', 'batches')} of an interrupted submit {_were(s.resumed)} finished."
    if not s.batches:
        out = " beside what is out" if s.out_before else ""
        yield f"Nothing more is owed{out}: no new {'batch' if verb == 'submit' else 'file'}."
        return
    done = {"submit": "submitted", "export": "written"}[verb]
    would = f"would be {done}" if s.dry_run else done
    most = (
        "at a cost nobody knows (no price or ceiling)"
        if s.worst_usd is None
        else f"at most {dollars(s.worst_usd)}"
    )
    files = counted(len(s.batches), "file")
    yield f"{counted(s.lines, 'request')} in {files} {would}, {most} by the recipe's price."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def tell(status: BatchStatus, show: Show) -> None:
    """Print the table of batches."""
    for text in status.warnings:
        show.note(text)
    columns = ("name", "id", "status", "done", "failed")
    rows = [
        (b["name"], b["id"] or "-", b["status"] + (f": {b['message']}" if b["message"] else ""),
         f"{b['done']:,}/{b['total']:,}", f"{b['failed']:,}")
        for b in status.batches
    ]  # fmt: skip
    show.table("Batches", columns, rows)
    told = Waiting(status.out - status.exported, status.exported).lines()
    if not status.batches:
        told = ["No batch was ever submitted, no file exported."]
    for line in told or ["Nothing is out: no batch and no exported file is waited for."]:
        show.note(line)
