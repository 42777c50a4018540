"""Keep keys out of everything that is written: errors, ledgers, logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai|nvapi|org|hf|fw|tgp)[-_][A-Za-z0-9_\-*]{8,}")
"""Shapes that providers give their keys and organisation ids, which their error texts like to echo."""
BEARER = re.compile(r"(?i)\b(bearer|api[-_ ]?key)([\s:=]+)[A-Za-z0-9._\-*]{8,}")
MASKED = re.compile(r"[A-Za-z0-9_\-]*\*{3,}[A-Za-z0-9_\-*]*")
"""A key with its middle hidden: what is left of it is no business of a file either."""
MOST_CHARACTERS = 500
READ_CHARACTERS = 20_000
SHORTEST_SECRET = 6
WINDOW = 8
"""A piece of a secret that is at least so long is hidden too: servers quote the first or last characters."""


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and anything key-like, on one line, at most MOST_CHARACTERS long."""
    text = text[:READ_CHARACTERS]
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            for form in {secret, quote(secret, safe="")}:
                text = _without(text, form)
    text = MASKED.sub("[key]", BEARER.sub(r"\1\2[key]", KEY_LIKE.sub("[key]", text)))
    text = " ".join(text.split())
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _without(text: str, secret: str) -> str:
    """`text` with every stretch that is part of `secret`, WINDOW characters or more, replaced."""
    window = min(WINDOW, len(secret))
    parts = {secret[i : i + window] for i in range(len(secret) - window + 1)}
    hidden = [False] * len(text)
    for start in range(len(text) - window + 1):
        if text[start : start + window] in parts:
            hidden[start : start + window] = [True] * window
    pieces, inside = [], False
    for letter, hide in zip(text, hidden, strict=True):
        if not hide:
            pieces.append(letter)
        elif not inside:
            pieces.append("[key]")
        inside = hide
    return "".join(pieces)
