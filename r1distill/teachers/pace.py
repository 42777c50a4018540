"""One pace for all requests to a teacher: how many are under way, how many a minute, how many tokens a minute.

Every attempt goes through `enter` and ends with `leave`. What the teacher says of itself is honoured once for all workers:
limits in headers set the rate, Retry-After shuts the gate, and an overload (429, 503, 529) cuts the number under way and
the rate by a factor, from where they grow again step by step (additive increase, multiplicative decrease: Chiu and Jain,
1989, https://doi.org/10.1016/0169-7552(89)90019-6). The first requests are let go at a rate that doubles every 0.1 s, so
that a limit is met by a few requests and not by a thousand.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from r1distill.teachers.limits import Limits

FIRST_RATE, DOUBLES_EVERY_S, STARTED_AFTER = 500.0, 0.1, 5_000
"""Requests a second at the start, how fast that grows (1,000 are let go in 0.4 s), and after how many it plays no part."""
FIRST_WAVE, LISTEN_S = 32, 0.5
"""So many requests go before anything is heard; the next ones wait for that, but no longer than so many seconds."""
START_BURST_S = 0.004
"""As BURST_S, while the rate grows."""
SHARE_OF_LIMIT = 0.99
"""Of a limit that the teacher states, so that its own counting never runs out."""
BURST_S = 0.1
"""So many seconds of the rate may be made up for at once, after this process was busy otherwise."""
CUT, CUT_EVERY_S = 0.7, 1.0
"""An overload leaves so much of the number under way; further ones within this time are the echo of the same."""
RATE_CUT, GOODPUT_SHARE, GOODPUT_AFTER_S = 0.5, 0.95, 2.0
"""The rate after a 429 without a stated limit: half of it, or the rate at which answers came since the last one, if that was
watched for so long."""
PLATEAU_S, STEEPNESS = 3.0, 0.002
"""The rate found in this way stays near itself for twice so many seconds, then grows with the third power of the time
(CUBIC: Ha, Rhee and Xu, 2008, https://doi.org/10.1145/1400097.1400105), so that a wrong find is left soon."""
MEMORY_S, FEW_REFUSALS, SHARE_REFUSED = 1.0, 2.5, 0.05
"""A refusal is an overload when about so many came within the last second or so, and they are such a share of all that
ended then: one of a hundred that is refused by chance slows nobody down."""
PAUSE_S = 0.5
"""The gate stays shut so long after a 429 that names no time."""
LONGEST_HOLD_S = 600.0


class Pace:
    """The pace of one teacher."""

    def __init__(
        self,
        max_in_flight: int,
        *,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        limit_window_s: float = 60.0,
        ramp: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.limit = max_in_flight, float(max_in_flight)
        """Requests under way: at most, and at the moment."""
        self.in_flight = 0
        self._fixed = (requests_per_min is not None, tokens_per_min is not None)
        self._rate = requests_per_min / 60 if requests_per_min else None
        self._found = False
        """True: the rate was found by trying, so that it may grow."""
        self._tokens_rate = tokens_per_min / 60 if tokens_per_min else None
        self._window_s, self._clock = limit_window_s, clock
        self._sent = 0 if ramp else STARTED_AFTER
        """Requests let go since the start, or since the gate was shut."""
        self._heard, self._first_at = not ramp, 0.0
        """Whether any of them has ended, and when the first one went."""
        self._shut_until = self._next_at = self._tokens_at = -1e9
        self._cut_at = -1e9
        self._watched_from = clock()
        self._answers = 0
        self._ended = self._refused = 0.0
        """Requests that ended, and that were refused, of late: each fades with MEMORY_S."""
        self._counted_at = 0.0
        self._waiting: deque[tuple[asyncio.Future[bool], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def open(self, most: int) -> None:
        """Set how many requests may be under way at most, from now on."""
        if most != self.most:
            self.most, self.limit = most, float(most)
            self._pump()

    def end(self) -> None:
        """Let nobody go any more: those who wait are told so at once."""
        self._over = True
        while self._waiting:
            ticket, _ = self._waiting.popleft()
            if not ticket.done():
                ticket.set_result(False)

    async def enter(self, tokens: float = 0.0) -> bool:
        """Wait until one more request, of about so many tokens, may go. False: none may, any more."""
        if self._over:
            return False
        if not self._waiting and self._wait_s() <= 0:
            self._let_go(tokens)
            return True
        ticket: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((ticket, tokens))
        self._pump()
        try:
            return await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.result():
                self.leave()
            raise

    def leave(self) -> None:
        """A request that was let go has ended, however it ended."""
        self.in_flight -= 1
        self._heard = True
        self._pump()

    def answered(self, tokens_estimated: float = 0.0, tokens_used: float | None = None) -> None:
        """An answer came: the number under way may grow, and the tokens are counted as they really were."""
        self._answers += 1
        self._count(refused=False)
        self.limit = min(float(self.most), self.limit + max(1.0, self.most / 50) / max(self.limit, 1.0))
        if self._tokens_rate and tokens_used is not None:
            self._tokens_at += (tokens_used - tokens_estimated) / self._tokens_rate

    def refund(self, tokens_estimated: float) -> None:
        """A request was refused, so that it used none of the tokens that it was counted with."""
        if self._tokens_rate:
            self._tokens_at -= tokens_estimated / self._tokens_rate

    def learn(self, limits: Limits) -> None:
        """Take over what the teacher says of its limits, unless the recipe sets them by hand."""
        requests, tokens = limits.requests_limit, limits.tokens_limit or limits.generated_tokens_limit
        if requests and not self._fixed[0] and self._window_s <= 60:
            self._rate, self._found = SHARE_OF_LIMIT * requests / self._window_s, False
        if tokens and not self._fixed[1]:
            self._tokens_rate = SHARE_OF_LIMIT * tokens / 60
        if limits.requests_remaining == 0 and self._window_s > 60 and limits.requests_reset_s:
            self.hold(min(limits.requests_reset_s, self._window_s))

    def hold(self, seconds: float) -> None:
        """Shut the gate for all workers."""
        if seconds > 0:
            self._shut_until = max(self._shut_until, self._clock() + min(seconds, LONGEST_HOLD_S))
            self._sent, self._heard = 0, False  # and not all at once when it opens

    def overloaded(self, rate: bool, wait_s: float | None = None) -> None:
        """The teacher refused for being asked too much; `rate`: it counts requests a minute (429), else it is busy."""
        now = self._clock()
        current = self._current_rate(now)
        drained = (
            now < self._shut_until + CUT_EVERY_S
        )  # by the shut gate: what is under way tells nothing then
        crowded = self._count(refused=True)
        if wait_s is not None or crowded:
            self.hold(wait_s if wait_s is not None else PAUSE_S if rate else 0.0)
        if not crowded or now - self._cut_at < CUT_EVERY_S:
            return
        self.limit = max(1.0, CUT * (self.limit if drained else min(self.limit, float(self.in_flight))))
        if rate and not self._fixed[0] and (self._rate is None or self._found):
            self._find_rate(now, current)
        self._cut_at = self._watched_from = now
        self._answers = 0

    def _count(self, refused: bool) -> bool:
        """Count a request that ended; True when refusals are many of late."""
        now = self._clock()
        fades = math.exp(min(0.0, self._counted_at - now) / MEMORY_S)
        self._ended, self._refused = self._ended * fades + 1, self._refused * fades + refused
        self._counted_at = now
        return self._refused >= FEW_REFUSALS and self._refused >= SHARE_REFUSED * self._ended

    def _find_rate(self, now: float, current: float | None) -> None:
        watched_s = now - self._watched_from
        goodput = self._answers / watched_s if watched_s > 0 else 0.0
        if self._found and watched_s >= GOODPUT_AFTER_S:
            self._rate = GOODPUT_SHARE * goodput
        else:  # what came so far holds a burst that the teacher had saved up, so that it is too much, but a bound
            self._rate = RATE_CUT * min(current or 100.0, 2 * goodput or 1e9)
        self._rate = max(1 / 60, self._rate)
        self._found = True

    def _current_rate(self, now: float) -> float | None:
        """Requests a second at most, now; None: as many as there are."""
        ramp = self._ramp_rate()
        if self._rate is None:
            return ramp
        rate = self._rate
        if self._found:
            rate *= max(0.9, 1 + STEEPNESS * (max(0.0, now - self._cut_at) - PLATEAU_S) ** 3)
        return rate if ramp is None else min(rate, ramp)

    def _ramp_rate(self) -> float | None:
        """Grows with what was sent, not with the clock: a busy process must not make up for lost time at the start.

        dN/dt = r0 2^(t/T) gives N = r0 T / ln 2 (2^(t/T) - 1), so that the rate is r0 + N ln 2 / T.
        """
        if self._sent >= STARTED_AFTER:
            return None
        return FIRST_RATE + self._sent * math.log(2) / DOUBLES_EVERY_S

    def _wait_s(self) -> float:
        """Seconds until the next request may go; infinite while too many are under way."""
        if self.in_flight >= int(self.limit):
            return float("inf")
        now = self._clock()
        soonest = max(self._shut_until, self._tokens_at)
        if self._current_rate(now) is not None:
            soonest = max(soonest, self._next_at)
        if not self._heard and self._sent >= FIRST_WAVE:
            soonest = max(soonest, self._first_at + LISTEN_S)
        return soonest - now

    def _let_go(self, tokens: float) -> None:
        now = self._clock()
        rate = self._current_rate(now)
        self.in_flight += 1
        burst_s = START_BURST_S if self._sent < STARTED_AFTER else BURST_S
        self._first_at = self._first_at if self._sent else now
        self._sent += 1
        if rate is not None:
            self._next_at = max(self._next_at, now - burst_s) + 1 / rate
        if self._tokens_rate:
            self._tokens_at = max(self._tokens_at, now - BURST_S) + tokens / self._tokens_rate

    def _pump(self) -> None:
        """Let those go who may, and come back when the next one may."""
        while self._waiting:
            ticket, tokens = self._waiting[0]
            if ticket.done():  # its worker was cancelled
                self._waiting.popleft()
                continue
            wait_s = self._wait_s()
            if wait_s > 0:
                self._come_back(wait_s)
                return
            self._waiting.popleft()
            self._let_go(tokens)
            ticket.set_result(True)

    def _come_back(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s != float("inf"):
            self._timer = asyncio.get_running_loop().call_later(max(wait_s, 0.002), self._pump_again)

    def _pump_again(self) -> None:
        self._timer = None
        self._pump()
