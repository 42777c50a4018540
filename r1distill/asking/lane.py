"""The requests to one teacher: workers that take wanted answers, ask for them at its pace, and put what came on disk.

In: an iterator of Wanted. Out: rows in the ledgers, counts in the tally. A lane stops by itself when its teacher refuses
for a reason that no retry can cure, falls silent, or costs more than the budget has left; other lanes go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from r1distill.asking.attempts import Asking, NotSent
from r1distill.asking.billing import Bills
from r1distill.asking.desk import Desk, Terms
from r1distill.asking.exchange import failure_of, hiding_error, trace_of
from r1distill.asking.noticing import Noticing
from r1distill.asking.owed import Wanted, escalated
from r1distill.asking.patience import Patience
from r1distill.errors import StopRunError
from r1distill.records import Trace
from r1distill.teachers.client import ChatClient, Endpoint
from r1distill.teachers.limits import NO_LIMITS, limits_of
from r1distill.teachers.logprobs import decode
from r1distill.teachers.money import most_prompt_tokens
from r1distill.teachers.pace import Pace
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply

FIRST_IN_FLIGHT = 2
"""Requests under way until it is known that a teacher shows its reasoning, where the recipe requires that."""
CROWDED = {"rate": True, "overload": False}
"""Error classes of a teacher that is asked too much; True: it counts requests a minute."""


class Lane:
    """One teacher in an asking run."""

    def __init__(self, name: str, endpoint: Endpoint, desk: Desk, terms: Terms) -> None:
        self.name, self.endpoint, self.desk, self.terms = name, endpoint, desk, terms
        self.most = terms.max_in_flight or desk.limits.max_in_flight
        """Requests under way at once; our own servers get no more than they decode side by side."""
        if endpoint.slots:
            self.most = min(self.most, endpoint.slots)
        self.pace = Pace(
            self.most,
            requests_per_min=terms.requests_per_min,
            tokens_per_min=terms.tokens_per_min,
            limit_window_s=terms.limit_window_s,
            ramp=not endpoint.local,
        )
        self.stop: StopRunError | None = None
        """Why it stopped by itself, if it is an error."""
        self.stopped = asyncio.Event()
        self._patience = Patience(name, endpoint.base_url, bool(terms.recent), self._note_failure)
        self._noticing = Noticing(name, desk, terms)
        self.bills = Bills(endpoint, desk, terms)
        self._mean_tokens = 0.0
        self._answers = 0
        if desk.reasoning_required and not self._noticing.settled:
            self.pace.open(FIRST_IN_FLIGHT)

    def client(self) -> ChatClient:
        """A client of its endpoint, not yet opened."""
        limits = self.desk.limits
        return ChatClient(
            self.endpoint,
            idle_timeout_s=limits.idle_timeout_s,
            total_timeout_s=limits.total_timeout_s,
            stream=limits.stream,
            on_headers=self._hear,
        )

    def _hear(self, headers: Mapping[str, str]) -> None:
        limits = limits_of(headers)
        if limits is not NO_LIMITS:
            self.pace.learn(limits)

    async def work(self, queue: Iterator[Wanted], count: int) -> None:
        """Ask for everything in the queue, `count` workers side by side. Raises StorageError."""
        try:
            async with self.client() as self._client:
                await self._all_workers(queue, count)
        except StopRunError as stop:  # what the endpoint can't be asked by at all: a proxy of another kind
            self._stop(stop)
        if self._patience.doubt is not None and not self._patience.useful:
            self._stop(self._patience.doubt)

    async def _all_workers(self, queue: Iterator[Wanted], count: int) -> None:
        workers = [asyncio.create_task(self._worker(queue)) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._patience.end()

    async def _worker(self, queue: Iterator[Wanted]) -> None:
        for item in queue:
            if self.stopped.is_set():
                return
            self.desk.tally.asked += 1
            higher = await self._one(item)
            if higher is not None:
                self.desk.tally.escalated += 1
                await self._one(higher, again=True)

    async def _one(self, item: Wanted, again: bool = False) -> Wanted | None:
        """Ask for one answer until it is there or given up; returns the same with a higher ceiling if it was cut.

        `again`: it is such a one itself, and counted already.
        """
        asking = Asking(self, item)
        try:
            reply = await asking.reply()
        except NotSent as never:
            if again:
                self.desk.tally.escalated -= 1
            else:
                self.desk.tally.asked -= 1
            self.desk.purse.released(asking.trace_id)
            if never.no_money:
                self.desk.tally.over_budget = True
                self.halt()
            return None
        except Refusal as refused:
            self._given_up(item, refused, asking.attempts)
            self.desk.purse.released(asking.trace_id)
            return None
        return self._once_more(item, self._record(item, reply, asking))

    def _once_more(self, item: Wanted, trace: Trace) -> Wanted | None:
        higher = escalated(item.max_tokens, self.desk.escalate)
        if trace.finish != "length" or item.escalated or higher is None or self.stopped.is_set():
            return None
        return item.with_ceiling(higher)

    def expected_tokens(self, item: Wanted) -> float:
        """Tokens that a request will use, by the answers so far; for the pace."""
        mean = self._mean_tokens if self._answers else (item.max_tokens or 4096) / 4
        return most_prompt_tokens(item.messages) / 4 + mean

    def _record(self, item: Wanted, reply: Reply, asking: Asking) -> Trace:
        desk = self.desk
        trace = trace_of(item, reply, self.bills.of(reply), asking.attempts, asking.latency_s)
        alternatives = self._keep_logprobs(item, reply, trace)
        desk.ledger.append(trace)
        desk.purse.paid(trace.id, trace.cost_usd)
        desk.tally.add(trace)
        self._patience.answered()
        self._answers += 1
        used = trace.usage.completion_tokens
        if used is not None:
            self._mean_tokens += (used - self._mean_tokens) / min(self._answers, 200)
            used += trace.usage.prompt_tokens or 0
        self.pace.answered(asking.tokens, used)
        hiding = self._noticing.look(item, reply, trace, alternatives)
        if hiding is not None and desk.reasoning_required:
            self._stop(hiding_error(hiding))
        elif self._noticing.settled and not self.stopped.is_set():
            self.pace.open(self.most)
        if desk.on_trace is not None:
            desk.on_trace(trace)
        return trace

    def _keep_logprobs(self, item: Wanted, reply: Reply, trace: Trace) -> int | None:
        """Store the log-probabilities, if they were asked for; returns how many alternatives came."""
        desk = self.desk
        if not desk.top_logprobs or reply.logprobs is None or desk.store is None:
            return None
        record = decode(reply.logprobs, desk.top_logprobs, reply.split)
        if record is None:
            return None
        desk.store.append(trace.id, item.slot, record)
        return record.k

    def refused(self, refused: Refusal) -> None:
        """Slow down when that is what the teacher asks for."""
        if refused.error_class in CROWDED:
            self.pace.overloaded(CROWDED[refused.error_class], refused.wait_s)
        elif refused.wait_s:
            self.pace.hold(refused.wait_s)

    def _given_up(self, item: Wanted, refused: Refusal, attempts: int) -> None:
        reason = self._patience.refused(item, refused, attempts, self._client.answered)
        if reason is not None and not self.stopped.is_set():
            self._stop(reason)

    def _note_failure(self, item: Wanted, refused: Refusal, attempts: int) -> None:
        self.desk.failures.append(failure_of(item, refused, attempts))
        self.desk.tally.add_failure(item.slot, refused.error_class, refused.action is Action.FINAL)

    def _stop(self, reason: StopRunError) -> None:
        self.stop = self.stop or reason
        self.desk.tally.stopped.setdefault(self.name, str(reason))
        self.halt()

    def halt(self) -> None:
        """Send nothing more; what is under way arrives."""
        self.stopped.set()
        self.pace.end()

    def ever_answered(self) -> bool:
        """True once anything at all came back from the endpoint."""
        return self._client.answered

    async def ask(self, body: dict[str, Any]) -> Reply:
        """One attempt."""
        return await self._client.ask(body)

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts, but no longer than until the lane is told to stop."""
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self.desk.sleep(seconds)),
            asyncio.ensure_future(self.stopped.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
