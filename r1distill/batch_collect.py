"""Taking in what came back: `batch collect` fetches the results of batches that have ended, `batch import` reads files.

In: batches.jsonl, or result files that others made. Out: traces and failures (batches/intake.py). Lines are joined by
custom_id, in any order. A batch is closed only when its rows are on disk, so that a kill in between costs nothing but
reading its files again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from r1distill.asking.owed import Wanted, harvest_wanted
from r1distill.batches.asking import Clients, refresh, trouble
from r1distill.batches.files import result_ids
from r1distill.batches.intake import Find, Intake, open_intake, trace_id
from r1distill.batches.ledger import (
    Batch,
    BatchLedger,
    Item,
    ledger_file,
    read_batches,
    read_items,
    result_files,
)
from r1distill.batches.plan import release
from r1distill.batches.requests import Requests
from r1distill.batches.totals import CollectSummary, Totals
from r1distill.batches.waiting import Waiting, waiting
from r1distill.errors import InputError, UsageError
from r1distill.problems import ProblemSet
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.show import Show, counted, dollars
from r1distill.teachers.refusals import Refusal


def collect(
    recipe: Recipe, run: Run, *, forget: Sequence[str] = (), dry_run: bool = False, show: Show | None = None
) -> CollectSummary:
    """Fetch and take in all batches that have ended. `forget` names batches to give up: their slots are owed again.

    Raises R1DistillError; the same command goes on from there.
    """
    if dry_run or not ledger_file(run).exists():
        return _would_collect(run)
    totals = Totals()
    with BatchLedger(run) as ledger:
        for name in forget:
            _forget(run, ledger, name)
        totals.warnings += asyncio.run(refresh(recipe, run, ledger))
        due = [b for b in ledger.batches.values() if b.open and b.ended and b.kind != "export"]
        totals.warnings += asyncio.run(_fetch(recipe, run, due))
        for batch in due:
            if _fetched(run, batch):
                _take_batch(recipe, run, ledger, batch, totals)
                (show or Show(0)).note(
                    f"{batch.name}: {batch.status}, {counted(batch.counts.get('traces', 0), 'trace')}."
                )
    return totals.summary(waiting(run))


def _would_collect(run: Run) -> CollectSummary:
    batches = read_batches(run).values()
    due = [b for b in batches if b.open and b.ended and b.kind != "export"]
    left = waiting(run)
    return CollectSummary(
        collected=[b.name for b in due],
        out=left.total,
        exported=left.exported,
        still_owed=left.total,
        dry_run=True,
    )


async def _fetch(recipe: Recipe, run: Run, due: Iterable[Batch]) -> list[str]:
    """Download what is not here yet; a warning for each batch that can't be had now."""
    warnings: list[str] = []
    async with Clients(recipe, run) as clients:
        for batch in due:
            try:
                for file_id, path in _results(run, batch):
                    if not path.exists():
                        await (await clients.of(batch)).download(file_id, path)
            except Refusal as error:
                gone = "; if it is gone for good, give the batch up with `batch collect --forget`"
                warnings.append(
                    trouble(batch, error, recipe) + (gone if error.error_class == "not_found" else "")
                )
            except UsageError as error:
                warnings.append(str(error))
    return warnings


def _results(run: Run, batch: Batch) -> list[tuple[str, Path]]:
    """The result files that a batch has: (id at the endpoint, where it is put here)."""
    ids = (batch.output_id, batch.errors_id)
    return [
        (file_id, path) for file_id, path in zip(ids, result_files(run, batch.name), strict=True) if file_id
    ]


def _fetched(run: Run, batch: Batch) -> bool:
    return all(path.exists() for _, path in _results(run, batch))


def _take_batch(recipe: Recipe, run: Run, ledger: BatchLedger, batch: Batch, totals: Totals) -> None:
    """Take in one batch whose files are here, then close it."""
    requests = Requests(run, batch)
    with ExitStack() as stack:
        intake = open_intake(recipe, run, stack, requests.items, batch.failures_from)
        if batch.failures_from is None:
            assert intake.failures is not None
            ledger.note(batch.name, "collecting", failures_from=intake.failures.path.stat().st_size)
        for _, path in _results(run, batch):
            intake.take(path, requests.find)
        intake.finish()
        intake.store()
    missing = requests.items.keys() - intake.seen - intake.have
    intake.counts["never_asked"] += len(missing)
    release(run, {**dict.fromkeys(missing, 0.0), **intake.unanswered}, "batch")
    totals.add(intake, batch, len(missing))
    counts = {name: count for name, count in intake.counts.items() if count}
    ledger.note(batch.name, "collected", counts=counts)


