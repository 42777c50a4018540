"""What answers and lost attempts of one teacher cost, noted where the budget is kept.

In: replies and refusals. Out: dollars (None: unknown, never 0), entries in the purse and the tally.
"""

from __future__ import annotations

from r1distill.asking.desk import Desk, Terms
from r1distill.records import Usage
from r1distill.teachers.client import Endpoint
from r1distill.teachers.money import cost_usd
from r1distill.teachers.refusals import Refusal
from r1distill.teachers.replies import Reply


class Bills:
    """The bills of one teacher."""

    def __init__(self, endpoint: Endpoint, desk: Desk, terms: Terms) -> None:
        self._endpoint, self._desk, self._terms = endpoint, desk, terms

    def of(self, reply: Reply) -> float | None:
        """USD of an answer: 0 from our own machine, the teacher's own figure, or by the recipe's price."""
        if self._endpoint.local:
            return 0.0
        return self._own_or_by_price(reply.cost_usd, reply.usage)

    def _own_or_by_price(self, own_usd: float | None, usage: Usage) -> float | None:
        """The teacher's own figure, unless that is a 0 which a proxy filled in for "not known"."""
        by_price = cost_usd(usage, self._terms.price)
        return by_price if own_usd is None or (own_usd == 0 and by_price) else own_usd

    def discarded(self, trace_id: str, refused: Refusal) -> None:
        """Account for an attempt that gave nothing usable."""
        if self._endpoint.local:
            return
        tally, purse = self._desk.tally, self._desk.purse
        before = purse.spending.lost_usd
        known = None if refused.usage is None else self._own_or_by_price(refused.cost_usd, refused.usage)
        if known is not None:
            purse.wasted(trace_id, known, refused.error_class)
        elif refused.maybe_billed or refused.usage is not None:
            tally.maybe_billed += 1
            purse.wasted(trace_id, None, refused.error_class)
        else:  # nothing was paid: while it waits for its next attempt it holds no money back
            purse.released(trace_id)
        tally.lost_usd += purse.spending.lost_usd - before
