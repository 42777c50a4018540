"""What came back: a chat completion's bytes -> Reply, or a Refusal that says what to do about it (refusals.py).

What is not needed is not decoded: log-probabilities, which are most of the bytes where they were asked for, stay raw. A
reply that is shaped otherwise than the documents say is decoded whole and read with tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from r1distill.records import FINISHES, Finish, Usage
from r1distill.teachers.error_texts import one_line
from r1distill.teachers.plain_logprobs import Plain, PlainWire
from r1distill.teachers.reasoning import normalise, summary_of
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
    """The log-probabilities as received (Plain where they have the usual shape, else msgspec.Raw, decoded where the reply was
    odd); of a stream the list of its events'; None when there are none."""
    choices: int = 1
    """How many answers came."""


TRANSIENT_FINISH = frozenset({"error", "abort", "insufficient_system_resource"})
MOST_TOKENS, MOST_USD = 1 << 40, 1e6
KEPT, KEPT_OF_CHOICE = ("id", "provider", "system_fingerprint"), ("native_finish_reason", "seed")
"""Fields of a reply, and of its first choice, that go into the extras: the route's provider, ids, Together's seed."""
LONGEST_KEPT = 200
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
NULL = (msgspec.Raw(), msgspec.Raw(b"null"))
BOM = b"\xef\xbb\xbf"
OF_AN_API = (b"{", b"[", b"data:", b"event:", b":")
"""How an answer of an API begins, even one that is broken: JSON, or a stream."""
SHOWN_CHARACTERS = 120


class _Choice(msgspec.Struct, gc=False):
    message: Any = None
    finish_reason: Any = None
    logprobs: msgspec.Raw = NULL[0]
    native_finish_reason: Any = None
    seed: Any = None
    error: Any = None


class _Whole(msgspec.Struct, gc=False):
    """The fields of a chat completion that are read; all others are passed over undecoded."""

    choices: list[_Choice]
    usage: Any = None
    model: Any = None
    error: Any = None
    id: Any = None
    provider: Any = None
    system_fingerprint: Any = None


class _PlainChoice(_Choice, gc=False):
    logprobs: PlainWire | None = None  # type: ignore[assignment]


class _PlainWhole(_Whole, gc=False):
    choices: list[_PlainChoice]  # type: ignore[assignment]


_WHOLE = msgspec.json.Decoder(_Whole)
_PLAIN_WHOLE = msgspec.json.Decoder(_PlainWhole)
LOGPROBS_MARK = b'"top_logprobs"'
"""What stands in a reply with log-probabilities."""


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


def parse_reply(body: bytes, *, reasoning_apart: bool = False) -> Reply:
    """A Reply from the bytes of a chat completion. Raises Refusal for everything that is no usable answer.

    `reasoning_apart`: usage.completion_tokens does not hold the reasoning tokens, so that they are added.
    """
    try:
        data = _decoded(body)
    except ValueError:
        raise _no_json(body) from None
    return reply_of(data, reasoning_apart=reasoning_apart)


def _no_json(body: bytes) -> Refusal:
    """For what a teacher may have worked for (a broken or empty answer), or a page that comes from no API at all."""
    start = body.removeprefix(BOM).lstrip()[:4096]
    if not start:
        return Refusal(Action.RETRY, "malformed", "The reply is an empty body", maybe_billed=True)
    of_an_api = start.startswith(OF_AN_API)
    shown = one_line(start.decode("utf-8", "replace"))
    shown = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 1]}…"
    kind = "malformed" if of_an_api else "no_api"
    return Refusal(Action.RETRY, kind, f"The reply is no JSON: {shown}", maybe_billed=of_an_api)


def _decoded(body: bytes) -> Any:
    if body.startswith(BOM):
        body = body[len(BOM) :]
    whole = _decoded_plain(body)
    try:
        whole = _WHOLE.decode(body) if whole is None else whole
    except UNREADABLE:
        return decode_json(body)
    said = msgspec.structs.asdict(whole)
    said["choices"] = [msgspec.structs.asdict(choice) for choice in whole.choices]
    if whole.choices and isinstance(whole.choices[0].logprobs, PlainWire):
        wire = whole.choices[0].logprobs
        said["choices"][0]["logprobs"] = Plain(wire, lambda: _WHOLE.decode(body).choices[0].logprobs)
    return said


