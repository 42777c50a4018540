"""Server-sent events of a streamed chat completion -> the same object that a plain reply has.

In: the body in whatever pieces the network cuts it into (`Gathered.feed`). Out: one decoded chat completion
(`Gathered.end`), or an object with the error that the stream carried.

Source of the format: https://html.spec.whatwg.org/multipage/server-sent-events.html and OpenAI's chunk objects
(https://platform.openai.com/docs/api-reference/chat/streaming). Comments (keep-alives) and blank lines are passed over.
An answer has thousands of events, so only the fields that matter are decoded (`_take`); whatever is written in another way
than usual goes through `_slowly`, which reads it as the standard says.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import BOM, NULL, UNREADABLE, decode_json

ABOUT = ("model", "id", "provider", "system_fingerprint")
"""Said again in each event; the first one's is kept."""


FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""What the lines of a stream begin with; a line that begins with a colon is a comment."""


class Opening(enum.Enum):
    """What the first bytes of a body show."""

    UNKNOWN = "not enough came"
    STREAM = "server-sent events"
    TEXT = "something else"


def opening(start: bytes) -> tuple[Opening, bytes]:
    """What a body is whose first bytes are `start`, and these bytes without a byte order mark and blank lines."""
    start = start.lstrip().removeprefix(BOM).lstrip()
    if start.startswith(FIELDS):
        return Opening.STREAM, start
    if any(known.startswith(start) for known in (*FIELDS, BOM)):
        return Opening.UNKNOWN, start
    return Opening.TEXT, start


class _Choice(msgspec.Struct, gc=False):
    delta: dict[str, Any] | None = None
    index: Any = None
    finish_reason: Any = None
    native_finish_reason: Any = None
    seed: Any = None
    logprobs: ClassVar[Any] = NULL[0]


class _ChoiceWithLogprobs(msgspec.Struct, gc=False):
    delta: dict[str, Any] | None = None
    index: Any = None
    finish_reason: Any = None
    native_finish_reason: Any = None
    seed: Any = None
    logprobs: msgspec.Raw = NULL[0]


C = TypeVar("C")


class _Piece(msgspec.Struct, Generic[C], gc=False):
    """The fields of an event that are read; all others are passed over undecoded."""

    choices: list[C] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None


_PIECES = msgspec.json.Decoder(_Piece[_Choice])
_PIECES_WITH_LOGPROBS = msgspec.json.Decoder(_Piece[_ChoiceWithLogprobs])


class Gathered:
    """What has arrived of one streamed answer so far."""

    def __init__(self, logprobs: bool = False) -> None:
        self._decode = (_PIECES_WITH_LOGPROBS if logprobs else _PIECES).decode
        self._with_logprobs = logprobs
        self._model_unknown = True
        self._rest: list[bytes] = []
        """The beginning of an event whose end has not arrived: joined once, since an event may be megabytes long."""
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._about: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._logprobs: list[Any] = []
        self._choices = 1
        self._error: Any = None

    @property
    def begun(self) -> bool:
        """True once a part of the answer came."""
        return bool(self._texts or self._lists)

    @property
    def finished(self) -> bool:
        """True once a finish_reason came: the text is whole, though the usage may still be missing."""
        return bool(self._choice.get("finish_reason")) and self._error is None

    def feed(self, data: bytes) -> bool:
        """Take in what arrived. True when the stream said that it is over. Raises Refusal for what is no JSON object."""
        if b"\r" in data:  # JSON holds no raw carriage return, so that only line ends lose theirs
            data = data.replace(b"\r", b"")
        found = data.rfind(b"\n\n")
        end = found + 2 if found >= 0 else int(self._blank_line_was_cut(data))
        if not end:
            if data:
                self._rest.append(data)
            return False
        block = b"".join([*self._rest, data[:end]])
        self._rest = [data[end:]] if len(data) > end else []
        return self._take(block)

    def _blank_line_was_cut(self, data: bytes) -> bool:
        return data.startswith(b"\n") and bool(self._rest) and self._rest[-1].endswith(b"\n")

    def end(self) -> dict[str, Any]:
        """All of it as one chat-completion object, or an object with an error. Raises Refusal when it has no end."""
        if self._rest:
            rest, self._rest = b"".join(self._rest), []
            self._slowly(rest + b"\n\n")
        if self._error is not None:
            return {"error": self._error, "usage": self._about.get("usage")}
        if not self.finished:
            message = "The stream ended before a finish_reason"
            raise Refusal(Action.RETRY, "cut_stream", message, maybe_billed=True)
        return self.whole()

    def whole(self) -> dict[str, Any]:
        """What came so far as one chat-completion object."""
        message: dict[str, Any] = {field: "".join(parts) for field, parts in self._texts.items()}
        # a content may come as text at first and as typed parts later
        for field, listed in self._lists.items():
            before = [{"type": "text", "text": message[field]}] if message.get(field) else []
            message[field] = [*before, *listed]
        first = {**self._choice, "message": message, "logprobs": self._logprobs}
        return {**self._about, "choices": [first, *[{}] * (self._choices - 1)]}

    def _take(self, block: bytes) -> bool:
        """One or more whole events. True when the stream is over.

        Usually each is one `data: ` line and a blank one, and has the documented fields: those are decoded here, and all
        else is read with tolerance by `_slowly`. Every step of the loop is taken thousands of times an answer.
        """
        lines = block.split(b"\n")
        if any(lines[1::2]):
            return self._slowly(block)
        decode, texts = self._decode, self._texts
        for at, line in enumerate(lines[:-1:2]):
            try:
                if line[:6] != b"data: ":
                    if not line or line.startswith(b":"):
                        continue
                    return self._slowly(b"\n".join(lines[2 * at :]))
                piece = decode(line[6:])
            except UNREADABLE:
                return self._slowly(b"\n".join(lines[2 * at :]))
            if self._model_unknown or piece.usage or piece.choices is None or piece.error or piece.x_groq:
                if self._add(_piece(line[6:])):
                    return True
                continue
            for choice in piece.choices:
                if choice.index:
                    self._count(choice.index)
                    continue
                if choice.delta:
                    for field, value in choice.delta.items():
                        if value.__class__ is str and field in texts:
                            texts[field].append(value)
                        elif value:
                            self._add_field(field, value)
                if choice.finish_reason:
                    self._end_choice(choice.finish_reason, choice.native_finish_reason, choice.seed)
                if choice.logprobs not in NULL:
                    self._logprobs.append(choice.logprobs)
        return False

    def _slowly(self, block: bytes) -> bool:
        for name, event in _events(block):
            if event.strip() == b"[DONE]":
                return True
            if self._add(_error_piece(event) if name == b"error" else _piece(event)):
                return True
        return False

    def _add(self, piece: dict[str, Any]) -> bool:
        """Take in an event of any shape; what is not shaped like a chunk is passed over. True for an error."""
        self._note(piece)
        if piece.get("error") or piece.get("object") == "error":
            self._error = piece.get("error") or piece
            return True
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._add_choice(choice)
        return False

    def _add_choice(self, choice: dict[str, Any]) -> None:
        if choice.get("index"):
            self._count(choice["index"])
            return
        delta = choice.get("delta")
        for field, value in delta.items() if isinstance(delta, dict) else ():
            self._add_field(field, value)
        self._end_choice(*(choice.get(key) for key in ("finish_reason", "native_finish_reason", "seed")))
        if choice.get("logprobs") and self._with_logprobs:
            self._logprobs.append(choice["logprobs"])

    def _add_field(self, field: str, value: Any) -> None:
        """Texts are joined, lists are put one behind the other, whatever the field is called."""
        if isinstance(value, str) and value and field != "role":
            self._texts.setdefault(field, []).append(value)
        elif isinstance(value, list):
            self._lists.setdefault(field, []).extend(value)

    def _end_choice(self, finish: Any, native: Any, seed: Any) -> None:
        said = {"finish_reason": finish, "native_finish_reason": native, "seed": seed}
        self._choice.update({key: value for key, value in said.items() if value})

    def _note(self, piece: dict[str, Any]) -> None:
        """Who answered, as the first events say it, and the last usage."""
        self._about.update({k: piece[k] for k in ABOUT if piece.get(k) and k not in self._about})
        self._model_unknown = "model" not in self._about
        groq = piece.get("x_groq")  # its usage may stand there: https://console.groq.com/docs/api-reference
        usage = piece.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
        if usage:
            self._about["usage"] = usage

    def _count(self, index: Any) -> None:
        if isinstance(index, int) and 0 < index < 1024:
            self._choices = max(self._choices, index + 1)


def _events(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, data) of each event of a text that ends with a blank line; several data lines are joined by newlines."""
    name, data = b"", []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            name = line[6:].strip()
        elif not line:
            if data:
                yield name, b"\n".join(data)
            name, data = b"", []


def _piece(event: bytes) -> dict[str, Any]:
    try:
        piece = decode_json(event)
    except ValueError:
        shown = event[:80].decode("utf-8", "replace")
        message = f"A stream event is no JSON: {shown}"
        raise Refusal(Action.RETRY, "malformed", message, maybe_billed=True) from None
    if not isinstance(piece, dict):
        raise Refusal(Action.RETRY, "malformed", "A stream event is no JSON object", maybe_billed=True)
    return piece


def _error_piece(event: bytes) -> dict[str, Any]:
    """What an event of the name "error" says, as an object with an error."""
    try:
        said = decode_json(event)
    except ValueError:
        said = event[:500].decode("utf-8", "replace")
    return said if isinstance(said, dict) and said.get("error") else {"error": said or "error"}
