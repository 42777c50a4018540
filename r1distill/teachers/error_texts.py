"""Error bodies in all the shapes that teachers use -> how the error calls itself, and a message of one sentence.

Shapes: {"error": {message, type, code, param}} (OpenAI, vLLM with a number as code), the same flat (SGLang),
{"error": "text"} (transformers serve), [{"error": ...}] (Gemini), {"detail": "text" | [{loc, msg, type}]} (FastAPI),
innererror (Azure), metadata with error_type, limit_source, flagged_input and the upstream's body in `raw` (OpenRouter),
{"message", "__type"} (AWS), and HTML pages of the proxies in between.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

MOST_CHARACTERS = 500
READ_CHARACTERS = 4_000
NAME_FIELDS = ("code", "type", "status", "error_type", "limit_source", "__type", "Code")
BAD_FIELD = "bad_field"
"""The name given here to an error that points at a field of the request other than its messages."""
TEXT_FIELDS = ("message", "detail", "msg", "Message", "error_description")
LONG_QUOTE = re.compile(r""""[^"]{40,}"|`[^`]{40,}`|(?<!\w)'(?:[^']|(?<=\w)'(?=\w)){40,}'(?!\w)""")
"""What is quoted at length is not the server speaking: mostly it is the question."""
TAG = re.compile(r"<[^<>]*>")


class Told(NamedTuple):
    """What an error says."""

    names: tuple[str, ...]
    """Its codes and types, in lower case, the most telling first."""
    message: str
    """For people: one line."""
    words: str
    """For rules: the message without long quotations, in lower case."""
    upstream: str = ""
    """The same of what a router says that the provider behind it said."""


def told(body: Any) -> Told:
    """What a decoded error body, or the text of a page, says."""
    error = _error(body)
    if not isinstance(error, dict):
        message = one_line(error)
        return Told((), message, _words(message))
    names = tuple(dict.fromkeys(_names(error)))
    message, upstream = one_line(_message(error)), _upstream(error)
    shown = one_line(f"{message} ({upstream})") if upstream else message
    return Told(names, shown, _words(message), _words(upstream))


def _error(body: Any) -> Any:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    return (body.get("error") or body.get("errors") or body) if isinstance(body, dict) else body


def _names(error: dict[str, Any]) -> Iterator[str]:
    """Every code and type, also of nested objects of the server's own; not those of an upstream."""
    for inner in (error.get("metadata"), error.get("innererror"), error):
        if isinstance(inner, dict):
            for field in NAME_FIELDS:
                value = inner.get(field)
                if isinstance(value, str | int) and not isinstance(value, bool):
                    yield str(value).rpartition("#")[2].strip().lower()
            if "flagged_input" in inner:
                yield "flagged_input"
    for fault in _faults(error):
        yield str(fault.get("type")).lower()
        if not _about_messages(fault):
            yield BAD_FIELD
    param = error.get("param")
    if isinstance(param, str) and param and not param.startswith(("messages", "prompt", "input")):
        yield BAD_FIELD


def _faults(error: dict[str, Any]) -> list[dict[str, Any]]:
    """The list of faults that FastAPI gives as detail."""
    detail = error.get("detail")
    return [fault for fault in detail if isinstance(fault, dict)] if isinstance(detail, list) else []


def _about_messages(fault: dict[str, Any]) -> bool:
    """True when a fault lies in the messages, so that other items may do better."""
    loc = fault.get("loc")
    return not isinstance(loc, list) or len(loc) < 2 or loc[1] == "messages"


def _message(error: dict[str, Any]) -> Any:
    faults = _faults(error)
    if faults:  # without their `input`, which holds the question
        return "; ".join(f"{_place(fault)}{fault.get('msg') or fault.get('type')}" for fault in faults[:5])
    text = next((error[field] for field in TEXT_FIELDS if error.get(field)), None)
    return {k: v for k, v in error.items() if k not in ("metadata", "stack")} if text is None else text


def _place(fault: dict[str, Any]) -> str:
    loc = fault.get("loc")
    return ".".join(str(step) for step in loc) + ": " if isinstance(loc, list) and loc else ""


def _upstream(error: dict[str, Any]) -> str:
    """What the provider behind a router said (OpenRouter's metadata.raw): its message."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str):
        try:
            raw = json.loads(raw[:READ_CHARACTERS])
        except (ValueError, RecursionError):
            return one_line(raw)
    inner = _error(raw)
    if isinstance(inner, dict):
        inner = next((inner[field] for field in TEXT_FIELDS if isinstance(inner.get(field), str)), "")
    return one_line(inner) if isinstance(inner, str) and inner else ""


def one_line(text: Any) -> str:
    """What a server said, for people: one line of at most MOST_CHARACTERS; of an HTML page its title or first words."""
    text = str("" if text is None else text)[:READ_CHARACTERS]
    if "<html" in (lower := text.lower()) or "<!doctype" in lower:
        text = f"an HTML page: {_title(text, lower)}"
    seen = "".join(
        letter if letter.isprintable() else " " for letter in text
    )  # a terminal obeys some of the others
    text = " ".join(seen.split()) or "no message"
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _title(page: str, lower: str) -> str:
    for tag in ("title", "h1"):
        start = lower.find(">", lower.find(f"<{tag}")) + 1 if f"<{tag}" in lower else 0
        end = lower.find(f"</{tag}", start)
        if start and end > start and (text := _plain(page[start:end])):
            return text[:120]
    return _plain(page)[:120] or "without words"


def _plain(page: str) -> str:
    return " ".join(html.unescape(TAG.sub(" ", page)).split())


def _words(message: str) -> str:
    return LONG_QUOTE.sub(" ", message).lower()


def said_by(error: Any) -> Any:
    """What a server said in an openai.APIStatusError: its decoded body or text, or where it redirects to."""
    if error.status_code // 100 == 3:
        place = place_of(error.response.headers.get("location", ""))
        if place is not None:
            return f"it redirects to {place.scheme}://{place.hostname}{place.path}"
    return error.body if error.body is not None else error.message


def place_of(url: str) -> SplitResult | None:
    """The parts of an address with a host; None for anything else."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts if parts.hostname else None
    return None
