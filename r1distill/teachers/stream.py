"""Server-sent events of a streamed chat completion -> the same object that a plain reply has.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html and OpenAI's chunk objects
(https://platform.openai.com/docs/api-reference/chat/streaming). Comments (keep-alives) and blank lines are passed over.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import decode_json

TEXT_FIELDS = ("content", "reasoning", "reasoning_content")


class Gathered:
    """What has arrived of one streamed answer so far."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._about: dict[str, Any] = {}
        self._finish: Any = None

    @property
    def finished(self) -> bool:
        """True once a finish_reason came: the text is whole, though the usage may still be missing."""
        return self._finish is not None

    def add(self, piece: dict[str, Any]) -> None:
        """Take in one chunk object; what is not shaped like one is passed over."""
        self._about.update({key: piece[key] for key in ("model", "usage") if piece.get(key)})
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._add_delta(choice.get("delta"))
                self._finish = choice.get("finish_reason") or self._finish

    def _add_delta(self, delta: Any) -> None:
        if not isinstance(delta, dict):
            return
        for field in TEXT_FIELDS:
            value = delta.get(field)
            if isinstance(value, str):
                self._texts.setdefault(field, []).append(value)
            elif isinstance(value, list):
                self._lists.setdefault(field, []).extend(value)
        if isinstance(delta.get("reasoning_details"), list):
            self._lists.setdefault("reasoning_details", []).extend(delta["reasoning_details"])

    def whole(self) -> dict[str, Any]:
        """All of it as one chat-completion object."""
        texts: dict[str, Any] = {field: "".join(parts) for field, parts in self._texts.items()}
        for (
            field,
            parts,
        ) in self._lists.items():  # a content may come as text at first and as typed parts later
            before = [{"type": "text", "text": texts[field]}] if texts.get(field) else []
            texts[field] = [*before, *parts]
        return {**self._about, "choices": [{"message": texts, "finish_reason": self._finish}]}


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The data of each event; several data lines of one event are joined by newlines."""
    rest: list[
        bytes
    ] = []  # pieces of the last, unfinished line: joined once, since a line may be megabytes long
    data: list[bytes] = []
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for following in others:
            line, rest = b"".join(rest).rstrip(b"\r"), [following]
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
    last = b"".join(rest)
    if last.startswith(b"data:"):
        data.append(last[5:].strip())
    if data:
        yield b"\n".join(data)


async def collect(chunks: AsyncIterable[bytes], gathered: Gathered | None = None) -> dict[str, Any]:
    """The whole stream as one chat-completion object, or an object with the error that it carried.

    `gathered` holds what came so far when reading fails. Raises Refusal (RETRY) when it ends before finish_reason.
    """
    gathered = Gathered() if gathered is None else gathered
    async for event in events(chunks):
        if event.strip() == b"[DONE]":
            break
        piece = _piece(event)
        if piece.get("error") or piece.get("object") == "error":
            return {"error": piece.get("error") or piece}
        gathered.add(piece)
    if not gathered.finished:
        raise Refusal(Action.RETRY, "cut_stream", "The stream ended before a finish_reason")
    return gathered.whole()


def _piece(event: bytes) -> dict[str, Any]:
    try:
        piece = decode_json(event)
    except ValueError:
        shown = event[:80].decode("utf-8", "replace")
        raise Refusal(Action.RETRY, "malformed", f"A stream event is no JSON: {shown}") from None
    if not isinstance(piece, dict):
        raise Refusal(Action.RETRY, "malformed", "A stream event is no JSON object")
    return piece
