"""The table of who can be asked: one row per provider, only what differs from plain OpenAI.

Add a row to add a provider. Each fact names its source; a guess never changes a request.
"""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

from r1distill.errors import RecipeError


class Provider(NamedTuple):
    """How one provider differs."""

    base_url: str | None
    """Where it answers; None when the recipe must say it."""
    key_variable: str | None
    """Environment variable that usually holds its key; None: no key unless the recipe names a variable."""
    kind: Literal["http", "embedded"] = "http"
    """"embedded": a llama.cpp server that this tool starts and stops itself."""
    refused: tuple[str, ...] = ()
    """Sampling keys that the provider answers with an error, so that asking would be wasted."""
    source: str = ""


PROVIDERS: dict[str, Provider] = {
    "openai-compatible": Provider(None, None, source="any endpoint with POST /chat/completions"),
    "embedded": Provider(
        None, None, kind="embedded", source="llama.cpp's server through xllamacpp, on 127.0.0.1"
    ),
    "deepseek": Provider(
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        refused=("logprobs", "top_logprobs"),
        source="api-docs.deepseek.com, pages pricing and thinking_mode, read 2026-11-22",
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        source="openrouter 1.3.84 (PyPI), read 2026-11-22",
    ),
}


def provider(name: str) -> Provider:
    """The row of a provider. Raises RecipeError that names the nearest one, or all."""
    row = PROVIDERS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, PROVIDERS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(PROVIDERS)}."
        raise RecipeError(
            f"Unknown provider '{name}'; {hint} Any other endpoint is provider = \"openai-compatible\" with its base_url."
        )
    return row
