"""The log-probabilities of a reply -> one compact record.

In: the `logprobs` object of a choice, as raw JSON or decoded; streamed, one such object per event (`Gathering`). Shapes:
OpenAI's `content` list (https://platform.openai.com/docs/api-reference/chat/object; also vLLM, SGLang, Fireworks,
OpenRouter, Ollama, llama.cpp), and the older parallel lists `tokens`, `token_logprobs`, `top_logprobs`
(https://docs.together.ai/docs/logprobs; OpenAI's and Fireworks' completions). vLLM's `return_tokens_as_token_ids` spells
tokens "token_id:123" (https://docs.vllm.ai/en/latest/api/vllm/entrypoints/openai/).
Out: a `TokenLogprobs`, with the token bytes as the server gave them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from r1distill.logprobs.tokens import TokenLogprobs, unpack, with_reasoning_end
from r1distill.teachers.plain_logprobs import Plain, PlainEntry, PlainToken, PlainWire, is_spelled
from r1distill.teachers.replies import decode_json
from r1distill.thinking import Split

__all__ = ["Decoded", "Gathering", "TokenLogprobs", "decode", "read_logprobs"]

SENTINEL = -9999.0
"""What OpenAI and vLLM send for "very unlikely"; kept as -inf, like everything below."""
ROUNDING = 0.01
"""A logarithm of a probability may be above 0 by so much through rounding; more is noted as "positive"."""
PIECE_TOKENS = 64
"""So many streamed tokens are packed at a time: few enough to hold, enough to pack quickly."""


class Decoded(NamedTuple):
    """A record, or why there is none."""

    record: TokenLogprobs | None
    reason: str = ""
    """"" with a record; else "not given" (null or no tokens), or "malformed: ..." with what is wrong."""


class _Entry(msgspec.Struct, gc=False):
    token: str | None = None
    logprob: float | None = None
    bytes: list[int] | None = None


class _Token(msgspec.Struct, gc=False):
    token: str | None = None
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[_Entry] | None = None
    token_id: int | None = None


class _Wire(msgspec.Struct, gc=False):
    """Both shapes at once; what else the object holds is passed over undecoded."""

    content: list[_Token] | None = None
    tokens: list[str | None] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None
    token_ids: list[int] | None = None


_WIRE = msgspec.json.Decoder(_Wire | None)
_PLAIN_WIRE = msgspec.json.Decoder(PlainWire)
WORTH_IT_BYTES = 4096
"""From this size on the plain way is tried first."""


PLAIN_BYTES = bytes([0, *range(0x80, 0xF0)])
"""The upper bytes of float16 numbers that are 0, or negative and above -8192: leaving them out shows the others at C speed."""


class _Malformed(Exception):
    pass


def decode(raw: Any, asked: int, split: Split | None = None) -> TokenLogprobs | None:
    """`read_logprobs` without its reason. With the reply's `split` the record also says where the reasoning ends."""
    record = read_logprobs(raw, asked).record
    if record is None or split is None:
        return record
    return with_reasoning_end(record, split.reasoning, split.answer, split.source)


def read_logprobs(raw: Any, asked: int) -> Decoded:
    """The record of a `logprobs` object: JSON bytes (bytes, msgspec.Raw; fast) or decoded; or of a stream's many: a list
    of them in their order, or a `Gathering`. `asked`: alternatives asked for.

    Raises nothing for whatever a server may send: `Decoded.reason` says why there is no record.
    """
    if isinstance(raw, Gathering):
        return raw.finish(asked)
    gathering = Gathering()
    for chunk in raw if isinstance(raw, list | tuple) else (raw,):
        gathering.add(chunk)
    return gathering.finish(asked)


