"""The retry policy without a second of sleep, and the wait that a teacher asks for."""

from __future__ import annotations

import asyncio
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.retry import LAST_BOUND_S, LONGEST_ASKED_WAIT_S, asked_wait_s, policy


class Trial:
    """Runs an attempt that fails as told, and notes the waits."""

    def __init__(
        self, *refusals: Refusal, most: int = 6, answered: bool = True, stop_after: int = 99
    ) -> None:
        self.refusals, self.waits, self.attempts = list(refusals), [], 0
        self.most, self.answered, self.stop_after = most, answered, stop_after

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def run(self) -> str:
        async def attempt() -> str:
            self.attempts += 1
            if self.refusals:
                raise self.refusals.pop(0)
            return "ok"

        retrying = policy(
            self.most, self.sleep, lambda: self.answered, lambda: self.attempts >= self.stop_after
        )
        found: str = asyncio.run(retrying(attempt))
        return found

    waits: list[float]


def retry(error_class: str = "server", wait_s: float | None = None) -> Refusal:
    return Refusal(Action.RETRY, error_class, "x", 500, wait_s)


def test_retries_until_it_works() -> None:
    trial = Trial(retry(), retry(), retry("rate"))
    assert trial.run() == "ok"
    assert trial.attempts == 4
    assert all(0 <= wait <= LAST_BOUND_S for wait in trial.waits)


def test_gives_up_after_max_attempts_with_the_last_refusal() -> None:
    last = retry("overload")
    trial = Trial(retry(), retry(), last, retry(), most=3)
    with pytest.raises(Refusal) as caught:
        trial.run()
    assert caught.value is last
    assert trial.attempts == 3


@pytest.mark.parametrize("action", [Action.STOP, Action.FINAL])
def test_what_can_not_help_is_not_retried(action: Action) -> None:
    trial = Trial(Refusal(action, "x", "x"))
    with pytest.raises(Refusal):
        trial.run()
    assert (trial.attempts, trial.waits) == (1, [])


def test_other_errors_pass_through() -> None:
    async def attempt() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(policy(3, asyncio.sleep, lambda: True, lambda: False)(attempt))


def test_the_teachers_own_wait_is_honoured_up_to_a_bound() -> None:
    trial = Trial(retry("rate", 7.0), retry("rate", 0.0), retry("rate", 1e6))
    trial.run()
    assert trial.waits == [7.0, 0.0, LONGEST_ASKED_WAIT_S]


def test_an_endpoint_that_never_answered_is_given_up_early() -> None:
    trial = Trial(*[retry("unreachable") for _ in range(9)], answered=False)
    with pytest.raises(Refusal):
        trial.run()
    assert trial.attempts == 3
    trial = Trial(*[retry("unreachable") for _ in range(9)], answered=True)
    with pytest.raises(Refusal):
        trial.run()
    assert trial.attempts == 6


def test_empty_answers_are_paid_for_so_two_are_enough() -> None:
    trial = Trial(retry("rate"), retry("empty"), retry("rate"), retry("empty"), retry())
    with pytest.raises(Refusal) as caught:
        trial.run()
    assert (trial.attempts, caught.value.error_class) == (4, "empty")


def test_a_stopping_run_retries_no_more() -> None:
    trial = Trial(retry(), retry(), retry(), stop_after=2)
    with pytest.raises(Refusal):
        trial.run()
    assert trial.attempts == 2


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": email.utils.formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": email.utils.formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_asked_waits(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait_s(headers, NOW) == seconds


@given(st.text())
def test_any_header_is_survived(text: str) -> None:
    wait = asked_wait_s({"retry-after": text, "retry-after-ms": text}, NOW)
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 0001 00:00:00 +9999", "Mon, 01 Jan 2024 00:00:00 +99999999999999"]
)
def test_dates_beyond_the_calendar_are_no_wait(text: str) -> None:
    assert not asked_wait_s({"retry-after": text}, NOW)
