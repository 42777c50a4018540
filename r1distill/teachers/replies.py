"""What came back: a chat completion's bytes -> Reply, or a Refusal that says what to do about it (refusals.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from r1distill.records import FINISHES, Finish, Usage
from r1distill.teachers.reasoning import normalise
from r1distill.teachers.refusals import Action, Refusal, refusal, status_of
from r1distill.thinking import Split


class Reply(NamedTuple):
    """A usable answer."""

    split: Split
    finish: Finish
    usage: Usage
    model: str | None
    cost_usd: float | None
    """The teacher's own figure (OpenRouter), else None."""
    extras: Mapping[str, Any] = MappingProxyType({})
    """What else is worth keeping: see `Trace.extras`."""
    logprobs: Any = None
    """The log-probabilities as received, undecoded (msgspec.Raw or a decoded object); None when there are none."""
    choices: int = 1
    """How many answers came."""


TRANSIENT_FINISH = frozenset({"error", "abort", "insufficient_system_resource"})
MOST_TOKENS = 1 << 40


def decode_json(data: bytes) -> Any:
    """JSON as teachers write it: a stray byte or half a surrogate pair becomes the replacement character, since the
    answer around it was paid for. Raises ValueError for what is no JSON, or nested beyond reason.
    """
    try:
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _mended(json.loads(data.decode("utf-8", "replace")))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, list):
        return [_mended(item) for item in value]
    return {_mended(key): _mended(item) for key, item in value.items()} if isinstance(value, dict) else value


def parse_reply(body: bytes) -> Reply:
    """A Reply from the bytes of a chat completion. Raises Refusal for everything that is no usable answer."""
    try:
        data = decode_json(body)
    except ValueError:
        what = "an empty body" if not body.strip() else f"no JSON: {body[:80].decode('utf-8', 'replace')}"
        raise Refusal(Action.RETRY, "malformed", f"The reply is {what}") from None
    return reply_of(data)


def reply_of(data: Any) -> Reply:
    """A Reply from a decoded chat completion. Raises Refusal."""
    if not isinstance(data, dict):
        raise Refusal(Action.RETRY, "malformed", "The reply is no JSON object")
    choices = data.get("choices")
    if data.get("error") and not choices:
        raise refusal(status_of(data["error"]), data)
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise Refusal(Action.RETRY, "empty", "The reply has no choices")
    return _usable(choice, data)


def _usable(choice: dict[str, Any], data: dict[str, Any]) -> Reply:
    said = str(choice.get("finish_reason") or "unknown")
    if said in TRANSIENT_FINISH:
        raise Refusal(Action.RETRY, "server", f"The teacher broke off with finish_reason {said}")
    message = choice.get("message")
    split = normalise(message if isinstance(message, dict) else {})
    finish = FINISHES.get(said, "unknown")
    if not split.answer and not split.reasoning:
        if finish == "content_filter":
            raise Refusal(Action.FINAL, "content_filter", "The answer was withheld by a content filter")
        if (
            finish != "length"
        ):  # cut before the first visible word: a state of the trace, never bought again as it is
            raise Refusal(Action.RETRY, "empty", f"The answer is empty (finish_reason {said})")
    return Reply(
        split, finish, usage_of(data.get("usage")), _string(data.get("model")), _cost(data.get("usage"))
    )


def usage_of(usage: Any) -> Usage:
    """Token counts from a usage object; what is missing or no whole number is None."""
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        reasoning_tokens=_count(_in(completion, "reasoning_tokens"), usage.get("reasoning_tokens")),
        cached_tokens=_count(_in(prompt, "cached_tokens"), usage.get("prompt_cache_hit_tokens")),
    )


def _in(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _count(*values: Any) -> int | None:
    """The first that is a believable number of tokens."""
    whole = (v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 <= v < MOST_TOKENS)
    return next(whole, None)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _cost(usage: Any) -> float | None:
    cost = usage.get("cost") if isinstance(usage, dict) else None
    return float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0 else None
