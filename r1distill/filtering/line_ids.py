"""Ids of traces that stand in files: made of the line, so that the same file gives the same ids whatever else is read.

In: SHA-256 of a line. Out: the id of its trace, and which sample of its problem it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter


class Names:
    """What ids and samples have been given so far."""

    def __init__(self) -> None:
        self._times: Counter[bytes] = Counter()
        self._samples: Counter[str] = Counter()

    def trace_id(self, key: bytes) -> str:
        """The id of the next trace of a line with this SHA-256."""
        times = self._times[key]
        self._times[key] = times + 1
        return trace_id_of_line(key.hex(), times)

    def sample(self, prompt_id: str) -> int:
        """The number of the next trace of a problem."""
        sample = self._samples[prompt_id]
        self._samples[prompt_id] = sample + 1
        return sample


def trace_id_of_line(content: str, repeat: int) -> str:
    """The id of a trace: the digest of {line, repeat}, of the line's SHA-256 in hex and how often it stood before."""
    return hashlib.sha256(f'{{"line":"{content}","repeat":{repeat}}}'.encode()).hexdigest()
