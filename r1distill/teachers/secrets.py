"""Keep keys out of everything that is written: errors, ledgers, logs."""

from __future__ import annotations

import re
from collections.abc import Iterable

KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai|nvapi|org|hf|fw|tgp)[-_][A-Za-z0-9_\-]{8,}")
"""Shapes that providers give their keys and organisation ids, which their error texts like to echo."""
BEARER = re.compile(r"(?i)\b(bearer|api[-_ ]?key)([\s:=]+)[A-Za-z0-9._\-*]{8,}")
MOST_CHARACTERS = 500


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and anything key-like, on one line, at most MOST_CHARACTERS long."""
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "[key]")
            text = text.replace(secret[-6:], "[key]") if len(secret) >= 16 else text
    text = BEARER.sub(r"\1\2[key]", KEY_LIKE.sub("[key]", text))
    text = " ".join(text.split())
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
