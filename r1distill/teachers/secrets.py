"""Keep keys out of everything that is written: errors, ledgers, logs.

Known secrets vanish with every piece of them that is WINDOW characters or longer; what merely looks like a key vanishes by
its shape or by the word before it. Everything runs in time linear in the text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MOST_CHARACTERS = 500
READ_CHARACTERS = 20_000
SHORTEST_SECRET = 6
WINDOW = 8
"""A piece of a secret that is at least so long is hidden too: servers quote the first or last characters."""
LONG_WORD = 16
"""Letters in a row, without any sign of chance, that no ordinary word has."""
HIDDEN = "[key]"

PREFIXED = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|nvapi|org|proj|hf|fw|tgp|csk|pplx|bedrock-api-key)[-_][A-Za-z0-9_\-*+/=]{8,}"
)
"""How providers begin their keys and organisation ids, which their error texts like to echo."""
SHAPED = re.compile(
    r"\b(?:ABSK[A-Za-z0-9+/=]{16,}"  # Bedrock's bearer tokens
    r"|AIza[A-Za-z0-9_\-]{20,}"  # Google
    r"|A[KS]IA[A-Z0-9]{12,}"  # ids of AWS access keys
    r"|eyJ[A-Za-z0-9_\-]{10,}(?:\.[A-Za-z0-9_\-]*)*)"  # JSON web tokens
)
AFTER_WORD = re.compile(
    r"(?i)\b((?:proxy-)?authorization|bearer|(?:x-)?(?:goog-)?(?:api|subscription|access|secret)[-_ ]?keys?(?:[-_ ]id)?"
    r"|credential|signature|(?:access|security|session)[-_]token)"
    r"""(["']?\s*[:=]\s*["']?|\s+["'`]?)((?:bearer|basic)\s+)?([A-Za-z0-9._\-*+/=~]{6,})"""
)
"""A word that keys stand behind, what parts them, and what may be the key."""
IN_QUERY = re.compile(
    r"(?i)([?&;](?:api[-_]?key|key|subscription-key|(?:access_|auth_)?token|sig|signature)=)[^&\s\"'<>#;]+"
)
IN_AUTHORITY = re.compile(r"(//|\\/\\/)[^\s/]+@")
"""User and password before the host of a URL, as those of a proxy have them."""
HEX_KEY = re.compile(r"(?i)(\bkeys?\b[^\n]{0,40}?)\b[0-9a-f]{32}\b")
"""Azure's older keys, with the word key shortly before them."""
MASKED = re.compile(r"[A-Za-z0-9_\-*]{5,}")


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and anything key-like, on one line, at most MOST_CHARACTERS long."""
    text = " ".join(text[:READ_CHARACTERS].split())
    for secret in secrets:
        for form in _forms(secret):
            text = _without(text, form)
    text = _key_like(text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _forms(secret: str) -> set[str]:
    """A secret as it is, and as URLs, JSON and HTML write it; none when it is too short to be one."""
    secret = " ".join(secret.split())
    if len(secret) < SHORTEST_SECRET:
        return set()
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in quoted}
    escaped = json.dumps(secret)[1:-1]
    return {
        secret,
        *quoted,
        *lower,
        escaped,
        escaped.replace("/", "\\/"),
        html.escape(secret),
        html.escape(secret, False),
    }


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
            pieces.append(HIDDEN)
        inside = hide
    return "".join(pieces)


def _key_like(text: str) -> str:
    text = IN_AUTHORITY.sub(r"\1" + HIDDEN + "@", text)
    text = IN_QUERY.sub(r"\1" + HIDDEN, text)
    text = SHAPED.sub(HIDDEN, text)
    text = PREFIXED.sub(lambda found: HIDDEN if _by_chance(found[0].split("-", 1)[-1]) else found[0], text)
    text = AFTER_WORD.sub(_after_word, text)
    text = HEX_KEY.sub(r"\1" + HIDDEN, text)
    return MASKED.sub(lambda found: HIDDEN if _masked(found[0]) else found[0], text)


def _after_word(found: re.Match[str]) -> str:
    word, between, scheme, value = found.groups()
    return f"{word}{between}{scheme or ''}{HIDDEN}" if _by_chance(value) else found[0]


def _by_chance(token: str) -> bool:
    """True for what no writer of words makes: digits or stars in it, mixed case, or a very long run of letters."""
    if any(letter.isdigit() or letter == "*" for letter in token):
        return True
    words = [word for word in re.split(r"[^A-Za-z]+", token) if word]
    ordinary = all(word.islower() or word.isupper() or word.istitle() for word in words)
    return not ordinary or any(len(word) >= LONG_WORD for word in words)


def _masked(token: str) -> bool:
    """True for a key with its middle or one end hidden by stars; what is left of it is no business of a file either."""
    inner = token.strip("*")
    starred = "***" in token and bool(inner)
    return starred and not (token.startswith("*") and token.endswith("*") and "***" not in inner)
