"""The requests to one teacher: workers that take wanted answers, ask for them at its pace, and put what came on disk.

In: an iterator of Wanted. Out: rows in the ledgers, counts in the tally. A lane stops by itself when its teacher refuses
for a reason that no retry can cure, falls silent, or costs more than the budget has left; other lanes go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from r1distill.errors import StopRunError
from r1distill.exchange import (
    all_final_error,
    failure_of,
    hiding_error,
    no_answer_error,
    request_body,
    stop_error,
    trace_of,
)
from r1distill.ledger import Ledger
from r1distill.owed import Wanted, escalated
from r1distill.purse import Purse
from r1distill.recipe_sections import EscalateSection, HarvestSection, PriceSection
from r1distill.records import Trace, trace_id_of
from r1distill.show import Show
from r1distill.tally import Tally
from r1distill.teachers.asked import Asked
from r1distill.teachers.client import ChatClient, Endpoint
from r1distill.teachers.hiding import ReasoningWatch
from r1distill.teachers.limits import NO_LIMITS, limits_of
from r1distill.teachers.logprobs import decode
from r1distill.teachers.money import cost_usd, most_prompt_tokens, worst_case_usd
from r1distill.teachers.pace import Pace
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply
from r1distill.teachers.retry import Sleep, policy
from r1distill.token_logprobs import TokenLogprobs

SILENT_S, SILENT_ITEMS = 300.0, 20
"""A lane stops when so many requests in a row were given up and the last answer is so many seconds ago."""
FIRST_IN_FLIGHT = 4
"""Requests under way until it is known that a teacher shows its reasoning, where the recipe requires that."""
REFUSED_ITEMS = 3
"""So many requests must be refused, and none answered, before a refusal that names no parameter is the recipe's fault."""
FINAL_ITEMS = 20
"""So many items in a row that can never be answered, and none that was, are the recipe's fault as well."""
CROWDED = {"rate": True, "overload": False}
"""Error classes of a teacher that is asked too much; True: it counts requests a minute."""


class TokenStore(Protocol):
    """Where log-probabilities go."""

    def append(self, trace_id: str, slot: str, record: TokenLogprobs) -> None:
        """Keep the record of one answer, before its trace is written."""

    def sync(self) -> None:
        """Fsync what was kept."""


class Desk(NamedTuple):
    """What all lanes of an asking run share."""

    limits: HarvestSection
    ledger: Ledger
    failures: Ledger
    tally: Tally
    show: Show
    purse: Purse
    sleep: Sleep
    on_trace: Callable[[Trace], None] | None = None
    escalate: EscalateSection | None = None
    reasoning_required: bool = False
    top_logprobs: int = 0
    store: TokenStore | None = None


