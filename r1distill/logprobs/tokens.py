"""The log-probabilities of one answer, packed; and how many of its leading tokens are reasoning.

Out of a reply they come by teachers/logprobs.py, on the disk they are kept by logprobs/store.py.
Values are natural logarithms as float16, never above 0, never NaN. -inf means "not told, or so unlikely that the server
does not tell it".
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise
from typing import Any, NamedTuple

import msgspec

from r1distill.thinking import SPELLINGS

CLOSERS = tuple(spelling.closer.encode() for spelling in SPELLINGS)
MARGIN_BYTES = 64
"""At most so much stands before a reasoning (its opening tag) or behind an answer (the end-of-turn token)."""


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """One answer of N tokens, M alternatives in all. Numbers are packed little-endian; the methods unpack them."""

    tokens: bytes
    """The bytes of all N tokens, joined."""
    sizes: bytes
    """uint16 [N]: bytes of each token."""
    values: bytes
    """float16 [N]: log-probability of each token."""
    alternatives: bytes
    """The bytes of all M alternatives, joined; the first alternatives are the first token's."""
    alternative_sizes: bytes
    """uint16 [M]."""
    alternative_values: bytes
    """float16 [M]."""
    counts: bytes
    """uint16 [N]: alternatives of each token."""
    ids: bytes = b""
    """uint32 [N]: the tokens' numbers in the teacher's vocabulary; empty when the server did not tell."""
    asked: int = 0
    """Alternatives per token that were asked for."""
    reasoning_ends: int | None = None
    """So many leading tokens are reasoning, its closing tag included; None when unknown."""
    reasoning_found: str = "unknown"
    """How that is known: see `position_of_reasoning_end`."""
    notes: tuple[str, ...] = ()
    """"replaced": a token has the replacement character, so its bytes may not be the model's. "token_ids": alternatives
    (and tokens without bytes) are spelled token_id:N. "missing": a value was null. "positive": a value was above 0.
    "fewer": nowhere as many alternatives as asked for."""

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.values) // 2

    @property
    def k(self) -> int:
        """The largest number of alternatives of a token."""
        return max(self.alternative_counts(), default=0)

    def token_list(self) -> list[bytes]:
        """The N tokens."""
        return _cut(self.tokens, unpack("H", self.sizes))

    def token_ids(self) -> list[int] | None:
        """The N numbers of the tokens, or None."""
        return list(unpack("I", self.ids)) if self.ids else None

    def logprobs(self) -> list[float]:
        """The N log-probabilities; -inf where the server told none."""
        return list(unpack("e", self.values))

    def alternative_counts(self) -> list[int]:
        """The N numbers of alternatives."""
        return list(unpack("H", self.counts))

    def alternative_lists(self) -> list[list[tuple[bytes, float]]]:
        """For each of the N tokens its alternatives (bytes, log-probability), in the server's order."""
        names = _cut(self.alternatives, unpack("H", self.alternative_sizes))
        pairs = iter(list(zip(names, unpack("e", self.alternative_values), strict=True)))
        return [list(islice(pairs, count)) for count in self.alternative_counts()]


class ReasoningEnd(NamedTuple):
    """So many leading tokens are reasoning (None: unknown), and how that was found."""

    tokens: int | None
    found: str


