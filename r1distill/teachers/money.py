"""What an answer cost, by the price that the recipe states."""

from __future__ import annotations

from r1distill.recipe_sections import PriceSection
from r1distill.records import Usage


def cost_usd(usage: Usage, price: PriceSection | None) -> float | None:
    """USD of one answer (prices are per million tokens); None when the price or the usage is unknown."""
    if price is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    fresh = usage.prompt_tokens - cached
    return (fresh * price.input + cached * cached_price + usage.completion_tokens * price.output) / 1e6
