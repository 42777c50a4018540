"""What is asked of the endpoints about batches: bring them there, once; how they stand; found again after a kill.

In: the ledger of batches and the recipe's teachers. Out: rows in the ledger, before and after every request that counts.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from r1distill.asking.exchange import ADVICE
from r1distill.batches.ledger import Batch, BatchLedger, Event, age_s, read_items, request_file
from r1distill.batches.plan import base_url, release
from r1distill.errors import InputError, R1DistillError, StopRunError, UsageError
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.show import Show
from r1distill.teachers.batch_state import BatchState
from r1distill.teachers.batches import BatchClient, Kind
from r1distill.teachers.endpoints import open_endpoint
from r1distill.teachers.refusals import Action, Refusal

SETTLE_S = 30.0
"""Seconds after a batch was asked for and before it is asked for again: a request of a killed process may still arrive."""


async def refresh(recipe: Recipe, run: Run, ledger: BatchLedger) -> list[str]:
    """Ask for the state of all open batches that have not ended; warnings for those that could not be asked."""
    warnings: list[str] = []
    asked = [b for b in ledger.batches.values() if b.open and b.kind != "export" and not b.ended]
    async with Clients(recipe, run) as clients:
        for batch in asked:
            try:
                await _refresh_one(await clients.of(batch), ledger, batch)
            except (Refusal, R1DistillError) as error:
                warnings.append(trouble(batch, error, recipe))
    return warnings


async def _refresh_one(client: BatchClient, ledger: BatchLedger, batch: Batch) -> None:
    if batch.batch_id is not None:
        note_state(ledger, batch, await client.get(batch.batch_id), "status")
    elif "creating" in batch.events and batch.file_id is not None:
        found = await client.find(batch.name, batch.file_id)
        if found is not None:
            note_state(ledger, batch, found, "created")


def note_state(ledger: BatchLedger, batch: Batch, state: BatchState, event: Event) -> None:
    """Write down what an endpoint says of a batch, if it is new."""
    done = state.done or round(batch.lines * (state.percent or 0.0) / 100)
    facts = {
        "batch_id": state.batch_id, "status": state.status, "done": done, "failed": state.failed,
        "output_id": state.output_id, "errors_id": state.errors_id, "message": state.message or None,
    }  # fmt: skip
    if event != "status" or any(value not in (None, getattr(batch, name)) for name, value in facts.items()):
        ledger.note(batch.name, event, **facts)


async def submit_all(
    recipe: Recipe, run: Run, ledger: BatchLedger, batches: list[Batch], window: str, show: Show
) -> None:
    """Bring all of them to the endpoint. Raises StopRunError, R1DistillError at the first that is not taken."""
    async with Clients(recipe, run) as clients:
        for batch in batches:
            try:
                await _submit_one(await clients.of(batch), run, ledger, batch, window, show)
            except Refusal as refused:
                raise _stopped(run, ledger, batches, batch, refused) from None
            show.note(f"{batch.name}: {batch.lines:,} requests submitted as {batch.batch_id}.")


async def _submit_one(
    client: BatchClient, run: Run, ledger: BatchLedger, batch: Batch, window: str, show: Show
) -> None:
    if batch.file_id is None:
        tried_before = "uploading" in batch.events
        file_id = await client.find_file(batch.name) if tried_before else None
        if file_id is None:
            ledger.note(batch.name, "uploading")
            file_id = await client.upload(_there(request_file(run, batch.name)), batch.name)
        ledger.note(batch.name, "uploaded", file_id=file_id)
    assert batch.file_id is not None
    state = await _found_again(client, batch, show) if "creating" in batch.events else None
    if state is None:
        ledger.note(batch.name, "creating")
        state = await client.create(batch.name, batch.file_id, window)
    note_state(ledger, batch, state, "created")


async def _found_again(client: BatchClient, batch: Batch, show: Show) -> BatchState | None:
    """What became of a batch that was asked for by a process that was killed then."""
    left_s = SETTLE_S - age_s(batch.events["creating"])
    if left_s > 0:
        show.note(f"{batch.name} was being submitted when it broke off: looking for it in {left_s:.0f} s.", 0)
        await asyncio.sleep(min(left_s, SETTLE_S))
    assert batch.file_id is not None
    return await client.find(batch.name, batch.file_id)


def _stopped(
    run: Run, ledger: BatchLedger, batches: list[Batch], batch: Batch, refused: Refusal
) -> R1DistillError:
    """Why a submit stops. What was surely not taken is given free again, so that a harvest may ask for it."""
    said = f"{refused.error_class}: {refused.message}".rstrip(": .")
    where = f"Teacher {batch.teacher} does not take the batch {batch.name} ({said})"
    if refused.action is Action.RETRY:
        return StopRunError(
            f"{where}; nothing is lost: the same command goes on from here and submits nothing twice."
        )
    free = [b for b in batches if b.teacher == batch.teacher and b.batch_id is None and b.open]
    for one in free:
        if one is batch or "creating" not in one.events:
            release(run, {item.id: 0.0 for item in read_items(run, one.name)}, "refused")
            ledger.note(one.name, "refused", message=refused.message)
    if refused.error_class == "not_found":
        advice = "if it has no batch API, write files with `batch export`, or ask one by one with `harvest`"
    else:
        advice = refused.advice or ADVICE.get(refused.error_class, "change what it objects to")
    return StopRunError(
        f"{where}; {advice}. {sum(b.lines for b in free):,} answers of it are owed as before."
    )


class Clients:
    """The batch clients of a recipe's teachers, opened when they are first needed; an async context manager."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self.recipe, self.run = recipe, run
        self._open: dict[str, BatchClient] = {}

    async def __aenter__(self) -> Clients:
        self._stack = AsyncExitStack()
        return self

    async def __aexit__(self, *how: Any) -> None:
        await self._stack.aclose()

    async def of(self, batch: Batch) -> BatchClient:
        """The client for a batch's teacher. Raises UsageError when the recipe has no such teacher any more, RecipeError."""
        section = self.recipe.teacher.get(batch.teacher)
        if section is None:
            raise UsageError(
                f"The batch {batch.name} belongs to the teacher {batch.teacher}, which the recipe has no more; "
                f"put it back, or give the batch up with `batch collect --forget {batch.name}`."
            )
        if batch.teacher not in self._open:
            log = self.run.folder / "logs" / f"teacher-{batch.teacher}.log"
            endpoint = self._stack.enter_context(open_endpoint(batch.teacher, section, self.recipe, log))
            kind: Kind = "together" if batch.kind == "together" else "openai"
            self._open[batch.teacher] = await self._stack.enter_async_context(BatchClient(endpoint, kind))
        return self._open[batch.teacher]


def trouble(batch: Batch, error: Refusal | R1DistillError, recipe: Recipe) -> str:
    """What a batch could not be asked for, in a sentence."""
    if isinstance(error, R1DistillError):
        return str(error)
    section = recipe.teacher.get(batch.teacher)
    moved = section is not None and base_url(section) != batch.base_url
    hint = (
        f"; it was submitted to {batch.base_url}, the recipe now says {base_url(section)}"
        if moved and section
        else ""
    )
    lost = (
        "; another key or project may have submitted it" if error.error_class in ("not_found", "key") else ""
    )
    return f"{batch.name} can't be asked for ({error.error_class}: {error.message.rstrip('.')}){hint}{lost}."


def _there(path: Path) -> Path:
    if not path.exists():
        raise InputError(
            f"{path} is gone, so this batch can't be submitted; give it up with `batch collect --forget NAME`."
        )
    return path