def _forget(run: Run, ledger: BatchLedger, name: str) -> None:
    batch = ledger.batches.get(name)
    if batch is None or not batch.open:
        raise UsageError(f"No batch {name} is out in this run; `batch status` lists them.")
    release(run, {item.id: None for item in _known_items(run, name)}, "forgotten")
    ledger.note(name, "forgotten")


def _known_items(run: Run, name: str) -> list[Item]:
    """What a batch to be given up asked; nothing when its file is gone, which may be why it is given up."""
    try:
        return list(read_items(run, name))
    except InputError:
        return []


def import_results(
    recipe: Recipe, run: Run, files: Sequence[Path], *, dry_run: bool = False
) -> CollectSummary:
    """Take in result files that others made for this recipe: of exported requests, or downloaded by hand.

    Exports that were marked as out are closed once all their lines have come. Raises R1DistillError.
    """
    totals = Totals()
    ids = {custom_id for path in files for custom_id in result_ids(path)}
    with ExitStack() as stack:
        ledger = None if dry_run else stack.enter_context(BatchLedger(run))
        batches = read_batches(run)
        find = _finder(recipe, run, batches.values(), ids)
        with ExitStack() as inner:
            intake = open_intake(recipe, run, inner, ids, 0, write=not dry_run)
            for path in files:
                intake.take(path, find)
            intake.finish()
            intake.store()
        for batch in batches.values():
            if ledger is not None and batch.open and batch.kind == "export":
                _close_export(run, ledger, batch, intake, totals)
        totals.add(intake, None, 0)
        if ledger is not None:
            run.save_recipe(recipe)
            run.save_prompts(list(ProblemSet(recipe)))
    return totals.summary(waiting(run), dry_run)


def _finder(recipe: Recipe, run: Run, batches: Iterable[Batch], ids: set[str]) -> Find:
    """What the custom_ids of a file are for: by what was once written out, else by today's recipe."""
    sources: list[Requests] = []
    for batch in batches:
        try:
            requests = Requests(run, batch)
        except InputError:
            continue  # its files were removed; the recipe may still know its answers
        if not ids.isdisjoint(requests.items):
            sources.append(requests)
    wanted: dict[str, Wanted] = {}
    rest = ids.difference(*(source.items for source in sources))
    for item in harvest_wanted(recipe, ProblemSet(recipe)) if rest else ():
        if trace_id(item) in rest:
            wanted.setdefault(trace_id(item), item)

    def find(custom_id: str) -> Wanted | None:
        found = wanted.get(custom_id)
        return found or next((item for source in sources if (item := source.find(custom_id))), None)

    return find


def _close_export(run: Run, ledger: BatchLedger, batch: Batch, intake: Intake, totals: Totals) -> None:
    items = [item.id for item in read_items(run, batch.name)]
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        came = intake.seen | index.has_traces("traces", items)
    missing = sum(trace_id not in came for trace_id in items)
    if missing == 0:
        ledger.note(batch.name, "collected")
        totals.collected.append(batch.name)
    elif not intake.seen.isdisjoint(items):
        totals.warnings.append(
            f"{batch.name}: {missing:,} of {counted(len(items), 'line')} {'has' if missing == 1 else 'have'} not come; "
            f"harvest does not ask for them until they are imported, or `batch collect --forget {batch.name}` gives them up."
        )


def lines(s: CollectSummary) -> list[str]:
    """A collect or an import for people, a sentence a line."""
    text = [*s.warnings, *(f"Passed over: {place}" for place in s.odd)]
    if s.dry_run and not s.traces and not s.collected:
        text.append("Nothing has ended as far as is known here (`batch status` asks).")
    if s.collected:
        text.append(
            f"{counted(len(s.collected), 'batch', 'batches')} {'would be ' if s.dry_run else ''}done with: "
            f"{', '.join(s.collected)}."
        )
    if s.traces or s.already:
        text.append(
            f"{counted(s.traces, 'new trace')} ({s.truncated:,} cut){_cost(s)}; {s.already:,} "
            f"{'was' if s.already == 1 else 'were'} there already."
        )
    if s.failed_final or s.failed_open or s.never_asked:
        text.append(
            f"No answer: {s.failed_final:,} for good, {s.failed_open:,} to be asked again, {s.never_asked:,} never asked."
        )
    if s.unknown or s.duplicates or s.torn:
        text.append(
            f"Lines passed over: {s.unknown:,} unknown, {s.duplicates:,} twice, {s.torn:,} unreadable."
        )
    return text + Waiting(s.out - s.exported, s.exported).lines()


def _cost(s: CollectSummary) -> str:
    return f", {dollars(s.cost_usd)}" if s.traces else ""
