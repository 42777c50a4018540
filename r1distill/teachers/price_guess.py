"""A price from a package's table, where the recipe states none: an estimate for people, never the base of a budget.

The package is genai-prices (https://github.com/pydantic/genai-prices, MIT), optional. Its figures depend on the hour and on
tiers of prompt length and lag behind the providers; where it does not know the model at this very host, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit


def guessed_usd(
    model: str, base_url: str | None, tokens: Sequence[tuple[float, float]]
) -> tuple[list[float] | None, str]:
    """(USD for each pair of prompt and completion tokens, or None; the package and its version, or "")."""
    try:
        import genai_prices
    except ImportError:
        return None, ""
    price = _per_token(genai_prices, model, base_url or "")
    if price is None:
        return None, ""
    per_prompt, per_completion = price
    return [p * per_prompt + c * per_completion for p, c in tokens], f"genai-prices {version('genai-prices')}"


def _per_token(package: Any, model: str, base_url: str) -> tuple[float, float] | None:
    """USD of one prompt and of one completion token, from a request of ordinary size (tiers apply to long prompts)."""
    usual = 1000
    try:
        used = package.Usage(input_tokens=usual, output_tokens=usual)
        found = package.calc_price(used, model_ref=model, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    host = urlsplit(base_url).hostname or ""
    if not host or found.input_price is None or found.output_price is None:
        return None
    return float(found.input_price) / usual, float(found.output_price) / usual
