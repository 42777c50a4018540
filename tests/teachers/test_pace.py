"""The shared pace, on a clock of its own: what may go when, and what a teacher's words change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from r1distill.teachers.limits import Limits
from r1distill.teachers.pace import Pace


class Clockwork(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer, so that minutes pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(work: Callable[[Clockwork], Coroutine[Any, Any, Any]]) -> Any:
    loop = Clockwork()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.close()


def pace(loop: Clockwork, most: int = 1000, **how: Any) -> Pace:
    return Pace(most, clock=loop.time, **how)


async def stream(loop: Clockwork, p: Pace, count: int, latency_s: float, tokens: float = 0.0) -> list[float]:
    """`count` requests through the gate, answered after `latency_s`; when each one went, from the start, in seconds."""
    start, went = loop.time(), []

    async def one() -> None:
        if not await p.enter(tokens):
            return
        went.append(loop.time() - start)
        await asyncio.sleep(latency_s)
        p.leave()
        p.answered(tokens, tokens)

    await asyncio.gather(*(one() for _ in range(count)))
    return went


def test_no_more_than_the_limit_are_under_way_and_no_fewer() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, 3, ramp=False)
        peak = []

        async def one() -> None:
            await p.enter()
            peak.append(p.in_flight)
            await asyncio.sleep(1)
            p.leave()

        await asyncio.gather(*(one() for _ in range(10)))
        assert max(peak) == 3
        assert loop.time() == pytest.approx(1004)

    run(work)


def test_once_something_is_heard_the_others_follow() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop)
        asyncio.get_running_loop().call_later(0.1, lambda: (p.leave(), p.answered()))
        went = await stream(loop, p, 1000, 5.0)
        assert sum(at < 0.1 for at in went) == 32
        assert max(went) < 0.6

    run(work)


def test_the_first_requests_do_not_go_all_at_once_but_soon() -> None:
    async def work(loop: Clockwork) -> None:
        went = await stream(loop, pace(loop), 1000, 5.0)
        assert sum(at < 0.4 for at in went) == 32  # nothing was heard yet
        assert max(went) < 1.0

    run(work)


@pytest.mark.parametrize("by_hand", [True, False])
def test_requests_a_minute_are_kept_and_used(by_hand: bool) -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, requests_per_min=600 if by_hand else None)
        if not by_hand:
            p.learn(Limits(requests_limit=600))
        went = await stream(loop, p, 200, 0.5)
        assert max(went) == pytest.approx(199 / 10 if by_hand else 199 / 9.9, rel=0.03)

    run(work)


def test_what_is_set_by_hand_beats_the_headers() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, requests_per_min=600, tokens_per_min=6000)
        p.learn(Limits(requests_limit=60000, tokens_limit=10.0**9))
        went = await stream(loop, p, 21, 0.1, tokens=100)
        assert max(went) == pytest.approx(20, rel=0.05)  # 100 tokens a second are the narrower limit

    run(work)


def test_a_limit_by_the_day_is_no_rate() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, ramp=False, limit_window_s=86400)
        p.learn(Limits(requests_limit=1000, requests_remaining=500))
        assert max(await stream(loop, p, 50, 0.1)) == 0
        p.learn(Limits(requests_limit=1000, requests_remaining=0, requests_reset_s=30))
        assert min(await stream(loop, p, 1, 0.1)) == pytest.approx(30, abs=0.1)

    run(work)


def test_tokens_are_corrected_by_what_was_used() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, tokens_per_min=6000, ramp=False)
        await p.enter(100)
        p.leave()
        p.answered(100, 1000)  # ten times as many as thought: 9 seconds more to wait
        start = loop.time()
        await p.enter(100)
        assert loop.time() - start == pytest.approx(10, abs=0.3)

    run(work)


def test_retry_after_shuts_the_gate_for_all() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, ramp=False)
        await p.enter()
        p.overloaded(True, 7.0)
        p.leave()
        assert min(await stream(loop, p, 5, 0.1)) == pytest.approx(7.0, abs=0.05)

    run(work)


@pytest.mark.parametrize("rate", [True, False])
def test_an_overload_cuts_once_and_then_grows_again(rate: bool) -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, 100, ramp=False)
        for _ in range(100):
            await p.enter()
        for _ in range(20):  # the echo of one overload
            p.overloaded(rate, 0.0)
        assert p.limit == pytest.approx(70)
        for _ in range(100):
            p.leave()
        p.hold(0.0)
        for _ in range(100):
            p.answered()
        assert 71 < p.limit < 74  # step by step
        for _ in range(2000):
            p.answered()
        assert p.limit == 100

    run(work)


def limited_server(loop: Clockwork, per_s: float, burst: float) -> Callable[[], bool]:
    """A token bucket: True when one more request is within the limit."""
    state = [burst, loop.time()]

    def allows() -> bool:
        state[0] = min(burst, state[0] + (loop.time() - state[1]) * per_s)
        state[1] = loop.time()
        if state[0] < 1:
            return False
        state[0] -= 1
        return True

    return allows


@pytest.mark.parametrize(("headers", "most_refused", "least_share"), [(True, 10, 0.95), (False, 80, 0.9)])
def test_a_real_limit_is_used_and_seldom_hit(headers: bool, most_refused: int, least_share: float) -> None:
    """6,000 requests a minute, a second's worth at once; 6,000 answers. Without headers it must be found by trying."""

    async def work(loop: Clockwork) -> None:
        p, allows, refused = pace(loop), limited_server(loop, 100.0, 100.0), [0]

        async def one() -> None:
            while True:
                await p.enter()
                allowed = allows()
                await asyncio.sleep(0.05 if allowed else 0.003)
                p.leave()
                if headers:
                    p.learn(Limits(requests_limit=6000))
                if allowed:
                    p.answered()
                    return
                refused[0] += 1
                p.overloaded(True)

        start = loop.time()
        queue = [one() for _ in range(6000)]
        await asyncio.gather(*queue)
        share = (6000 - 100) / 100 / (loop.time() - start)
        assert refused[0] <= most_refused
        assert share >= least_share

    run(work)


def test_the_end_wakes_all_who_wait() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, 1, ramp=False)
        assert await p.enter()
        waiting = [asyncio.create_task(p.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        p.end()
        assert await asyncio.gather(*waiting) == [False] * 3
        assert await p.enter() is False
        assert p.in_flight == 1

    run(work)


def test_a_worker_that_is_cancelled_leaves_no_hole() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, 1, ramp=False)
        await p.enter()
        waiting = [asyncio.create_task(p.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        p.leave()
        assert await waiting[1] is True
        assert p.in_flight == 1

    run(work)


def test_opening_wider_lets_more_go() -> None:
    async def work(loop: Clockwork) -> None:
        p = pace(loop, 1, ramp=False)
        await p.enter()
        waiting = asyncio.create_task(p.enter())
        await asyncio.sleep(0)
        assert not waiting.done()
        p.open(2)
        assert await waiting is True

    run(work)
