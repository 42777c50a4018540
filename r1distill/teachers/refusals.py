"""What a teacher's error means: stop the run, ask again, or give the item up for good. One table decides: RULES.

In: a status and a decoded body (or page). Out: a Refusal. Two things decide, in this order: how the error calls itself
(`told.names`: code and type fields, whole and exact), then words of its message. Since messages quote all sorts of things
- the question, another provider's trouble - words count only at statuses that say that the request was at fault; there
they choose between giving up the item and what the status does anyhow. Neither words nor a status of 500 and more ever
stop a run that costs money: what an upstream of a router says about its own key or balance is a passing trouble.

Sources: the error pages of OpenAI (https://platform.openai.com/docs/guides/error-codes), DeepSeek
(https://api-docs.deepseek.com/quick_start/error_codes), OpenRouter (https://openrouter.ai/docs/api-reference/errors and
components/apierrortype.py of openrouter 1.3.84 on PyPI), Moonshot (https://platform.kimi.com/docs/api/errors), Bedrock
(https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html), Together
(https://docs.together.ai/docs/error-codes), Alibaba (https://www.alibabacloud.com/help/en/model-studio/error-code), and
the sources of vLLM, SGLang, llama.cpp and transformers.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import Any, NamedTuple

from r1distill.records import Usage
from r1distill.teachers.error_texts import BAD_FIELD, Told, told
from r1distill.teachers.limits import wait_in_text_s


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
        *,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        maybe_billed: bool = False,
        advice: str = "",
        once: bool = False,
    ) -> None:
        super().__init__()  # without the message: it is scrubbed later, and args are printed by whoever logs an exception
        self.action, self.error_class, self.message = action, error_class, message
        self.status, self.wait_s = status, wait_s
        self.usage = usage
        """Tokens that the teacher counted for the attempt that is thrown away."""
        self.cost_usd = cost_usd
        """What the attempt cost by the teacher's own word (OpenRouter), else None."""
        self.maybe_billed = maybe_billed
        """True: the teacher may have worked for it, and nobody says how much."""
        self.advice = advice
        """What to do about it, where the table knows it better than the error's class does."""
        self.once = once
        """True: the server says that asking again now is of no use (x-should-retry: false)."""

    def __str__(self) -> str:
        return self.message


class Rule(NamedTuple):
    """A row of the error table: the status must be among `statuses`, and a name or a word must fit if any are given."""

    error_class: str
    action: Action
    statuses: Container[int]
    names: frozenset[str] = frozenset()
    """Any of these is the error's code or type, in lower case."""
    words: tuple[str, ...] = ()
    """Any of these is in the error's message, in lower case; for a row that is FINAL also in that of an upstream."""
    advice: str = ""

    def fits(self, status: int, said: Told) -> bool:
        """True when this row is the one for the error."""
        if status not in self.statuses:
            return False
        if not (self.names or self.words):
            return True
        text = f"{said.words} {said.upstream}" if self.action is Action.FINAL else said.words
        return not self.names.isdisjoint(said.names) or any(word in text for word in self.words)


ANY, CLIENT = range(1000), range(400, 500)
STOP, RETRY, FINAL = Action.STOP, Action.RETRY, Action.FINAL

IN_FLIGHT = frozenset({"in_flight_budget_exhausted", "openrouter_in_flight_budget"})
NO_QUOTA = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "exceeded_current_quota_error",
    "enforced_spend_limit_reached", "arrearage", "openrouter_key_limit", "openrouter_guardrail_budget",
    "openrouter_workspace_budget", "token_limit_exceeded",
})  # fmt: skip
TOO_LONG = frozenset({
    "context_length_exceeded", "exceed_context_size_error", "string_too_long", "string_above_max_length",
    "model_context_window_exceeded", "max_tokens_exceeded",
})  # fmt: skip
WITHHELD = frozenset({
    "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed",
    "datainspectionfailed", "flagged_input", "refusal", "moderation_blocked",
})  # fmt: skip
BAD_ITEM = frozenset({"invalid_prompt", "unprocessable", "payload_too_large"})
THROTTLED = frozenset({
    "throttlingexception", "modelnotreadyexception", "servicequotaexceededexception", "throttling.allocationquota",
    "throttling.ratequota", "throttling.burstrate", "limit_requests", "limit_burst_rate", "rate_limit_exceeded",
    "rate_limit_reached_error",
})  # fmt: skip
BUSY = frozenset(
    {"provider_overloaded", "provider_unavailable", "engine_overloaded_error", "serviceunavailableerror"}
)
BAD_PARAMETER = frozenset({
    "unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden", "parameter_unknown",
})  # fmt: skip
TOO_LONG_WORDS = (
    "maximum context length", "exceeds the available context size", "exceed context limit", "exceed_context_size",
    "longer than the model's context length", "exceeds the maximum number of tokens", "input tokens exceed",
    "context_length_exceeded", "exceeded model token limit", "input token length too long",
    "must be less than the context length",
)  # fmt: skip
WITHHELD_WORDS = (
    "content_filter", "content management policy", "content policy", "moderation", "data_inspection",
    "inappropriate content", "considered high risk",
)  # fmt: skip
PARAMETER_WORDS = (
    "unsupported_parameter", "unsupported_value", "unknown_parameter", "unsupported parameter", "unsupported value",
    "unrecognized request argument", "extra inputs are not permitted", "extra_forbidden", "unexpected fields in the request",
)  # fmt: skip
STREAM_WORDS = ("only support stream", "only supports stream", "must be set to false for non-streaming")
NO_MONEY_WORDS = (
    "insufficient balance",
    "insufficient credits",
    "insufficient_quota",
    "key limit exceeded",
    "budget limit",
)

