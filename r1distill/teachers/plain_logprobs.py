"""The usual shape of log-probabilities, decoded in the same pass as the reply around them.

The lists of bytes are not decoded: they cost more than all the rest, and say what the text says, but for tokens that are no
whole character (`is_spelled`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

SPELLED = ("\N{REPLACEMENT CHARACTER}", "bytes:", "token_id:")


class PlainEntry(msgspec.Struct, gc=False):
    """One alternative."""

    token: str
    logprob: float


class PlainToken(msgspec.Struct, gc=False):
    """One token of the answer with its alternatives."""

    token: str
    logprob: float
    top_logprobs: list[PlainEntry] = []
    token_id: int | None = None


class PlainWire(msgspec.Struct, gc=False):
    """What nearly every `logprobs` object is like."""

    content: list[PlainToken]


@dataclass(frozen=True, slots=True)
class Plain:
    """The log-probabilities of a reply that was decoded in one pass."""

    wire: PlainWire
    again: Callable[[], Any]
    """Gives them as received, with the lists of bytes, should those be needed."""


def is_spelled(texts: str) -> bool:
    """True when the joined texts of tokens hold one that is no whole character: then its bytes must be read."""
    return any(mark in texts for mark in SPELLED)
