"""What an answer cost, what it can cost at most, and what answers that are still owed may cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from r1distill.recipe_sections import PriceSection
from r1distill.records import Message, Usage

TEMPLATE_TOKENS = 256
"""Room for what the chat template of a teacher adds to the messages: roles, a default system prompt."""
CHARS_PER_TOKEN = 3.5
"""Of English text with formulas; only for estimates that say so, until answers of this teacher tell better."""
GUESSED_SHARES = (1 / 16, 1 / 4, 1.0)
"""Low, expected and high length of an answer as a share of its ceiling, while no answer of this teacher is known."""
Z95 = 1.96
"""Standard deviations of a 95% interval."""


def cost_usd(usage: Usage, price: PriceSection | None) -> float | None:
    """USD of one answer (prices are per million tokens); None when the price or the usage is unknown."""
    if price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = usage.prompt_tokens - cached
    return (fresh * price.input + cached * cached_price + usage.completion_tokens * price.output) / 1e6


def most_prompt_tokens(messages: Iterable[Message]) -> int:
    """An upper bound: a token of a byte-level vocabulary is at least one byte long."""
    return TEMPLATE_TOKENS + sum(len(m.content.encode("utf-8", "surrogatepass")) + 8 for m in messages)


def worst_case_usd(
    messages: Iterable[Message], max_tokens: int | None, price: PriceSection | None
) -> float | None:
    """The most that one request can cost, in USD; None without a price or a ceiling."""
    if price is None or max_tokens is None:
        return None
    dearest_input = max(price.input, price.cached_input or 0.0)
    return (most_prompt_tokens(messages) * dearest_input + max_tokens * price.output) / 1e6


class History(NamedTuple):
    """What a teacher's answers so far were like."""

    answers: int = 0
    mean_tokens: float = 0.0
    """Completion tokens."""
    deviation_tokens: float = 0.0
    prompt_chars_per_token: float | None = None


class Estimate(NamedTuple):
    """Low, expected and high of what is owed; None where it can't be told."""

    answers: int
    prompt_tokens: tuple[float, float, float]
    completion_tokens: tuple[float, float, float] | None
    usd: tuple[float, float, float] | None
    """By the recipe's price."""
    measured: bool
    """True: from answers of this teacher; False: shares of the ceiling."""


class Ceilings(NamedTuple):
    """The sum of the ceilings of requests, in tokens."""

    first: int = 0
    again: int = 0
    """Of the requests that follow if every answer is cut (escalation)."""


def estimate(
    prompt_chars: int, answers: int, ceilings: Ceilings | None, price: PriceSection | None, past: History
) -> Estimate:
    """What `answers` requests whose prompts have so many characters in all may use.

    With a history of 5 answers or more: mean and 95% interval of the sum (the mean's own error and the spread of single
    answers); without: GUESSED_SHARES of the ceilings. The high figure is never more than if every answer is as long as its
    ceiling and, where the recipe escalates, is cut and asked again.
    """
    ratio = past.prompt_chars_per_token or CHARS_PER_TOKEN
    tokens = prompt_chars / ratio
    twice = 2.0 if ceilings is not None and ceilings.again else 1.0
    prompt = (
        (tokens, tokens, tokens * twice)
        if past.prompt_chars_per_token
        else (tokens * 0.7, tokens, tokens * 1.8 * twice)
    )
    completion = _completion(answers, ceilings, past)
    usd = None
    if price is not None and completion is not None:
        low, mid, high = (
            (p * price.input + c * price.output) / 1e6 for p, c in zip(prompt, completion, strict=True)
        )
        usd = (low, mid, high)
    return Estimate(answers, prompt, completion, usd, past.answers >= 5)


def _completion(answers: int, ceilings: Ceilings | None, past: History) -> tuple[float, float, float] | None:
    most = float("inf") if ceilings is None else float(ceilings.first + ceilings.again)
    if past.answers >= 5:
        expected = answers * past.mean_tokens
        error = Z95 * past.deviation_tokens * (answers**2 / past.answers + answers) ** 0.5
        return max(0.0, expected - error), min(expected, most), min(expected + error, most)
    if ceilings is None:
        return None
    low, mid, _ = (ceilings.first * share for share in GUESSED_SHARES)
    return low, mid, most