class Gathering:
    """The log-probabilities of one answer while they arrive, held packed (about 8 bytes per alternative and token)."""

    def __init__(self) -> None:
        self._pieces: list[TokenLogprobs] = []
        self._fresh: list[_Token] = []
        self._wrong = ""

    def add(self, raw: Any) -> None:
        """Take in the `logprobs` object of one event. One that is malformed spoils the record, since tokens would lack."""
        if self._wrong or raw is None:
            return
        try:
            plain = _packed_plain(raw)
            if plain is not None:
                self._pack()
                self._pieces.append(plain)
                return
            self._fresh += _tokens(raw.again() if isinstance(raw, Plain) else raw)
            if len(self._fresh) >= PIECE_TOKENS:
                self._pack()
        except _Malformed as error:
            self._wrong, self._pieces, self._fresh = f"malformed: {error}", [], []

    def finish(self, asked: int) -> Decoded:
        """The record of all that was added."""
        try:
            self._pack()
        except _Malformed as error:
            self._wrong = f"malformed: {error}"
        if self._wrong or not self._pieces:
            return Decoded(None, self._wrong or "not given")
        return Decoded(_joined(self._pieces, asked))

    def _pack(self) -> None:
        if self._fresh:
            self._pieces.append(_packed(self._fresh))
            self._fresh = []


def _packed_plain(raw: Any) -> TokenLogprobs | None:
    """The piece of one large object in the usual shape, by the texts of its tokens; None when that is not enough."""
    content = _plain_content(raw)
    if content is None:
        return None
    groups = [token.top_logprobs for token in content]
    others = list(chain.from_iterable(groups))
    chosen = _plain_columns(content)
    rest = _plain_columns(others)
    if not content or chosen is None or rest is None or any(token.token_id is not None for token in content):
        return None
    try:
        return TokenLogprobs(*chosen, *rest, struct.pack(f"<{len(groups)}H", *map(len, groups)))
    except struct.error:
        return None


def _plain_content(raw: Any) -> list[PlainToken] | None:
    if isinstance(raw, Plain):
        return raw.wire.content
    is_text = isinstance(raw, bytes | bytearray | memoryview | msgspec.Raw)
    if not is_text or memoryview(raw).nbytes < WORTH_IT_BYTES:
        return None
    try:
        return _PLAIN_WIRE.decode(raw).content
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _plain_columns(entries: Sequence[PlainToken | PlainEntry]) -> tuple[bytes, bytes, bytes] | None:
    """As `_columns`, of texts that are whole characters and values that are plain; else None."""
    texts = [entry.token for entry in entries]
    joined, count = "".join(texts), len(texts)
    if is_spelled(joined):
        return None
    try:
        blob = joined.encode()
        sizes = map(len, texts) if len(blob) == len(joined) else (len(text.encode()) for text in texts)
        values = struct.pack(f"<{count}e", *[entry.logprob for entry in entries])
        strange = values[1::2].translate(None, PLAIN_BYTES)
        return None if strange else (blob, struct.pack(f"<{count}H", *sizes), values)
    except (UnicodeEncodeError, struct.error, OverflowError):
        return None


def _tokens(raw: Any) -> list[_Token]:
    wire = _wire(raw)
    if wire is None:
        return []
    return wire.content or (_from_lists(wire) if wire.tokens else [])


def _wire(raw: Any) -> _Wire | None:
    try:
        if not isinstance(raw, bytes | bytearray | memoryview | msgspec.Raw):
            return msgspec.convert(raw, _Wire | None)
        try:
            wire: _Wire | None = _WIRE.decode(raw)
            return wire
        except (msgspec.DecodeError, UnicodeDecodeError):  # a stray byte, NaN, -Infinity: the patient way
            return msgspec.convert(decode_json(bytes(raw)), _Wire | None)
    except msgspec.ValidationError as error:
        raise _Malformed(str(error)[:200]) from None
    except (ValueError, OverflowError, RecursionError):
        raise _Malformed("no JSON") from None


