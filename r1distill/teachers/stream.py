"""Server-sent events of a streamed chat completion -> the same object that a plain reply has.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html and OpenAI's chunk objects
(https://platform.openai.com/docs/api-reference/chat/streaming). Comments (keep-alives) and blank lines are passed over.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec

from r1distill.teachers.replies import Action, Refusal

TEXT_FIELDS = ("content", "reasoning", "reasoning_content")


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The data of each event; several data lines of one event are joined by newlines."""
    rest, data = b"", []
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
    if rest.startswith(b"data:"):
        data.append(rest[5:].strip())
    if data:
        yield b"\n".join(data)


async def collect(chunks: AsyncIterable[bytes]) -> dict[str, Any]:
    """The whole stream as one chat-completion object. Raises Refusal (RETRY) when it ends before finish_reason."""
    texts: dict[str, list[str]] = {}
    lists: dict[str, list[Any]] = {}
    whole: dict[str, Any] = {}
    finish = None
    async for event in events(chunks):
        if event.strip() == b"[DONE]":
            break
        piece = _decode(event)
        if piece.get("error"):
            return {"error": piece["error"]}
        whole.update({key: piece[key] for key in ("model", "usage") if piece.get(key)})
        for choice in piece.get("choices") or ():
            _add(choice.get("delta") or {}, texts, lists)
            finish = choice.get("finish_reason") or finish
    if finish is None:
        raise Refusal(Action.RETRY, "cut_stream", "The stream ended before a finish_reason")
    message = {**{key: "".join(parts) for key, parts in texts.items()}, **lists}
    return {**whole, "choices": [{"message": message, "finish_reason": finish}]}


def _add(delta: dict[str, Any], texts: dict[str, list[str]], lists: dict[str, list[Any]]) -> None:
    for field in TEXT_FIELDS:
        value = delta.get(field)
        if isinstance(value, str):
            texts.setdefault(field, []).append(value)
        elif isinstance(value, list):
            lists.setdefault(field, []).extend(value)
    if isinstance(delta.get("reasoning_details"), list):
        lists.setdefault("reasoning_details", []).extend(delta["reasoning_details"])


def _decode(event: bytes) -> dict[str, Any]:
    try:
        piece = msgspec.json.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal(
            Action.RETRY, "malformed", f"A stream event is no JSON: {event[:80].decode('utf-8', 'replace')}"
        ) from None
    if not isinstance(piece, dict):
        raise Refusal(Action.RETRY, "malformed", "A stream event is no JSON object")
    return piece