class Terms(NamedTuple):
    """On what terms one teacher is asked."""

    price: PriceSection | None = None
    max_in_flight: int | None = None
    """Default: harvest.max_in_flight."""
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    limit_window_s: float = 60.0
    """What the endpoint's x-ratelimit-limit-requests counts in."""
    logprobs_body: Mapping[str, Any] = MappingProxyType({})
    """Request fields that ask for log-probabilities."""
    useful: bool = False
    """It gave usable answers in earlier runs."""


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
        self._useful = terms.useful
        """True once it gave a usable answer, in this run or an earlier one: what it refuses then is the item's fault."""
        self._given_up, self._answered_at = 0, time.monotonic()
        self._refused = self._finals = 0
        self._doubt: StopRunError | None = None
        """Why it would stop if nothing is ever answered."""
        self._watch = ReasoningWatch()
        self._asked = Asked()
        self._mean_tokens = 0.0
        self._answers = 0
        if desk.reasoning_required:
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
        async with self.client() as self._client:
            workers = [asyncio.create_task(self._worker(queue)) for _ in range(count)]
            try:
                await asyncio.gather(*workers)
                if self._doubt is not None and not self._useful:
                    self._stop(self._doubt)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self, queue: Iterator[Wanted]) -> None:
        for item in queue:
            if self.stopped.is_set():
                return
            self.desk.tally.asked += 1
            following: Wanted | None = item
            while following is not None:
                following = await self._one(following)

    async def _one(self, item: Wanted) -> Wanted | None:
        """Ask for one answer until it is there or given up; returns the same with a higher ceiling if it was cut."""
        asking = _Asking(self, item)
        try:
            reply = await asking.reply()
        except _NotSent as never:
            if item.escalated:
                self.desk.tally.escalated -= 1
            else:
                self.desk.tally.asked -= 1
            self.desk.purse.released(asking.trace_id)
            if never.no_money:
                self.desk.tally.over_budget = True
                self.halt()
            return None
        except Refusal as refused:
            self._record_failure(item, refused, asking.attempts)
            self.desk.purse.released(asking.trace_id)
            return None
        trace = self._record(item, reply, asking)
        return self._once_more(item, trace)

    def _once_more(self, item: Wanted, trace: Trace) -> Wanted | None:
        higher = escalated(item.max_tokens, self.desk.escalate)
        if trace.finish != "length" or item.escalated or higher is None or self.stopped.is_set():
            return None
        self.desk.tally.escalated += 1
        return item.with_ceiling(higher)

    def expected_tokens(self, item: Wanted) -> float:
        """Tokens that a request will use, by the answers so far; for the pace."""
        mean = self._mean_tokens if self._answers else (item.max_tokens or 4096) / 4
        return most_prompt_tokens(item.messages) / 4 + mean

    def _record(self, item: Wanted, reply: Reply, asking: _Asking) -> Trace:
        desk = self.desk
        trace = trace_of(item, reply, self.cost(reply), asking.attempts, asking.latency_s)
        alternatives = self._keep_logprobs(item, reply, trace)
        desk.ledger.append(trace)
        desk.purse.paid(trace.id, trace.cost_usd)
        desk.tally.add(trace)
        self._useful = True
        self._given_up, self._answered_at = 0, time.monotonic()
        self._answers += 1
        used = trace.usage.completion_tokens
        if used is not None:
            self._mean_tokens += (used - self._mean_tokens) / min(self._answers, 200)
            used += trace.usage.prompt_tokens or 0
        self.pace.answered(asking.tokens, used)
        self._look_at(trace, reply, alternatives)
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

    def _look_at(self, trace: Trace, reply: Reply, alternatives: int | None) -> None:
        """Notice a teacher that hides its reasoning, and what was asked for and not given."""
        summary = str(trace.extras.get("reasoning_summary", ""))
        found = self._watch.see(
            trace.reasoning, trace.reasoning_source, trace.usage.reasoning_tokens, summary
        )
        if found is not None:
            self._warn(found.sentence(self.name))
            if self.desk.reasoning_required:
                self._stop(hiding_error(found.sentence(self.name)))
        elif self._watch.settled and self.desk.reasoning_required and not self.stopped.is_set():
            self.pace.open(self.most)
        came = reply.logprobs is not None
        for text in self._asked.see(trace, reply.choices, came, alternatives, self.desk.top_logprobs):
            self._warn(text)

    def _warn(self, text: str) -> None:
        if text not in self.desk.tally.warnings:
            self.desk.tally.warnings.append(text)
            self.desk.show.note(text)

    def cost(self, reply: Reply) -> float | None:
        """USD of an answer: 0 from our own machine, the teacher's own figure, or by the recipe's price."""
        if self.endpoint.local:
            return 0.0
        return reply.cost_usd if reply.cost_usd is not None else cost_usd(reply.usage, self.terms.price)

    def discarded(self, trace_id: str, refused: Refusal) -> None:
        """Account for an attempt that gave nothing usable."""
        if self.endpoint.local:
            return
        tally, purse = self.desk.tally, self.desk.purse
        before = purse.spending.lost_usd
        if refused.usage is not None:
            purse.wasted(trace_id, cost_usd(refused.usage, self.terms.price), refused.error_class)
        elif refused.maybe_billed:
            tally.maybe_billed += 1
            purse.wasted(trace_id, None, refused.error_class)
        tally.lost_usd += purse.spending.lost_usd - before

    def refused(self, refused: Refusal) -> None:
        """Slow down when that is what the teacher asks for."""
        if refused.error_class in CROWDED:
            self.pace.overloaded(CROWDED[refused.error_class], refused.wait_s)
        elif refused.wait_s:
            self.pace.hold(refused.wait_s)

    def _record_failure(self, item: Wanted, refused: Refusal, attempts: int) -> None:
        if refused.error_class == "refused_request" and self._useful:
            # The same settings were answered before, so it is this problem that the teacher does not take.
            refused.action, refused.error_class = Action.FINAL, "invalid_item"
        final = refused.action is Action.FINAL
        self.desk.failures.append(failure_of(item, refused, attempts))
        self.desk.tally.add_failure(item.slot, refused.error_class, final)
        self._given_up += not final
        self._finals += final
        reason = None if self.stopped.is_set() else self._reason_to_stop(refused)
        if reason is not None:
            self._stop(reason)

    def _reason_to_stop(self, refused: Refusal) -> StopRunError | None:
        if refused.action is Action.FINAL:
            nothing_else = self._finals >= FINAL_ITEMS and not self._useful
            return all_final_error(self.name, self._finals, refused) if nothing_else else None
        never_reached = refused.error_class == "unreachable" and not self._client.answered
        if refused.action is Action.STOP or never_reached:
            stop = stop_error(self.name, self.endpoint.base_url, refused)
            if refused.error_class != "refused_request":
                return stop
            self._refused, self._doubt = self._refused + 1, stop
            return stop if self._refused >= REFUSED_ITEMS else None
        silent_s = time.monotonic() - self._answered_at
        if self._given_up >= SILENT_ITEMS and silent_s >= SILENT_S:
            return no_answer_error(self.name, silent_s, refused)
        return None

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


