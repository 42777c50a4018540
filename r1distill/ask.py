"""The asking engine that harvest, evaluate and the judge share: owed slots in, traces in a ledger out.

Promises: an answer is in the ledger before it is counted; a failed request is recorded apart and stays owed unless
asking again can't help; Ctrl-C stops asking and lets the answers under way arrive (a second one drops them).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AsyncExitStack
from typing import Any

from r1distill.errors import StopRunError
from r1distill.exchange import failure_of, no_answer_error, request_body, stop_error, trace_of
from r1distill.interrupt import interruptible
from r1distill.ledger import Ledger
from r1distill.owed import Wanted
from r1distill.recipe_sections import HarvestSection, PriceSection
from r1distill.records import Trace
from r1distill.show import Progress, Show
from r1distill.tally import Tally
from r1distill.teachers.client import ChatClient, Endpoint
from r1distill.teachers.embedded import share_prefix
from r1distill.teachers.money import cost_usd
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply
from r1distill.teachers.retry import Sleep, policy

TICK_S = 0.5
"""Seconds between two looks at the clock: progress and the ledger's fsync."""
SILENT_S, SILENT_ITEMS = 300.0, 20
"""The run stops when so many requests in a row were given up and the last answer is so many seconds ago."""


class Asker:
    """One asking run over one ledger."""

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        limits: HarvestSection,
        ledger: Ledger,
        failures: Ledger,
        *,
        prices: dict[str, PriceSection | None] | None = None,
        show: Show | None = None,
        on_trace: Callable[[Trace], None] | None = None,
        answered_before: Collection[str] = (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.endpoints, self.limits, self.ledger, self.failures = endpoints, limits, ledger, failures
        self.prices = prices or {}
        self.show, self.on_trace, self.sleep = show or Show(0), on_trace, sleep
        self.tally = Tally()
        self._clients: dict[str, ChatClient] = {}
        self._useful = set(answered_before)
        """Teachers that answered before, in this run or an earlier one: what they refuse now is the item's fault."""
        """Teachers that gave a usable answer in this run."""
        self._given_up = 0
        """Requests given up since the last answer."""
        self._answered_at = time.monotonic()
        self._stop: StopRunError | None = None
        self._stopped = asyncio.Event()
        self._in_flight = 0

    def run(self, wanted: list[Wanted], title: str) -> Tally:
        """Ask for everything wanted. Raises StopRunError, StorageError; after Ctrl-C the tally says interrupted."""
        started = time.monotonic()
        self._warm_up(wanted)
        try:
            asyncio.run(self._run(wanted, title))
        finally:
            self.tally.elapsed_s = time.monotonic() - started
        if self._stop is not None:
            raise self._stop
        return self.tally

    def _warm_up(self, wanted: list[Wanted]) -> None:
        """Let our own servers read the beginning that their prompts share once instead of once per slot."""
        for name, endpoint in self.endpoints.items():
            theirs = [item for item in wanted if item.teacher == name]
            if endpoint.slots and len(theirs) > 1:
                share_prefix(endpoint, theirs[0].messages)

    async def _run(self, wanted: list[Wanted], title: str) -> None:
        async with AsyncExitStack() as stack:
            for name in self.endpoints:
                self._clients[name] = await stack.enter_async_context(self._client(name))
            with self.show.progress(title, len(wanted)) as progress:
                await self._work(iter(wanted), min(self._in_flight_limit(), len(wanted)), progress)
                self._update(progress)

    def _in_flight_limit(self) -> int:
        """Requests under way at once; our own servers get no more than they decode, so that latency is no queueing."""
        slots = [endpoint.slots for endpoint in self.endpoints.values()]
        return min(self.limits.max_in_flight, sum(slots)) if all(slots) else self.limits.max_in_flight

    async def _work(self, queue: Iterator[Wanted], count: int, progress: Progress) -> None:
        """Run `count` workers until the queue is empty or the run stops. Raises what a worker or the ticker raises."""
        workers = [asyncio.create_task(self._worker(queue)) for _ in range(count)]
        ticker = asyncio.create_task(self._tick(progress))
        ended = asyncio.create_task(_all_or_first_error(workers))

        def drop() -> None:
            for worker in workers:
                worker.cancel()

        with interruptible(self._interrupt, drop):
            try:
                await asyncio.wait([ended, ticker], return_when=asyncio.FIRST_COMPLETED)
            finally:
                drop()
                ticker.cancel()
                results = await asyncio.gather(*workers, ticker, ended, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _client(self, name: str) -> ChatClient:
        limits = self.limits
        return ChatClient(
            self.endpoints[name],
            idle_timeout_s=limits.idle_timeout_s,
            total_timeout_s=limits.total_timeout_s,
            stream=limits.stream,
        )

    async def _worker(self, queue: Iterator[Wanted]) -> None:
        for item in queue:
            self.tally.asked += 1
            self._in_flight += 1
            try:
                await self._one(item)
            finally:
                self._in_flight -= 1
            if self._stopped.is_set():
                return

    async def _one(self, item: Wanted) -> None:
        client = self._clients[item.teacher]
        body = request_body(item)
        attempts, started = 0, time.monotonic()
        last: Refusal | None = None

        async def attempt() -> Reply:
            nonlocal attempts, started, last
            if last is not None and self._stopped.is_set():
                raise last
            attempts, started = attempts + 1, time.monotonic()
            self.tally.attempts += 1
            try:
                return await client.ask(body)
            except Refusal as refused:
                if refused.action is Action.RETRY:
                    self.tally.retries[refused.error_class] += 1
                last = refused
                raise

        try:
            reply: Reply = await policy(
                self.limits.max_attempts, self._pause, lambda: client.answered, self._stopped.is_set
            )(attempt)
        except Refusal as refused:
            self._record_failure(item, refused, attempts)
            return
        self._record(item, reply, attempts, time.monotonic() - started)

    async def _pause(self, seconds: float) -> None:
        """Wait between two attempts, but no longer than until the run is told to stop."""
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self.sleep(seconds)),
            asyncio.ensure_future(self._stopped.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _record(self, item: Wanted, reply: Reply, attempts: int, latency_s: float) -> None:
        trace = trace_of(item, reply, self._cost(item.teacher, reply), attempts, latency_s)
        self.ledger.append(trace)
        self.tally.add(trace)
        self._useful.add(item.teacher)
        self._given_up, self._answered_at = 0, time.monotonic()
        if self.on_trace is not None:
            self.on_trace(trace)

    def _cost(self, teacher: str, reply: Reply) -> float | None:
        if self.endpoints[teacher].local:
            return 0.0
        return (
            reply.cost_usd if reply.cost_usd is not None else cost_usd(reply.usage, self.prices.get(teacher))
        )

    def _record_failure(self, item: Wanted, refused: Refusal, attempts: int) -> None:
        if refused.error_class == "refused_request" and item.teacher in self._useful:
            # The same settings were answered before, so it is this problem that the teacher does not take.
            refused.action, refused.error_class = Action.FINAL, "invalid_item"
        final = refused.action is Action.FINAL
        self.failures.append(failure_of(item, refused, attempts))
        self.tally.failed_final += final
        self.tally.failed_open += not final
        if not final and not self._stopped.is_set():
            self._given_up += 1
            self._stop = self._reason_to_stop(item.teacher, refused)
            if self._stop is not None:
                self._stopped.set()

    def _reason_to_stop(self, teacher: str, refused: Refusal) -> StopRunError | None:
        never_reached = refused.error_class == "unreachable" and not self._clients[teacher].answered
        if refused.action is Action.STOP or never_reached:
            return stop_error(teacher, self.endpoints[teacher].base_url, refused)
        silent_s = time.monotonic() - self._answered_at
        if self._given_up >= SILENT_ITEMS and silent_s >= SILENT_S:
            return no_answer_error(teacher, silent_s, refused)
        return None

    async def _tick(self, progress: Progress) -> None:
        while True:
            self._update(progress)
            self.ledger.sync()
            self.failures.sync()
            await asyncio.sleep(TICK_S)

    def _update(self, progress: Progress) -> None:
        spent_s = time.monotonic() - progress.started
        progress.update(self.tally.done, self.tally.detail(spent_s, self._in_flight))

    def _interrupt(self) -> None:
        self.tally.interrupted = True
        self._stopped.set()
        self.show.note(
            f"\nStopping: waiting for {self._in_flight} answers under way (Ctrl-C again drops them).", 0
        )


async def _all_or_first_error(tasks: list[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
