"""Token log-probabilities for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from r1distill.logprobs.tokens import TokenLogprobs


def record(
    logprobs: Sequence[float], alternatives: Sequence[Sequence[float]] = (), **fields: Any
) -> TokenLogprobs:
    """Tokens "x" with these log-probabilities and these alternatives each."""
    lists = alternatives or [[]] * len(logprobs)
    flat = [value for one in lists for value in one]
    return TokenLogprobs(
        b"x" * len(logprobs), struct.pack(f"<{len(logprobs)}H", *[1] * len(logprobs)), _floats(logprobs), b"y" * len(flat),
        struct.pack(f"<{len(flat)}H", *[1] * len(flat)), _floats(flat), struct.pack(f"<{len(lists)}H", *map(len, lists)),
        **fields,
    )  # fmt: skip


def _floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)
