"""What the values of a recipe must be, beyond their type: rules that pydantic runs on single keys.

Each takes a value and returns it, or raises ValueError with the rest of the sentence "'section.key': ...".
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any
from urllib.parse import urlsplit

from r1distill.records import CEILING_KEYS

COLUMNS = ("question", "answer", "id", "answer_kind", "tests", "tags")
"""What a row of a problem file may hold."""
KEY_LIKE = re.compile(r"(sk|pk|rk|gsk|xai|nvapi|hf|fw|tgp)[-_]")
"""How keys begin that people put where the name of a variable belongs."""


def known_columns(columns: dict[str, str]) -> dict[str, str]:
    """A columns table: its keys are columns that are read."""
    for name in columns:
        if name not in COLUMNS:
            raise ValueError(f"{name!r} is no column that is read; there are {', '.join(COLUMNS)}")
    return columns


def plain(table: dict[str, Any] | None) -> dict[str, Any] | None:
    """A table with free keys: only what JSON can hold, since it is sent, hashed and written as JSON."""
    for place, value in _leaves(table, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON can't hold")
        if not isinstance(value, str | int | float | None):
            raise ValueError(f"{place} is a {type(value).__name__}, which JSON can't hold")
    return table


def _leaves(value: Any, place: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        parts = [(f"{place}.{key}".lstrip("."), item) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [(f"{place}[{number}]", item) for number, item in enumerate(value)]
    else:
        return [(place, value)]
    return [leaf for where, item in parts for leaf in _leaves(item, where)]


SAMPLING = (
    "temperature", "top_p", "top_k", "top_a", "min_p", "typical_p", "n", "seed", "stop", "max_tokens", "max_completion_tokens",
    "min_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty", "logit_bias", "logprobs",
    "top_logprobs", "reasoning", "reasoning_effort", "thinking", "enable_thinking", "thinking_budget", "include_reasoning",
    "reasoning_format", "chat_template_kwargs", "response_format", "service_tier",
)  # fmt: skip
"""Parameters of chat completions that servers take (OpenAI's reference, vLLM's sampling parameters, OpenRouter's parameters)."""
SAME_WORD = 0.85
"""As alike as a word and the same with a letter wrong (difflib's ratio)."""


def sampling(table: dict[str, Any] | None) -> dict[str, Any] | None:
    """A sampling table: plain, a ceiling in it is a whole number of tokens, and no parameter is a mistyped one.

    Parameters that nobody here has heard of pass: servers take some of their own.
    """
    for key in table or {}:
        near = [] if key in SAMPLING else difflib.get_close_matches(key, SAMPLING, n=1, cutoff=SAME_WORD)
        if near:
            raise ValueError(f"{key!r} is no parameter that we know; did you mean {near[0]!r}?")
    for key in CEILING_KEYS:
        ceiling = (table or {}).get(key)
        if ceiling is not None and (type(ceiling) is not int or ceiling < 1):
            raise ValueError(f"{key} must be a whole number of tokens, at least 1")
    return plain(table)


def caps(table: dict[str, Any]) -> dict[str, Any]:
    """A table of caps by tag: each a whole number of traces, or a table of such numbers by the tag's value."""
    for tag, cap in table.items():
        least = 0 if isinstance(cap, dict) else 1  # none of one value is a mixture, none of all is a mistake
        for value, most in cap.items() if isinstance(cap, dict) else [("", cap)]:
            if type(most) is not int or most < least:
                raise ValueError(
                    f"{f'{tag}.{value}'.rstrip('.')} must be a whole number of traces, at least {least}"
                )
    return table


def variable_name(name: str | None) -> str | None:
    """The name of an environment variable; what looks like a key is refused and never repeated."""
    if name is not None and (KEY_LIKE.match(name) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
        raise ValueError(
            "this is no name of an environment variable; write the name here, as DEEPSEEK_API_KEY, "
            "and put the key itself into that variable"
        )
    return name


def without_password(url: str | None) -> str | None:
    """An address that carries no user name and no password."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        raise ValueError("this is no http(s) address") from None
    if parts.username or parts.password:
        raise ValueError(
            "an address with a user name or password is not taken; name the key's variable in api_key_env"
        )
    return url
