"""The asking engine that harvest, evaluate and the judge share: owed slots in, traces in a ledger out.

Promises: an answer is in the ledger before it is counted; a failed request is recorded apart and stays owed unless
asking again can't help; Ctrl-C stops asking and lets the answers under way arrive (a second one drops them).
Each teacher is a lane of its own (lane.py), so that one that is slow, out of money or gone holds up no other.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

from r1distill.asking.desk import Desk, Terms, TokenStore
from r1distill.asking.interrupt import interruptible
from r1distill.asking.lane import Lane
from r1distill.asking.owed import Wanted
from r1distill.asking.purse import Purse
from r1distill.asking.spending import Spending
from r1distill.asking.tally import Tally
from r1distill.errors import StopRunError
from r1distill.ledger import Ledger
from r1distill.recipe_sections import EscalateSection, HarvestSection
from r1distill.records import Trace
from r1distill.show import Progress, Show
from r1distill.teachers.client import Endpoint
from r1distill.teachers.embedded import share_prefix
from r1distill.teachers.retry import Sleep

TICK_S = 0.5
"""Seconds between two looks at the clock: progress and the ledger's fsync."""
NO_TERMS = Terms()
ALLOCATIONS = 50_000
"""Objects made between two collections of the youngest garbage, while asking (Python's default is 700)."""


class Asker:
    """One asking run over one ledger."""

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        limits: HarvestSection,
        ledger: Ledger,
        failures: Ledger,
        *,
        terms: Mapping[str, Terms] | None = None,
        spending: Spending | None = None,
        store: TokenStore | None = None,
        escalate: EscalateSection | None = None,
        reasoning_required: bool = False,
        top_logprobs: int = 0,
        show: Show | None = None,
        on_trace: Callable[[Trace], None] | None = None,
        on_tick: Callable[[Tally, int], None] | None = None,
        tally: Tally | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.endpoints, self.show, self.on_tick = endpoints, show or Show(0), on_tick
        self.tally = tally or Tally()
        self.spending = spending or Spending(None, None)
        self.desk = Desk(
            limits, ledger, failures, self.tally, self.show, Purse(self.spending), sleep, on_trace, escalate,
            reasoning_required, top_logprobs, store,
        )  # fmt: skip
        self.lanes = {
            name: Lane(name, endpoint, self.desk, (terms or {}).get(name, NO_TERMS))
            for name, endpoint in endpoints.items()
        }

    def run(
        self, wanted: Mapping[str, Iterable[Wanted]], title: str, counts: Mapping[str, int] | None = None
    ) -> Tally:
        """Ask each teacher for what is wanted of it; `counts` says how many that are, for iterables that do not know.

        Raises StopRunError when a lane stopped by itself, StorageError; after Ctrl-C the tally says interrupted.
        """
        known = counts or {name: len(list(items)) for name, items in wanted.items()}
        started = time.monotonic()
        queues = {name: self._warmed_up(name, iter(items), known[name]) for name, items in wanted.items()}
        try:
            with rare_collections(), self._synced_by_ticker():
                asyncio.run(self._run(queues, dict(known), title))
        finally:
            self.tally.elapsed_s += time.monotonic() - started
        stop = self.stop()
        if stop is not None:
            raise stop
        return self.tally

    def stop(self) -> StopRunError | None:
        """Why a lane stopped by itself; the first one if several did."""
        return next((lane.stop for lane in self.lanes.values() if lane.stop is not None), None)

    def _warmed_up(self, name: str, queue: Iterator[Wanted], count: int) -> Iterator[Wanted]:
        """Let our own servers read the beginning that their prompts share once instead of once per slot."""
        endpoint = self.endpoints[name]
        if not endpoint.slots or count < 2:
            return queue
        first = next(queue)
        share_prefix(endpoint, first.messages)
        return chain([first], queue)

    async def _run(self, queues: dict[str, Iterator[Wanted]], counts: dict[str, int], title: str) -> None:
        with self.show.progress(title, sum(counts.values())) as progress:
            lanes = [
                asyncio.create_task(self.lanes[name].work(queue, min(self.lanes[name].most, counts[name])))
                for name, queue in queues.items()
            ]
            await self._until_done(lanes, progress)
            self._update(progress)

    async def _until_done(self, lanes: list[asyncio.Task[None]], progress: Progress) -> None:
        """Wait for the lanes. Raises what a lane or the ticker raises."""
        ticker = asyncio.create_task(self._tick(progress))
        ended = asyncio.create_task(_all_or_first_error(lanes))

        def drop() -> None:
            for lane in lanes:
                lane.cancel()

        with interruptible(self._interrupt, drop):
            try:
                await asyncio.wait([ended, ticker], return_when=asyncio.FIRST_COMPLETED)
            finally:
                drop()
                ticker.cancel()
                results = await asyncio.gather(*lanes, ticker, ended, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _tick(self, progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._update(progress)
            await loop.run_in_executor(
                None, self._sync
            )  # a disk may take its time: answers need not wait for it
            await asyncio.sleep(TICK_S)

    def _sync(self) -> None:
        # Log-probabilities first: no trace shall outlive them.
        for disk in (self.desk.store, self.desk.ledger, self.desk.failures, self.spending):
            if disk is not None:
                disk.sync()

    @contextmanager
    def _synced_by_ticker(self) -> Iterator[None]:
        desk = self.desk
        disks = [x for x in (desk.store, desk.ledger, desk.failures, self.spending.ledger) if x is not None]
        for disk in disks:
            disk.sync_on_append = False
        try:
            yield
        finally:
            for disk in disks:
                disk.sync_on_append = True

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return sum(lane.pace.in_flight for lane in self.lanes.values())

    def _update(self, progress: Progress) -> None:
        spent_s = time.monotonic() - progress.started
        self.tally.spent_usd, self.tally.reserved_usd = self.spending.spent_usd, self.spending.reserved_usd
        detail = self.tally.detail(spent_s, self.in_flight, progress.total)
        progress.update(self.tally.done, detail, len(self.tally.given_up))
        if self.on_tick is not None:
            self.on_tick(self.tally, self.in_flight)

    def _interrupt(self) -> None:
        self.tally.interrupted = True
        for lane in self.lanes.values():
            lane.halt()
        self.show.note(
            f"\nStopping: waiting for {self.in_flight} answers under way (Ctrl-C again drops them).", 0
        )


@contextmanager
def rare_collections() -> Iterator[None]:
    """Inside the block garbage is collected a hundred times less often: thousands of answers that are held for moments
    make the collector look through everything again and again, which costs a tenth of the time and more.
    """
    before = gc.get_threshold()
    gc.set_threshold(ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _all_or_first_error(tasks: list[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
