"""Waiting for money: in order, until it is there or can't come any more."""

from __future__ import annotations

import asyncio

from r1distill.asking.purse import Purse
from r1distill.asking.spending import Spending


def test_a_request_waits_until_another_gives_money_back() -> None:
    async def work() -> None:
        purse = Purse(Spending(None, 1.0))
        assert await purse.reserve("a", 0.8)
        waiting = asyncio.create_task(purse.reserve("b", 0.8))
        await asyncio.sleep(0)
        assert not waiting.done()
        purse.paid("a", 0.1)
        assert await waiting

    asyncio.run(work())


def test_all_who_wait_are_told_when_nothing_can_come_back() -> None:
    async def work() -> None:
        purse = Purse(Spending(None, 1.0))
        assert await purse.reserve("a", 0.8)
        waiting = [asyncio.create_task(purse.reserve(name, 0.8)) for name in "bcd"]
        await asyncio.sleep(0)
        purse.paid("a", 0.7)
        assert await asyncio.gather(*waiting) == [False] * 3
        assert await purse.reserve("e", 0.3)  # a cheaper one still fits

    asyncio.run(work())


def test_never_more_than_the_budget_is_out() -> None:
    async def work() -> None:
        spending = Spending(None, 1.0)
        purse, most = Purse(spending), [0.0]

        async def one(number: int) -> bool:
            if not await purse.reserve(str(number), 0.3):
                return False
            most[0] = max(most[0], spending.spent_usd + spending.reserved_usd)
            await asyncio.sleep(0)
            purse.paid(str(number), 0.05 if number % 3 else 0.3)
            return True

        done = await asyncio.gather(*(one(number) for number in range(50)))
        assert 0.7 < spending.spent_usd <= 1.0
        assert most[0] <= 1.0 + 1e-9
        assert 3 <= sum(done) < 50

    asyncio.run(work())


def test_a_second_attempt_keeps_its_reservation() -> None:
    async def work() -> None:
        purse = Purse(Spending(None, 1.0))
        assert await purse.reserve("a", 0.8)
        assert await purse.reserve("a", 0.8)
        assert purse.spending.reserved_usd == 0.8

    asyncio.run(work())


def test_without_a_budget_nobody_waits() -> None:
    assert asyncio.run(Purse(Spending(None, None)).reserve("a", None))
