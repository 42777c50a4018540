"""When to ask again: one tenacity policy with full jitter, that keeps to the wait that the teacher itself asked for.

Full jitter: a random wait between 0 and a doubling bound
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential
from tenacity.stop import stop_base

from r1distill.teachers.limits import asked_wait_s as asked_wait_s
from r1distill.teachers.refusals import Action, Refusal

FIRST_BOUND_S = 0.5
LAST_BOUND_S = 60.0
LONGEST_ASKED_WAIT_S = 600.0
"""A teacher that asks for a longer pause than this is taken at its word only so far."""
MOST_OF_CLASS = {"empty": 2, "model_error": 2}
"""Attempts that may end in the same way, where fewer than `max_attempts` tell enough: each empty answer is paid for, and
a teacher that has nothing to say says it again; a model that breaks on an item (424) is tried once more."""
MOST_UNREACHABLE = 3
"""Attempts before an endpoint that never answered at all is given up."""
THEN_FINAL = frozenset({"model_error"})
"""Classes after whose last attempt the item is given up for good."""

Sleep = Callable[[float], Awaitable[None]]


class _Stop(stop_base):
    def __init__(
        self, max_attempts: int, ever_answered: Callable[[], bool], stopping: Callable[[], bool]
    ) -> None:
        self.max_attempts, self.ever_answered, self.stopping = max_attempts, ever_answered, stopping
        self.seen: Counter[str] = Counter()

    def __call__(self, state: RetryCallState) -> bool:
        error = _refusal(state)
        if error is None:
            return True
        self.seen[error.error_class] += 1
        used_up = self._used_up(error)
        if used_up and error.error_class in THEN_FINAL:
            error.action = Action.FINAL
        return self.stopping() or error.once or used_up or state.attempt_number >= self.max_attempts

    def _used_up(self, error: Refusal) -> bool:
        """True when its class allows no further attempt."""
        most = MOST_OF_CLASS.get(error.error_class, self.max_attempts)
        if error.error_class == "unreachable" and not self.ever_answered():
            most = MOST_UNREACHABLE
        return self.seen[error.error_class] >= most


def policy(
    max_attempts: int, sleep: Sleep, ever_answered: Callable[[], bool], stopping: Callable[[], bool]
) -> AsyncRetrying:
    """The policy for one item: retry what a Refusal says may be retried, unless the run is stopping; the last Refusal
    is raised as it is.
    """
    jitter = wait_random_exponential(multiplier=FIRST_BOUND_S, max=LAST_BOUND_S)

    def wait(state: RetryCallState) -> float:
        error = _refusal(state)
        asked = error.wait_s if error is not None else None
        return min(asked, LONGEST_ASKED_WAIT_S) if asked is not None else jitter(state)

    return AsyncRetrying(
        stop=_Stop(max_attempts, ever_answered, stopping),
        wait=wait,
        retry=retry_if_exception(lambda error: isinstance(error, Refusal) and error.action is Action.RETRY),
        sleep=sleep,
        reraise=True,
    )


def _refusal(state: RetryCallState) -> Refusal | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Refusal) else None