def position_of_reasoning_end(
    record: TokenLogprobs, split_source: str, reasoning: str, answer: str
) -> ReasoningEnd:
    """How many leading tokens are reasoning, for the trace's `reasoning_source`, reasoning and answer. `found` is one of

    - "inline tag": the tokens hold the closing tag (vLLM's cover the whole output, tags included, even when the reasoning
      came in a field of its own); the position is just behind it;
    - "text match": they hold the reasoning, or something before the answer, without a tag known here; just behind it;
    - "content only": they are the answer alone (most hosts): 0;
    - "unknown": they match neither text (spelled as ids, cut, replaced characters): None.
    White space around the texts does not matter. Index scans only, so that hostile texts take linear time.
    """
    ends = list(accumulate(unpack("H", record.sizes)))
    whole, thought, said = record.tokens, _stripped(reasoning), _stripped(answer)
    if not ends:
        return ReasoningEnd(None, "unknown")
    if _is_answer_alone(whole.strip(), said):
        return ReasoningEnd(0, "content only")
    at, found = _behind_thought(whole, thought, said)
    if at is None:
        at, found = _behind_tag(whole, thought, said)
    if at is None and not thought and split_source == "none":
        return ReasoningEnd(0, "content only")
    if at is None:
        at, found = _before_answer(whole, thought, said)
    if at is None:
        return ReasoningEnd(None, "unknown")
    return ReasoningEnd(min(bisect_left(ends, at) + 1, len(ends)), found)


def with_reasoning_end(
    record: TokenLogprobs, reasoning: str, answer: str, split_source: str
) -> TokenLogprobs:
    """The record with `reasoning_ends` and `reasoning_found` filled in, for the parts of a Split."""
    end = position_of_reasoning_end(record, split_source, reasoning, answer)
    return msgspec.structs.replace(record, reasoning_ends=end.tokens, reasoning_found=end.found)


def _stripped(text: str) -> bytes:
    return text.strip().encode("utf-8", "surrogatepass")


def _is_answer_alone(whole: bytes, said: bytes) -> bool:
    """Is there nothing but the answer and perhaps an end-of-turn token?"""
    rest = whole[len(said) :]
    return (
        bool(said)
        and whole.startswith(said)
        and len(rest) <= MARGIN_BYTES
        and not (said in rest or _closer_in(rest))
    )


def _closer_in(text: bytes) -> bool:
    return any(tag in text for tag in CLOSERS)


def _behind_thought(whole: bytes, thought: bytes, said: bytes) -> tuple[int | None, str]:
    start = whole.find(thought, 0, len(thought) + MARGIN_BYTES) if thought else -1
    if start < 0:
        return None, ""
    end = start + len(thought)
    gap = len(whole) - len(whole[end:].lstrip())
    closers = [(at, tag) for tag in CLOSERS if (at := whole.find(tag, gap, gap + MARGIN_BYTES)) >= 0]
    if closers:
        at, tag = min(closers)
        return at + len(tag), "inline tag"
    if not said:  # cut inside the reasoning
        return len(whole), "text match"
    answer = whole.find(said, gap, gap + MARGIN_BYTES + len(said))
    return (None, "") if answer < 0 else (end if answer == gap else answer, "text match")


def _behind_tag(whole: bytes, thought: bytes, said: bytes) -> tuple[int | None, str]:
    """The first closing tag with the reasoning before it or the answer behind."""
    for tag in CLOSERS:
        at = whole.find(tag)
        if at < 0:
            continue
        end = at + len(tag)
        gap = len(whole) - len(whole[end:].lstrip())
        before = bool(thought) and whole[:at].rstrip().endswith(thought)
        if before or whole.find(said, gap, gap + MARGIN_BYTES + len(said)) >= 0:
            return end, "inline tag"
    return None, ""


def _before_answer(whole: bytes, thought: bytes, said: bytes) -> tuple[int | None, str]:
    """The answer at the end, behind about as much text as the reasoning has (whose characters may have been mended)."""
    at = whole.rfind(said, max(0, len(whole) - len(said) - MARGIN_BYTES)) if said else -1
    return (at, "text match") if at > 0 and len(thought) <= 2 * at and at <= 2 * len(thought) else (None, "")


def unpack(kind: str, data: bytes) -> tuple[Any, ...]:
    """All little-endian numbers in `data`, of the kind that `struct` calls H (uint16), I (uint32) or e (float16)."""
    return struct.unpack(f"<{len(data) // struct.calcsize('<' + kind)}{kind}", data)


def _cut(blob: bytes, sizes: Sequence[int]) -> list[bytes]:
    ends = list(accumulate(sizes, initial=0))
    return [blob[start:end] for start, end in pairwise(ends)]