def _from_lists(wire: _Wire) -> list[_Token]:
    names, values = wire.tokens or [], wire.token_logprobs or []
    tops: Sequence[dict[str, float | None] | None] = wire.top_logprobs or [None] * len(names)
    ids: Sequence[int | None] = wire.token_ids or [None] * len(names)
    if not len(names) == len(values) == len(tops):
        raise _Malformed(f"{len(names)} tokens, {len(values)} values, {len(tops)} lists of alternatives")
    if len(ids) != len(names):
        ids = [None] * len(names)
    return [
        _Token(name, value, None, [_Entry(*pair) for pair in top.items()] if top else None, number)
        for name, value, top, number in zip(names, values, tops, ids, strict=True)
    ]


def _packed(items: list[_Token]) -> TokenLogprobs:
    groups = [item.top_logprobs or () for item in items]
    notes: set[str] = set()
    try:
        chosen = _columns(items, notes)
        others = _columns(list(chain.from_iterable(groups)), notes)
        counts = struct.pack(f"<{len(groups)}H", *map(len, groups))
    except (ValueError, OverflowError):
        raise _Malformed("a byte that is none") from None
    except struct.error:
        raise _Malformed("a token of more than 65,535 bytes or alternatives") from None
    if b"\xef\xbf\xbd" in chosen[0]:
        notes.add("replaced")
    if (items[0].token or "").startswith("token_id:"):
        notes.add("token_ids")
    return TokenLogprobs(*chosen, *others, counts, _ids(items), notes=tuple(notes))


def _columns(entries: Sequence[_Token | _Entry], notes: set[str]) -> tuple[bytes, bytes, bytes]:
    """(bytes joined, sizes, values); what has no bytes, or none though it has a text, counts as its text in UTF-8."""
    names = [entry.bytes or (entry.token or "").encode("utf-8", "surrogatepass") for entry in entries]
    sizes = struct.pack(f"<{len(names)}H", *map(len, names))
    return bytes(chain.from_iterable(names)), sizes, _halves([entry.logprob for entry in entries], notes)


def _halves(values: list[Any], notes: set[str]) -> bytes:
    """As float16; whole lists without a strange value, which is nearly all, are checked at C speed."""
    plain = None not in values and min(values, default=0.0) > SENTINEL and max(values, default=0.0) <= 0.0
    if not (plain and sum(values) <= 0.0):  # a sum with a NaN is no number
        values = [_clamped(value, notes) for value in values]
    return struct.pack(f"<{len(values)}e", *values)


def _clamped(value: float | None, notes: set[str]) -> float:
    if value is None or value != value:
        notes.add("missing")
        return float("-inf")
    if value > ROUNDING:
        notes.add("positive")
    return min(value, 0.0) if value > SENTINEL else float("-inf")


def _ids(items: list[_Token]) -> bytes:
    """Tokens' numbers, when every token has one."""
    ids = []
    for item in items:
        named = (item.token or "").removeprefix("token_id:") if item.token_id is None else str(item.token_id)
        if item.token_id is None and (len(named) == len(item.token or "") or not named.isdecimal()):
            return b""
        ids.append(int(named[:20]))
    return struct.pack(f"<{len(ids)}I", *ids) if all(0 <= number < 1 << 32 for number in ids) else b""


def _joined(pieces: list[TokenLogprobs], asked: int) -> TokenLogprobs:
    columns = [b"".join(column) for column in zip(*map(_bytes_of, pieces), strict=True)]
    counts = unpack("H", columns[6])
    if len(columns[7]) != 4 * len(counts):  # some pieces tell the numbers, some do not
        columns[7] = b""
    fewer = ("fewer",) if max(counts) < asked else ()
    notes = sorted({note for piece in pieces for note in piece.notes}.union(fewer))
    tokens, sizes, values, others, other_sizes, other_values, _, ids = columns
    return TokenLogprobs(
        tokens, sizes, values, others, other_sizes, other_values, columns[6], ids, asked, notes=tuple(notes)
    )


def _bytes_of(piece: TokenLogprobs) -> tuple[bytes, ...]:
    return (piece.tokens, piece.sizes, piece.values, piece.alternatives, piece.alternative_sizes,
            piece.alternative_values, piece.counts, piece.ids)  # fmt: skip
