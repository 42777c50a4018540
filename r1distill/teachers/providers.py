"""Who can be asked: the rows of provider_rows.py and provider_rows_local.py, by name and by host.

Out of here come only cells whose source is known, so that a guess never changes a request or refuses one.
"""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from r1distill.errors import RecipeError
from r1distill.teachers.provider_row import Known, Note, certain, matches
from r1distill.teachers.provider_row import Provider as Provider
from r1distill.teachers.provider_rows import DAY, HOSTED, TERMS_QUOTED
from r1distill.teachers.provider_rows_local import LOCAL

PROVIDERS: dict[str, Provider] = {**HOSTED, **LOCAL}
"""All rows as they were written, guesses included; `provider` gives the ones to act by."""

ANTHROPIC = Note(
    ("*",),
    "Anthropic's terms restrict using output to train models that compete with it; read yours.",
    TERMS_QUOTED,
)
"""Has no row, but terms that people should know, since its models are to be had through routers."""
MAKERS = {"openai": "openai", "x-ai": "xai", "google": "gemini"}
"""Who made a model that a router calls maker/model, and whose row tells the terms."""
MODEL_NOTES = (
    Note(
        ("*llama*",),
        "Llama 3.1 to 3.3: a distributed model that was improved with their outputs must have a name that begins with "
        '"Llama", and must show "Built with Llama".',
        Known("page", "https://www.llama.com/llama3_1/license/", DAY),
    ),
)


CLAUDE = ("claude*", "*.claude*")
MODELS_OF = {
    "openai": ("gpt-*", "!gpt-oss*", "chatgpt*", "o[134]", "o[134]-*"), "gemini": ("gemini*",), "xai": ("grok*",)
}  # fmt: skip
"""Names of models that are served by their maker only, by provider."""


def provider(name: str) -> Provider:
    """The row of a provider, known cells only. Raises RecipeError that names the nearest one, or all."""
    row = PROVIDERS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, PROVIDERS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(PROVIDERS)}."
        raise RecipeError(
            f"Unknown provider '{name}'; {hint} Any other endpoint is provider = \"openai-compatible\" with its base_url."
        )
    return certain(row)


def by_host(base_url: str) -> str | None:
    """The name of the provider that answers at this address, or None."""
    host = (urlsplit(base_url).hostname or "").lower()
    return next(
        (name for name, row in PROVIDERS.items() if any(fnmatchcase(host, h) for h in row.hosts)), None
    )


def terms(base_url: str, model: str) -> str:
    """What the terms of this host, or of the maker of a routed model, say of training on outputs; "" if nothing is known."""
    host = (urlsplit(base_url).hostname or "").lower()
    maker = model.lower().split("/")[0] if "/" in model else ""
    name = by_host(base_url)
    if host == "api.anthropic.com" or (name == "openrouter" and maker == "anthropic"):
        return ANTHROPIC.text
    own = provider(name).terms if name else ""
    return own or (provider(MAKERS[maker]).terms if name == "openrouter" and maker in MAKERS else "")


def terms_by_name(model: str) -> str:
    """The same by a model's name alone, which is all that files of others say; "" if nothing is known."""
    if matches(model, CLAUDE):
        return ANTHROPIC.text
    maker = next((maker for maker, names in MODELS_OF.items() if matches(model, names)), None)
    return provider(maker).terms if maker else ""


def logprobs_body(row: Provider, k: int) -> dict[str, Any]:
    """The request fields that ask for the log-probabilities of each token and of `k` alternatives; {} for k = 0."""
    if k == 0:
        return {}
    return {"logprobs": k} if row.logprobs == "together" else {"logprobs": True, "top_logprobs": k}
