"""What came back: a chat completion's bytes -> Reply, or a Refusal that says what to do about it.

One table decides between stopping the run, retrying, and giving the item up for good. Sources: the error pages of
OpenAI (https://platform.openai.com/docs/guides/error-codes), DeepSeek (https://api-docs.deepseek.com/quick_start/error_codes)
and OpenRouter (https://openrouter.ai/docs/api-reference/errors), and what the openai package does on a local server.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple

import msgspec

from r1distill.records import FINISHES, Finish, Usage
from r1distill.teachers.reasoning import normalise
from r1distill.thinking import Split


class Action(enum.Enum):
    """What a refused request means."""

    STOP = "stop the run"
    RETRY = "ask again"
    FINAL = "give this item up"


class Refusal(Exception):
    """A request that gave no usable answer."""

    def __init__(
        self,
        action: Action,
        error_class: str,
        message: str,
        status: int | None = None,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.action, self.error_class, self.message = action, error_class, message
        self.status, self.wait_s = status, wait_s


class Reply(NamedTuple):
    """A usable answer."""

    split: Split
    finish: Finish
    usage: Usage
    model: str | None
    cost_usd: float | None
    """The teacher's own figure (OpenRouter), else None."""


class Rule(NamedTuple):
    """A row of the error table: all that is given must match."""

    error_class: str
    action: Action
    statuses: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    """Any of these in the error's code, type or message, in lower case."""


CONTEXT_WORDS = (
    "context_length_exceeded", "maximum context length", "exceeds the available context size", "exceed context limit",
    "longer than the model's context length", "exceeds the maximum number of tokens", "input tokens exceed",
    "exceed_context_size",
)  # fmt: skip
PARAMETER_WORDS = (
    "unsupported_parameter", "unsupported_value", "unknown_parameter", "unsupported parameter", "unsupported value",
    "unrecognized request argument", "extra inputs are not permitted", "extra_forbidden",
)  # fmt: skip
RULES = (
    Rule(
        "quota",
        Action.STOP,
        words=("insufficient_quota", "billing_hard_limit", "insufficient balance", "insufficient credits"),
    ),
    Rule("context_length", Action.FINAL, (400, 413, 422), CONTEXT_WORDS),
    Rule(
        "content_filter",
        Action.FINAL,
        (400, 403, 451),
        ("content_filter", "content policy", "moderation", "data_inspection"),
    ),
    Rule("server", Action.RETRY, (400,), ("servicequotaexceeded",)),
    Rule("refused_parameter", Action.STOP, (400, 422), PARAMETER_WORDS),
    Rule("refused_request", Action.STOP, (400, 405, 415, 501)),
    Rule("key", Action.STOP, (401, 403)),
    Rule("overload", Action.RETRY, (402,), ("in_flight_budget_exhausted",)),
    Rule("money", Action.STOP, (402,)),
    Rule("not_found", Action.STOP, (404,)),
    Rule("timeout", Action.RETRY, (408, 504, 524)),
    Rule("invalid_item", Action.FINAL, (413, 422)),
    Rule("rate", Action.RETRY, (429,)),
    Rule("overload", Action.RETRY, (409, 425, 498, 499, 502, 503, 529)),
    Rule("server", Action.RETRY, (424,)),
    Rule("redirect", Action.STOP, (300, 301, 302, 303, 307, 308)),
)
TRANSIENT_FINISH = frozenset({"error", "abort", "insufficient_system_resource"})
CODES = {
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
}
"""What error codes without a status stand for."""
MOST_TOKENS = 1 << 40


def refusal(status: int, body: Any, wait_s: float | None = None) -> Refusal:
    """The Refusal for an error status (of HTTP, or inside a 200 body) and its decoded body."""
    error = (body.get("error") or body) if isinstance(body, dict) else body
    message = (
        str(error.get("message") or error.get("detail") or error) if isinstance(error, dict) else str(error)
    )
    words = (
        f"{error.get('code')} {error.get('type')} {message}".lower()
        if isinstance(error, dict)
        else message.lower()
    )
    for rule in RULES:
        if (not rule.statuses or status in rule.statuses) and (
            not rule.words or any(w in words for w in rule.words)
        ):
            return Refusal(rule.action, rule.error_class, message, status, wait_s)
    if status >= 500:
        return Refusal(Action.RETRY, "server", message, status, wait_s)
    return Refusal(Action.STOP, "refused_request", message, status)


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
        raise refusal(_status_of(data["error"]), data)
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


def _status_of(error: Any) -> int:
    """The HTTP status that an error inside a 200 body or a stream stands for."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else CODES.get(code)
    return code if isinstance(code, int) and 400 <= code < 600 else 500
