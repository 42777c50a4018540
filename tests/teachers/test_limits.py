"""Limits and waits in the headers of every provider's format, and in whatever else a header may hold."""

from __future__ import annotations

import email.utils
import math
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from r1distill.teachers.limits import (
    LONGEST_BELIEVED_S,
    NO_LIMITS,
    Limits,
    asked_wait_s,
    limits_of,
    seconds_until,
    should_retry,
    wait_in_text_s,
)

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": email.utils.formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": email.utils.formatdate(NOW - 30, usegmt=True)}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0),
        ({"retry-after": "2023-11-14T22:13:50Z"}, 30.0),
        ({"retry-after": "2023-11-14T23:13:50.5+01:00"}, 30.5),
        ({"retry-after": "1s"}, 1.0),
        ({"retry-after": "120ms"}, 0.12),
        ({"retry-after": "6m0s"}, 360.0),
        ({"retry-after": "2m59.56s"}, 179.56),
        ({"retry-after": "1h2m3s"}, 3723.0),
        ({"retry-after": "1700000012"}, 12.0),
        ({"retry-after": "1700000012500"}, 12.5),
        ({"retry-after": "1699999999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "5 parsecs"}, None),
        ({"retry-after": "3x"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "99999999"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +9999"}, None),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999999999"}, None),
    ],
)
def test_asked_waits(headers: dict[str, str], seconds: float | None) -> None:
    found = asked_wait_s(httpx2.Headers(headers), NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))
    assert asked_wait_s(CIMultiDict({name.title(): text for name, text in headers.items()}), NOW) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached for m in organization o on requests per min. Please try again in 20s. Visit x", 20.0),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1.2s.", 1.2),
        ("try again in 120ms", 0.12),
        ("Please retry after 3 seconds.", 3.0),
        ("Please retry after 1 minute, 5 seconds.", 65.0),
        ("Please retry in 45.3s", 45.3),
        ("wait 2 minutes before trying again", 120.0),
        ("Please try again later", None),
        ("try again in 5 apples", None),
        ("try again in 999999h", None),
        ("try again in 0s", None),
        ("20s", None),
    ],
)  # fmt: skip
def test_waits_in_a_message(text: str, seconds: float | None) -> None:
    assert wait_in_text_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "said"),
    [("true", True), ("false", False), (" True", True), ("maybe", None), ("", None), (None, None)],
)
def test_should_retry(value: str | None, said: bool | None) -> None:
    assert should_retry({} if value is None else {"x-should-retry": value}) is said


OPENAI = {
    "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s",
}  # fmt: skip
GROQ = {
    "X-RateLimit-Limit-Requests": "14400", "X-RateLimit-Remaining-Requests": "14370", "X-RateLimit-Reset-Requests": "2m59.56s",
    "X-RateLimit-Limit-Tokens": "18000", "X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "7.66s",
}  # fmt: skip
AZURE = {
    "x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "0",
    "x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "12",
}  # fmt: skip
FIREWORKS = {
    "X-Ratelimit-Limit-Tokens-Prompt": "60000", "X-Ratelimit-Limit-Tokens-Generated": "36000",
    "X-Ratelimit-Over-Limit": "no",
}  # fmt: skip
OPENROUTER = {
    "X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int((NOW + 42) * 1000)),
}  # fmt: skip
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
    "anthropic-ratelimit-tokens-limit": "48000", "anthropic-ratelimit-tokens-remaining": "47000",
    "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z",
    "anthropic-ratelimit-input-tokens-limit": "40000", "anthropic-ratelimit-output-tokens-limit": "8000",
}  # fmt: skip
DAILY = {
    "x-ratelimit-limit-requests-day": "1000", "x-ratelimit-remaining-requests-day": "3",
    "x-ratelimit-limit-tokens-minute": "5000", "x-ratelimit-limit": "10, 10;w=60",
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({}, NO_LIMITS),
        ({"content-type": "application/json", "x-request-id": "1"}, NO_LIMITS),
        (OPENAI, Limits(60, 59, 1, 150_000, 149_984, 360)),
        (GROQ, Limits(14_400, 14_370, 179.56, 18_000, 0, 7.66)),
        (AZURE, Limits(tokens_remaining=900, tokens_reset_s=12)),
        (FIREWORKS, Limits(tokens_limit=96_000, generated_tokens_limit=36_000)),
        (OPENROUTER, Limits(20, 0, 42)),
        (ANTHROPIC, Limits(50, 49, 1, 48_000, 47_000, 60, 8000)),
        (DAILY, Limits(requests_limit=10, tokens_limit=5000)),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "soon"}, NO_LIMITS),
        ({"x-ratelimit-limit-requests": "nan", "x-ratelimit-limit-tokens": "1e999"}, NO_LIMITS),
        ({"x-ratelimit-limit-requests": "0"}, NO_LIMITS),
        ({"x-ratelimit-limit-requests": "1e-300", "x-ratelimit-limit-tokens": "0.99"}, NO_LIMITS),
        ({"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-tokens": "0.5"}, Limits(1, tokens_remaining=0.5)),
    ],
    ids=["none", "others", "openai", "groq", "azure", "fireworks", "openrouter", "anthropic", "daily", "words", "nan", "zero",
         "below one", "one"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [dict, httpx2.Headers, CIMultiDict])
def test_limits(headers: dict[str, str], limits: Limits, kind: Any) -> None:
    found = limits_of(kind(headers), NOW)
    assert [v is None for v in found] == [v is None for v in limits]
    assert [v for v in found if v is not None] == pytest.approx([v for v in limits if v is not None])


TEXTS = st.one_of(
    st.text(max_size=80),
    st.text("0123456789.-+eE:msh ,;TZ", max_size=40),
    st.floats().map(str),
    st.integers().map(str),
)


@given(TEXTS)
def test_any_wait_is_survived(text: str) -> None:
    for wait_s in (
        asked_wait_s({"retry-after": text, "retry-after-ms": text}, NOW),
        seconds_until(text, NOW),
        wait_in_text_s(f"try again in {text}"),
    ):
        assert wait_s is None or 0 < wait_s <= LONGEST_BELIEVED_S


@pytest.mark.parametrize("name", ["requests", "tokens", "tokens-generated"])
@given(st.floats())
def test_a_limit_lets_one_request_through(name: str, value: float) -> None:
    said = limits_of({f"x-ratelimit-limit-{name}": str(value)}, NOW)
    assert all(limit is None or limit >= 1 for limit in said)


NAMES = st.lists(
    st.sampled_from(
        ["x", "ratelimit", "limit", "remaining", "reset", "requests", "tokens", "prompt", "generated", "day", "", "anthropic"]
    ),
    max_size=7,
).map("-".join)  # fmt: skip


@given(st.dictionaries(NAMES, TEXTS, max_size=8))
def test_any_limits_are_survived(headers: dict[str, str]) -> None:
    for value in limits_of(headers, NOW):
        assert value is None or (math.isfinite(value) and value >= 0)


def test_a_hostile_message_takes_no_time() -> None:
    assert wait_in_text_s("retry " * 100_000) is None
    assert wait_in_text_s("retry in " + "1 s " * 100_000) == pytest.approx(8.0)
