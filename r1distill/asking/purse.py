"""Waiting for money: a request goes only when its worst case fits into what is left of the budget."""

from __future__ import annotations

import asyncio
from collections import deque

from r1distill.asking.spending import Spending


class Purse:
    """One account that all workers of an asking run draw on, in the order in which they come."""

    def __init__(self, spending: Spending) -> None:
        self.spending = spending
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def reserve(self, trace_id: str, usd: float | None) -> bool:
        """Set aside the most that a request can cost. Waits for requests under way to give back what they did not use.

        False when it does not fit and nothing more can come back: the budget is used up.
        """
        if self.spending.limit_usd is None or self.spending.holds(trace_id):
            return True
        most = usd or 0.0
        while not self.spending.fits(most):
            if not self.spending.reserved_usd:
                self._wake()
                return False
            ticket = asyncio.get_running_loop().create_future()
            self._waiting.append(ticket)
            await ticket
        self.spending.reserve(trace_id, most)
        self._wake()
        return True

    def paid(self, trace_id: str, usd: float | None) -> None:
        """See Spending.paid."""
        self.spending.paid(trace_id, usd)
        self._wake()

    def wasted(self, trace_id: str, usd: float | None, why: str) -> None:
        """See Spending.wasted."""
        self.spending.wasted(trace_id, usd, why)
        self._wake()

    def released(self, trace_id: str) -> None:
        """See Spending.released."""
        self.spending.released(trace_id)
        self._wake()

    def _wake(self) -> None:
        """Let the first one that waits look again; it wakes the next one when it has had its share."""
        while self._waiting:
            ticket = self._waiting.popleft()
            if not ticket.done():
                ticket.set_result(None)
                return
