"""A reply that is one JSON object with the key "answer" or "final_answer": what stands there is the final answer.

In: an answer text. Out: the answer as text, as it would stand in a box. The rest of the object (its reasoning) is not
looked at. Models write TeX into JSON with single backslashes; those are read as they are meant.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_CHARS = 200_000
"""Longer replies are not read."""
ENDS = 16
"""So much of the end is looked at before anything is parsed."""
KEYS = ("final_answer", "answer")
"""The first one that an object has counts."""
OPENED = re.compile(r"```[ \t]{0,4}(?:json|JSON)?[ \t]{0,4}\n")
BACKSLASH = re.compile(
    r'\\(?:(["\\/]|u[0-9A-Fa-f]{4}|n(?!(?:eq?|u|ot|otin|abla|mid|eg)(?![a-z]))'
    r"|t(?!(?:imes|heta|anh?|ext|frac|au|o|riangle)(?![a-z])))|)"
)
"""A backslash as JSON knows it, or one that begins a command: \\frac is no form feed, \\neq no new line."""
LAST_KEY = re.compile(
    r'"(?:final[_ ])?answer"\s{0,3}:\s{0,3}("(?:[^"\\\n]|\\.){1,200}"|-?\d[\d.]{0,40})\s{0,9}\}\s{0,9}(?:```\s{0,9})?$',
    re.IGNORECASE,
)
LAST_KEY_CHARS = 320
ERRORS = (ValueError, RecursionError)


def json_reply(text: str) -> str | None:
    """The answer of a JSON reply, "" when it gives none; None when the text is no such reply."""
    end = text[-ENDS:].rstrip()
    if not end.endswith(("}", "]", "```")) or len(text) > MAX_CHARS:
        return None
    if end[-1] == "]":
        return _listed(text) if text.lstrip()[:1] == "[" and '"' in text else None
    if 'nswer"' not in text:
        return None
    body = _body(text.strip())
    found = None if body is None else _object(body)
    if found is None:
        return _last_key(text)
    return next((_written(found[key]) for key in KEYS if key in found), None)


def fenced_reply(text: str) -> str | None:
    """The answer of the only fenced block, a JSON object, of a text that goes on behind it; None for any other text."""
    if 'nswer"' not in text or text.count("```") != 2 or len(text) > MAX_CHARS:
        return None
    start, end = text.find("```"), text.rfind("```")
    opened = OPENED.match(text, start)
    found = _object(text[opened.end() : end].strip()) if opened else None
    return None if found is None else next((_written(found[key]) for key in KEYS if key in found), None)


def _last_key(text: str) -> str | None:
    """The answer of an object that can't be read, or is cut off in front, when it is the last thing in it."""
    found = LAST_KEY.search(text, max(0, len(text) - LAST_KEY_CHARS))
    value = _read(found[1]) if found else None
    return None if value is None else str(value)


def _listed(text: str) -> str | None:
    """`B, F` of ["B", "F"]: a text that is nothing but a JSON list of words."""
    value = _read(text)
    return (
        _written(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else None
    )


def _body(text: str) -> str | None:
    """The object: the whole text, or the fenced block that it ends with."""
    if text.startswith("{"):
        return text
    if not text.endswith("```"):
        return None
    start = text.rfind("```", 0, -3)
    opened = OPENED.match(text, start) if start >= 0 else None
    return None if opened is None else text[opened.end() : -3].strip()


def _object(body: str) -> dict[str, Any] | None:
    """The object with its keys in lower case; None for other values and when a key stands twice."""
    value = _read(body) if body.startswith("{") else None
    if not isinstance(value, dict):
        return None
    found = {key.casefold().replace(" ", "_"): item for key, item in value.items()}
    return found if len(found) == len(value) else None


def _read(text: str) -> Any:
    """The value of a JSON text; None when it is none. Line ends inside strings are taken."""
    decoder = json.JSONDecoder(
        strict=False, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once
    )
    try:
        return decoder.decode(BACKSLASH.sub(_meant, text.strip()))
    except ERRORS:
        return None


def _meant(found: re.Match[str]) -> str:
    return found.group() if found[1] else "\\\\"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")  # which of its values was meant?
    return found


def _written(value: Any) -> str:
    """A value as it would stand in a box: 1, 2 for a list of values, (1, 2), (3, 4) for a list of lists."""
    if isinstance(value, list):
        return ", ".join(
            f"({_written(item)})" if isinstance(item, list) else _written(item) for item in value
        )
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_written(item)}" for key, item in value.items())
    return "" if value is None else str(value)
