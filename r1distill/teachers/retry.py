"""When to ask again: one tenacity policy with full jitter, and the wait that the teacher itself asked for.

Full jitter: a random wait between 0 and a doubling bound
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential
from tenacity.stop import stop_base

from r1distill.teachers.refusals import Action, Refusal

FIRST_BOUND_S = 0.5
LAST_BOUND_S = 60.0
LONGEST_ASKED_WAIT_S = 600.0
"""A teacher that asks for a longer pause than this is taken at its word only so far."""
UNREACHABLE_ATTEMPTS = 3
"""Attempts before an endpoint that never answered at all is given up."""
EMPTY_ATTEMPTS = 2
"""Attempts that may come back empty: each is paid for, and a teacher that has nothing to say says it again."""

Sleep = Callable[[float], Awaitable[None]]


class _Stop(stop_base):
    def __init__(
        self, max_attempts: int, ever_answered: Callable[[], bool], stopping: Callable[[], bool]
    ) -> None:
        self.max_attempts, self.ever_answered, self.stopping = max_attempts, ever_answered, stopping
        self.empty = 0

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        error_class = error.error_class if isinstance(error, Refusal) else ""
        self.empty += error_class == "empty"
        unreachable = error_class == "unreachable" and not self.ever_answered()
        most = min(UNREACHABLE_ATTEMPTS, self.max_attempts) if unreachable else self.max_attempts
        return self.stopping() or state.attempt_number >= most or self.empty >= EMPTY_ATTEMPTS


def policy(
    max_attempts: int, sleep: Sleep, ever_answered: Callable[[], bool], stopping: Callable[[], bool]
) -> AsyncRetrying:
    """The policy for one item: retry what a Refusal says may be retried, unless the run is stopping; the last Refusal
    is raised as it is.
    """
    jitter = wait_random_exponential(multiplier=FIRST_BOUND_S, max=LAST_BOUND_S)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait_s if isinstance(error, Refusal) else None
        return min(asked, LONGEST_ASKED_WAIT_S) if asked is not None else jitter(state)

    return AsyncRetrying(
        stop=_Stop(max_attempts, ever_answered, stopping),
        wait=wait,
        retry=retry_if_exception(lambda error: isinstance(error, Refusal) and error.action is Action.RETRY),
        sleep=sleep,
        reraise=True,
    )


def asked_wait_s(headers: Mapping[str, Any], now: float | None = None) -> float | None:
    """Seconds to wait by retry-after-ms or Retry-After (seconds or an HTTP date, RFC 9110 10.2.3), or None."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(str(text)) if text else None
    except (ValueError, OverflowError):
        return None
    if date is None:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value < 1e9 else None