RULES = (
    # by the error's own name
    Rule("overload", RETRY, (402, 429), IN_FLIGHT),
    Rule("rate", RETRY, (429,), words=("allocated quota exceeded",)),  # Alibaba's insufficient_quota: tokens a minute
    Rule("quota", STOP, CLIENT, NO_QUOTA),
    Rule("money", STOP, (400, 402, 403), frozenset({"payment_required"})),
    Rule("key", STOP, (400, 401), frozenset({"invalid_api_key", "authentication", "authentication_error"})),
    Rule("not_found", STOP, (400, 403, 404), frozenset({"model_not_found", "deploymentnotfound", "modelnotfound"})),
    Rule("context_length", FINAL, ANY, TOO_LONG),
    Rule("content_filter", FINAL, ANY, WITHHELD),
    Rule("refused_parameter", STOP, CLIENT, BAD_PARAMETER),
    Rule("rate", RETRY, ANY, THROTTLED),
    Rule("overload", RETRY, ANY, BUSY),
    Rule("invalid_item", FINAL, CLIENT, BAD_ITEM),
    # by its words, where the status says that the request was at fault
    Rule("stream_only", STOP, (400,), words=STREAM_WORDS, advice="this model answers streams only: set harvest.stream = true"),
    Rule("context_length", FINAL, (400, 403, 413, 422), words=TOO_LONG_WORDS),
    Rule("content_filter", FINAL, (400, 403, 451), words=WITHHELD_WORDS),
    Rule("rate", RETRY, (400,), words=("servicequotaexceeded",)),
    Rule("refused_parameter", STOP, (400, 422), frozenset({BAD_FIELD}), PARAMETER_WORDS),
    Rule("quota", STOP, (402, 403), words=NO_MONEY_WORDS),
    # by its status
    Rule("refused_request", STOP, (400, 405, 415, 501)),
    Rule("key", STOP, (401, 403)),
    Rule("money", STOP, (402,)),
    Rule("not_found", STOP, (404, 410)),
    Rule("timeout", RETRY, (408, 504, 522, 524)),
    Rule("overload", RETRY, (409, 425, 498, 499, 502, 503, 529)),
    Rule("invalid_item", FINAL, (413, 422, 451)),
    Rule("model_error", RETRY, (424,)),  # the model broke on this item: once more, then final (retry.py)
    Rule("rate", RETRY, (429,)),
    Rule("redirect", STOP, range(300, 400)),
    Rule("server", RETRY, range(500, 1000)),
    Rule("refused_request", STOP, ANY),
)  # fmt: skip
GAVE_UP_WAITING = (408, 504, 524)
"""A proxy gave up waiting: the teacher may have answered, and be paid for it."""
STATUS_OF_NAME = {
    "rate_limit_exceeded": 429, "insufficient_quota": 429, "billing_hard_limit_reached": 429, "invalid_api_key": 401,
    "authentication": 401, "permission_denied": 403, "payment_required": 402, "in_flight_budget_exhausted": 402,
    "not_found": 404, "model_not_found": 404, "context_length_exceeded": 400, "invalid_request": 400, "invalid_prompt": 400,
    "content_filter": 400, "unprocessable": 422, "payload_too_large": 413, "provider_overloaded": 529,
    "provider_unavailable": 502, "timeout": 504, "server": 500,
}  # fmt: skip
"""What an error name without a status stands for."""


def refusal(status: int, body: Any, wait_s: float | None = None, should_retry: bool | None = None) -> Refusal:
    """The Refusal for an error status (of HTTP, or inside a 200 body) and its decoded body, text or page.

    `wait_s`: what the headers ask for; else the message is looked at. `should_retry`: the server's own word on it.
    """
    said = told(body)
    rule = next(rule for rule in RULES if rule.fits(status, said))
    action = rule.action
    if (
        should_retry
        and rule.error_class in ("refused_request", "invalid_item")
        and not (rule.names or rule.words)
    ):
        action = Action.RETRY
    if wait_s is None and action is Action.RETRY:
        wait_s = wait_in_text_s(said.message)
    return Refusal(
        action, rule.error_class, said.message, status, wait_s,
        maybe_billed=status in GAVE_UP_WAITING, advice=rule.advice, once=should_retry is False,
    )  # fmt: skip


def status_of(error: Any) -> int:
    """The HTTP status that an error inside a 200 body or a stream stands for; 500 when it does not say."""
    names = told({"error": error}).names
    numbers = [int(name) for name in names if name.isascii() and name.isdigit() and len(name) == 3]
    known = [STATUS_OF_NAME[name] for name in names if name in STATUS_OF_NAME]
    return next((status for status in (*numbers, *known) if 400 <= status < 600), 500)
