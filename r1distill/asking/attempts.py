"""The attempts for one answer: through the gate, with its money set aside, and again while the teacher's refusals allow it.

In: a wanted answer and the way to its teacher. Out: the reply, or the Refusal that ended it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from r1distill.asking.billing import Bills
from r1distill.asking.desk import Desk, Terms
from r1distill.asking.exchange import request_body
from r1distill.asking.owed import Wanted
from r1distill.records import trace_id_of
from r1distill.teachers.client import Endpoint
from r1distill.teachers.money import worst_case_usd
from r1distill.teachers.pace import Pace
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply
from r1distill.teachers.retry import policy


class Way(Protocol):
    """The way to one teacher (its lane): what all attempts share."""

    endpoint: Endpoint
    desk: Desk
    terms: Terms
    pace: Pace
    bills: Bills
    stopped: asyncio.Event

    def expected_tokens(self, item: Wanted) -> float:
        """Tokens that a request will use, for the pace."""

    def refused(self, refused: Refusal) -> None:
        """Hear of a refusal, whatever becomes of it."""

    def ever_answered(self) -> bool:
        """True once anything at all came back from the endpoint."""

    async def ask(self, body: dict[str, Any]) -> Reply:
        """One attempt."""

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts."""


class NotSent(Exception):
    """A request that was never sent, since the lane stopped or the budget does not cover it."""

    def __init__(self, no_money: bool) -> None:
        self.no_money = no_money


class Asking:
    """The attempts for one answer."""

    def __init__(self, lane: Way, item: Wanted) -> None:
        self.lane, self.item = lane, item
        self.body = request_body(item, lane.terms.logprobs_body)
        self.trace_id = trace_id_of(item.slot, item.max_tokens)
        self.tokens = lane.expected_tokens(item)
        self.attempts, self.latency_s = 0, 0.0
        self._last: Refusal | None = None

    async def reply(self) -> Reply:
        """The answer. Raises the last Refusal, or NotSent."""
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
        if not await lane.pace.enter(self.tokens):
            raise self._last or NotSent(no_money=False)
        # Only now: who waits for the gate holds no money back, and is no spending if the process is killed.
        if not lane.endpoint.local and not await self._reserved():
            raise NotSent(no_money=True)
        started = time.monotonic()
        self.attempts += 1
        lane.desk.tally.attempts += 1
        try:
            return await lane.ask(self.body)
        except Refusal as refused:
            lane.pace.refund(self.tokens)
            self._note(refused)
            raise
        finally:
            self.latency_s = time.monotonic() - started
            lane.pace.leave()

    async def _reserved(self) -> bool:
        """Set the worst case aside; False, with the place at the gate given back, when the budget does not cover it."""
        fits = False
        try:
            fits = await self.lane.desk.purse.reserve(self.trace_id, self._worst_usd())
        finally:
            if not fits:
                self.lane.pace.leave()
        return fits

    def _note(self, refused: Refusal) -> None:
        self._last = refused
        if refused.action is Action.RETRY:
            self.lane.desk.tally.retries[refused.error_class] += 1
        self.lane.refused(refused)
        self.lane.bills.discarded(self.trace_id, refused)

    def _worst_usd(self) -> float | None:
        return worst_case_usd(self.item.messages, self.item.max_tokens, self.lane.terms.price)
