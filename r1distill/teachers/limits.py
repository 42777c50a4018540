"""What the headers of an answer say about limits and waits: header mappings in, numbers out, never an exception.

Formats differ by provider: plain seconds, Go durations ("6m0s": https://pkg.go.dev/time#ParseDuration), points in time
(RFC 3339, HTTP dates of RFC 9110 10.2.3, epoch seconds or milliseconds). Names: OpenAI's and Groq's
x-ratelimit-limit-requests (https://platform.openai.com/docs/guides/rate-limits, https://console.groq.com/docs/rate-limits),
Anthropic's anthropic-ratelimit-requests-limit, Fireworks' x-ratelimit-limit-tokens-generated, OpenRouter's bare
x-ratelimit-limit. What is negative, not a number, or beyond belief is taken as not said.
"""

from __future__ import annotations

import email.utils
import functools
import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

LONGEST_BELIEVED_S = 7 * 86_400.0
"""A wait or reset further away than a week is a mistake, or of no use to a run."""
LARGEST_BELIEVED = 1e12
EPOCH_FROM_S, EPOCH_FROM_MS = 1e9, 1e11
"""Bare numbers at least so large are points in time: seconds, or milliseconds, since 1970."""
READ_CHARACTERS = 2_000
UNITS_S = {
    "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9,
    "hour": 3600.0, "hr": 3600.0, "minute": 60.0, "min": 60.0, "second": 1.0, "sec": 1.0, "millisecond": 1e-3,
}  # fmt: skip
DURATION = re.compile(r"(?:\d+(?:\.\d+)?[a-zµμ]{1,2}){1,8}")
PART = re.compile(r"(\d+(?:\.\d+)?)\s?([a-zµμ]+)")
WAIT_IN_TEXT = re.compile(
    r"\b(?:again|retry|wait) (?:in |after |for )?((?:\d+(?:\.\d+)?\s?[a-z]{1,12}[\s,]{0,2}){1,8})", re.I
)
LONG_WINDOWS = frozenset({"day", "daily", "hour", "month", "monthly"})


class Limits(NamedTuple):
    """What a teacher allows, as the headers of one answer say it; None: not said."""

    requests_limit: float | None = None
    """Requests in the provider's window: mostly a minute; at Groq a day."""
    requests_remaining: float | None = None
    requests_reset_s: float | None = None
    """Seconds until the window is full again."""
    tokens_limit: float | None = None
    """Prompt and completion tokens in the window."""
    tokens_remaining: float | None = None
    tokens_reset_s: float | None = None
    generated_tokens_limit: float | None = None
    """Completion tokens in the window, where they are limited apart."""


NO_LIMITS = Limits()


def limits_of(headers: Mapping[str, Any], now: float | None = None) -> Limits:
    """The limits that headers of any of the known formats state; `now` is the epoch time in seconds, default the clock."""
    said: dict[tuple[str, str], float] = {}
    for name, text in _limit_headers(headers):
        place = _place(name)
        if place is None:
            continue
        value = seconds_until(text, now) if place[1] == "reset" else _amount(text, place[1])
        if value is not None:
            said[place] = min(value, said.get(place, value))
    return _limits(said) if said else NO_LIMITS


def _limit_headers(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name in lower case, value) of the headers about limits. Header objects of httpx are read in their raw form."""
    raw = getattr(headers, "raw", None)
    if not isinstance(raw, list | tuple):
        for name, value in headers.items():
            if "ratelimit" in (low_name := str(name).lower()):
                yield low_name, str(value)
        return
    for name, value in raw:
        if b"ratelimit" in (lower := name.lower()):
            yield lower.decode("latin-1"), value.decode("latin-1")


@functools.lru_cache(maxsize=256)
def _place(name: str) -> tuple[str, str] | None:
    """Which number a header's name stands for: (requests | tokens | prompt | generated, limit | remaining | reset)."""
    words = set(name.partition("ratelimit")[2].split("-"))
    what = next((w for w in ("limit", "remaining", "reset") if w in words), None)
    if what is None or words & LONG_WINDOWS or "over" in words:
        return None
    if words & {"generated", "output", "completion"}:
        return "generated", what
    if words & {"prompt", "input"}:
        return "prompt", what
    return ("tokens" if words & {"tokens", "token"} else "requests"), what


def _limits(said: dict[tuple[str, str], float]) -> Limits:
    prompt, generated = said.get(("prompt", "limit")), said.get(("generated", "limit"))
    both = prompt + generated if prompt is not None and generated is not None else None
    return Limits(
        said.get(("requests", "limit")), said.get(("requests", "remaining")), said.get(("requests", "reset")),
        said.get(("tokens", "limit"), both), said.get(("tokens", "remaining")), said.get(("tokens", "reset")), generated,
    )  # fmt: skip


def _amount(text: str, what: str) -> float | None:
    """A limit of 1 or more, or what remains, 0 or more; of a list ("100, 100;w=60") the first."""
    value = _number(text.partition(",")[0].partition(";")[0])
    least = 1 if what == "limit" else 0  # a lower limit would forbid every request
    if value is None or not least <= value <= LARGEST_BELIEVED:
        return None
    return value


def asked_wait_s(headers: Mapping[str, Any], now: float | None = None) -> float | None:
    """Seconds to wait by retry-after-ms or Retry-After in any of the formats above, or None."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None and (wait_s := _believed(milliseconds / 1000)) is not None:
        return wait_s
    text = headers.get("retry-after")
    return None if text is None else seconds_until(str(text), now)


def should_retry(headers: Mapping[str, Any]) -> bool | None:
    """What x-should-retry says (OpenAI's servers; its client obeys it), or None."""
    return {"true": True, "false": False}.get(str(headers.get("x-should-retry")).strip().lower())


def wait_in_text_s(text: str) -> float | None:
    """Seconds of a "try again in 6m0s" or "retry after 3 seconds" in an error message, or None."""
    found = WAIT_IN_TEXT.search(text[:READ_CHARACTERS])
    return None if found is None else _believed(_sum_s(found.group(1).lower()))


def seconds_until(text: str, now: float | None = None) -> float | None:
    """A duration or point in time as seconds from `now`, more than 0 and at most a week; None for all else."""
    text = text.strip()[:64]
    value = _number(text)
    if value is not None:
        if value < EPOCH_FROM_S:
            return _believed(value)
        return _believed(value / (1000 if value >= EPOCH_FROM_MS else 1) - _clock(now))
    if DURATION.fullmatch(text.lower()):
        return _believed(_sum_s(text.lower()))
    point = _point_in_time(text)
    return None if point is None else _believed(point - _clock(now))


def _sum_s(text: str) -> float | None:
    """6m0s -> 360.0; None for units that are none."""
    total = 0.0
    for number, unit in PART.findall(text):
        unit_s = UNITS_S.get(unit, UNITS_S.get(unit.removesuffix("s")))
        if unit_s is None:
            return None
        total += float(number) * unit_s
    return total


def _point_in_time(text: str) -> float | None:
    """Epoch seconds of an RFC 3339 time or HTTP date."""
    if not text[:1].isalnum():
        return None
    try:
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            date = email.utils.parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _believed(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 < seconds <= LONGEST_BELIEVED_S else None


def _clock(now: float | None) -> float:
    return time.time() if now is None else now
