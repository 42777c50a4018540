"""What a teacher's error means: stop the run, ask again, or give the item up for good. One table decides.

Sources: the error pages of OpenAI (https://platform.openai.com/docs/guides/error-codes), DeepSeek
(https://api-docs.deepseek.com/quick_start/error_codes) and OpenRouter (https://openrouter.ai/docs/api-reference/errors),
and what the openai package does on a local server.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple


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
CODES = {
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
}
"""What error codes without a status stand for."""


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


def status_of(error: Any) -> int:
    """The HTTP status that an error inside a 200 body or a stream stands for."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else CODES.get(code)
    return code if isinstance(code, int) and 400 <= code < 600 else 500