class _NotSent(Exception):
    """A request that was never sent, since the lane stopped or the budget does not cover it."""

    def __init__(self, no_money: bool) -> None:
        self.no_money = no_money


class _Asking:
    """The attempts for one answer."""

    def __init__(self, lane: Lane, item: Wanted) -> None:
        self.lane, self.item = lane, item
        self.body = request_body(item, lane.terms.logprobs_body)
        self.trace_id = trace_id_of(item.slot, item.max_tokens)
        self.tokens = lane.expected_tokens(item)
        self.attempts, self.latency_s = 0, 0.0
        self._last: Refusal | None = None

    async def reply(self) -> Reply:
        """The answer. Raises the last Refusal, or _NotSent."""
        try:
            return await self._attempt()  # without the retry machinery: most requests need none
        except Refusal as refused:
            if refused.action is not Action.RETRY:
                raise
            first = refused
        lane, pending = self.lane, [first]

        async def again() -> Reply:
            if pending:
                raise pending.pop()
            return await self._attempt()

        retrying = policy(lane.desk.limits.max_attempts, lane.pause, lane.ever_answered, lane.stopped.is_set)
        answer: Reply = await retrying(again)
        return answer

    async def _attempt(self) -> Reply:
        lane = self.lane
        if lane.stopped.is_set() and self._last is not None:
            raise self._last
        if not lane.endpoint.local and not await lane.desk.purse.reserve(self.trace_id, self._worst_usd()):
            raise self._last or _NotSent(no_money=True)
        if not await lane.pace.enter(self.tokens):
            raise self._last or _NotSent(no_money=False)
        started = time.monotonic()
        self.attempts += 1
        lane.desk.tally.attempts += 1
        try:
            return await lane.ask(self.body)
        except Refusal as refused:
            self._note(refused)
            raise
        finally:
            self.latency_s = time.monotonic() - started
            lane.pace.leave()

    def _note(self, refused: Refusal) -> None:
        self._last = refused
        if refused.action is Action.RETRY:
            self.lane.desk.tally.retries[refused.error_class] += 1
        self.lane.refused(refused)
        self.lane.discarded(self.trace_id, refused)

    def _worst_usd(self) -> float | None:
        return worst_case_usd(self.item.messages, self.item.max_tokens, self.lane.terms.price)
