"""JSON values one after the other out of a stream that is not one value a line: an array, or objects spread over lines.

In: chunks of bytes. Out: the bytes of each element, on one line. Only brackets and quotation marks are looked at, so that
nothing is nested too deeply, memory is bounded by the longest element, and a broken element spoils only itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from r1distill.importers.limits import MAX_LINE_BYTES

SIGN = re.compile(rb'["\[\]{},]')
IN_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
"""From inside a text to its end, or to a backslash that the chunk ends with."""
LINE_BREAK = re.compile(rb"[\r\n][ \t\r\n]*")
OPENERS, CLOSERS = b"[{", b"]}"


class Values:
    """Takes chunks, gives elements: of a top-level array its items, else the top-level values."""

    def __init__(self, limit_bytes: int = MAX_LINE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._held = bytearray()
        self._too_long = False
        self._depth = 0
        self._bottom = 0
        """How deep an element lies: 1 inside of a top-level array, else 0."""
        self._in_text = self._escaped = False

    def read(self, chunks: Iterable[bytes]) -> Iterator[bytes | None]:
        """Each element on one line; None for one that is longer than the limit. What is left over at the end comes last."""
        for chunk in chunks:
            yield from self._take(chunk)
        if self._too_long or self._held.strip():
            yield self._element()

    def _take(self, chunk: bytes) -> Iterator[bytes | None]:
        at = kept = 0
        while at < len(chunk):
            if self._in_text:
                at = self._through_text(chunk, at)
                continue
            match = SIGN.search(chunk, at)
            if match is None:
                break
            at = match.end()
            sign = chunk[at - 1]
            if sign == ord('"'):
                self._in_text = True
            elif sign in OPENERS:
                if (
                    self._depth == 0
                    and sign == ord("[")
                    and not self._held.strip()
                    and not chunk[kept : at - 1].strip()
                ):
                    self._bottom, kept = 1, at
                self._depth += 1
            else:
                ends = self._depth == self._bottom if sign == ord(",") else self._close()
                if ends:
                    outside = sign == ord(",") or self._depth < self._bottom
                    self._hold(chunk[kept : at - 1 if outside else at])
                    kept = at
                    if self._too_long or self._held.strip():
                        yield self._element()
                    if self._depth < self._bottom:
                        self._bottom = 0
        self._hold(chunk[kept:])

    def _close(self) -> bool:
        """One bracket less; True when an element ends with it."""
        self._depth = max(self._depth - 1, 0)
        return self._depth <= self._bottom

    def _through_text(self, chunk: bytes, at: int) -> int:
        if self._escaped:  # the chunk before ended with a backslash
            self._escaped = False
            return at + 1
        match = IN_TEXT.match(chunk, at)
        end = match.end() if match else at
        if end == len(chunk):
            return end
        if chunk[end] == ord('"'):
            self._in_text = False
        else:
            self._escaped = True
        return end + 1

    def _hold(self, data: bytes) -> None:
        if len(self._held) + len(data) > self.limit_bytes:
            self._too_long = True
            self._held.clear()
        if not self._too_long:
            self._held += data

    def _element(self) -> bytes | None:
        """What is held, without its line breaks: inside of a JSON text there are none."""
        data, too_long = bytes(self._held).strip(), self._too_long
        self._held.clear()
        self._too_long = False
        return None if too_long else LINE_BREAK.sub(b"", data)