def _decoded_plain(body: bytes) -> _Whole | None:
    """A reply with log-probabilities of the usual shape, in one pass; None for all others."""
    if LOGPROBS_MARK not in body:
        return None
    try:
        return _PLAIN_WHOLE.decode(body)
    except UNREADABLE:
        return None


def reply_of(data: Any, *, reasoning_apart: bool = False) -> Reply:
    """A Reply from a decoded chat completion (as `parse_reply`). Raises Refusal."""
    if not isinstance(data, dict):
        raise Refusal(Action.RETRY, "malformed", "The reply is no JSON object", maybe_billed=True)
    choices, usage = data.get("choices"), usage_of(data.get("usage"), reasoning_apart)
    try:
        if data.get("error") and not choices:
            raise refusal(status_of(data["error"]), data)
        return _usable(choices if isinstance(choices, list) else [], data, usage)
    except Refusal as refused:  # the status was 200: without an error, the teacher worked for it
        refused.usage = usage if usage.completion_tokens is not None else None
        refused.cost_usd = _cost(data.get("usage"))
        refused.maybe_billed = refused.usage is None and (bool(choices) or not data.get("error"))
        raise


def _usable(choices: list[Any], data: dict[str, Any], usage: Usage) -> Reply:
    choice = choices[0] if choices else None
    if not isinstance(choice, dict):
        raise Refusal(Action.RETRY, "empty", "The reply has no choices")
    said = str(choice.get("finish_reason") or "unknown")
    if said in TRANSIENT_FINISH:
        error = data.get("error") or choice.get("error")
        if error:
            raise refusal(status_of(error), {"error": error})
        raise Refusal(Action.RETRY, "server", f"The teacher broke off with finish_reason {said}")
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    split = normalise(message)
    finish = FINISHES.get(said, "unknown")
    if not split.answer and not split.reasoning:
        _refuse_empty(finish, said)
    return Reply(
        split, finish, usage, _string(data.get("model")), _cost(data.get("usage")),
        _extras(data, choice, message), _logprobs(choice.get("logprobs")), len(choices),
    )  # fmt: skip


def _refuse_empty(finish: Finish, said: str) -> None:
    """Raises Refusal, unless it was cut before the first visible word: a state of the trace, never bought again as it is."""
    if finish == "content_filter":
        raise Refusal(Action.FINAL, "content_filter", "The answer was withheld by a content filter")
    if finish != "length":
        raise Refusal(Action.RETRY, "empty", f"The answer is empty (finish_reason {said})")


def _extras(data: dict[str, Any], choice: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    found = {key: data.get(key) for key in KEPT} | {key: choice.get(key) for key in KEPT_OF_CHOICE}
    extras: dict[str, Any] = {key: value for key, value in found.items() if _worth_keeping(value)}
    summary = summary_of(message)
    return {**extras, "reasoning_summary": summary} if summary else extras


def _worth_keeping(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_KEPT
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _logprobs(value: Any) -> Any:
    return None if value in NULL or not value else value


def usage_of(usage: Any, reasoning_apart: bool = False) -> Usage:
    """Token counts from a usage object; what is missing or no whole number is None. For `reasoning_apart` see parse_reply."""
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    written = _count(usage.get("completion_tokens"))
    reasoning = _count(_in(completion, "reasoning_tokens"), usage.get("reasoning_tokens"))
    if reasoning_apart and written is not None:
        written += reasoning or 0
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=written,
        reasoning_tokens=reasoning,
        cached_tokens=_count(_in(prompt, "cached_tokens"), usage.get("prompt_cache_hit_tokens")),
    )


def _in(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _count(*values: Any) -> int | None:
    """The first that is a believable number of tokens."""
    for v in values:
        if isinstance(v, int) and not isinstance(v, bool) and 0 <= v < MOST_TOKENS:
            return v
    return None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _cost(usage: Any) -> float | None:
    """The teacher's own figure in dollars, when it is a believable one."""
    cost = usage.get("cost") if isinstance(usage, dict) else None
    if not isinstance(cost, int | float) or isinstance(cost, bool):
        return None
    return float(cost) if 0 <= cost <= MOST_USD else None
