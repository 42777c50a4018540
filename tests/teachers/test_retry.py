"""The retry policy, without a second of sleep."""

from __future__ import annotations

import asyncio

import pytest

from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.retry import FIRST_BOUND_S, LAST_BOUND_S, LONGEST_ASKED_WAIT_S, policy


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


def test_a_model_that_breaks_on_an_item_is_tried_once_more_then_final() -> None:
    trial = Trial(retry("model_error"), retry("rate"), retry("model_error"), retry())
    with pytest.raises(Refusal) as caught:
        trial.run()
    assert (trial.attempts, caught.value.error_class, caught.value.action) == (3, "model_error", Action.FINAL)
    assert Trial(retry("model_error")).run() == "ok"


def test_a_stopping_run_makes_nothing_final() -> None:
    trial = Trial(retry("model_error"), stop_after=1)
    with pytest.raises(Refusal) as caught:
        trial.run()
    assert caught.value.action is Action.RETRY


def test_a_server_that_says_so_is_not_asked_again() -> None:
    refused = Refusal(Action.RETRY, "server", "x", 500, once=True)
    trial = Trial(refused)
    with pytest.raises(Refusal):
        trial.run()
    assert (trial.attempts, refused.action) == (1, Action.RETRY)


@pytest.mark.parametrize("most", [1, 2])
def test_max_attempts_bounds_every_class(most: int) -> None:
    for error_class in ("empty", "model_error", "unreachable", "rate"):
        trial = Trial(*[retry(error_class) for _ in range(9)], most=most, answered=False)
        with pytest.raises(Refusal):
            trial.run()
        assert trial.attempts == most


def test_the_waits_are_spread_from_nothing_to_a_doubling_bound() -> None:
    waits: list[list[float]] = [[] for _ in range(4)]
    for _ in range(300):
        trial = Trial(*[retry() for _ in range(4)])
        trial.run()
        for number, wait in enumerate(trial.waits):
            waits[number].append(wait)
    for number, found in enumerate(waits):
        bound = FIRST_BOUND_S * 2**number
        assert max(found) <= bound
        assert max(found) > 0.8 * bound
        assert min(found) < 0.2 * bound
