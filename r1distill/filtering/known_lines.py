"""What reading the lines of trace files came to, kept in the index: a line that is known need not be parsed to be judged anew.

In: lines of files. Out: each with its digests and, where it was read before in the same way, with all that the filter needs
of it but the texts. Only a line that is read by itself alone is kept: one whole trace that needs no request of another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from r1distill.importers.readers import Line
from r1distill.index import Index
from r1distill.records import Message, Prompt

TABLE = "CREATE TABLE IF NOT EXISTS known_lines (content BLOB PRIMARY KEY, value BLOB)"
LOOKED_UP = 100
"""Lines that are looked up at once,"""
LOOKED_UP_BYTES = 1 << 20
"""if they are not longer than this together."""
STORED = 500
"""Lines between two commits."""
LONGEST_BYTES = 1 << 14
"""Of a problem with its messages; a line with a longer one is read anew each time."""


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """The problem as a line tells it."""

    prompt: Prompt
    asked: list[Message]


class KnownLine(msgspec.Struct, frozen=True, array_like=True):
    """What a line came to."""

    kind: str
    """The kind of answer that was supposed where a row does not tell."""
    format: str
    """The name of its format."""
    problem_key: bytes
    """Equal for lines of one problem."""
    prompt_id: str
    teacher: str
    chars: int
    """Characters of reasoning and answer."""
    size_bytes: int
    """The same in UTF-8."""
    completion_tokens: int | None
    problem: bytes
    """A Problem."""


class Digests(NamedTuple):
    """The digests of a line."""

    key: bytes
    """SHA-256 of the line."""
    content: bytes
    """SHA-256 of the line and of the way that it is read."""


class KnownLines:
    """The lines that an index knows."""

    def __init__(self, index: Index, reading: bytes, kind: str) -> None:
        """`reading`: all that decides how a line is read, but for the supposed `kind` of answer."""
        self._index, self._reading, self._kind = index, reading, kind
        self._decoder = msgspec.msgpack.Decoder(KnownLine)
        self._problems = msgspec.msgpack.Decoder(Problem)
        self._new: list[tuple[bytes, bytes]] = []
        # Not among the index's own tables: an index that was made before it keeps its measurements.
        index.db.execute(TABLE)

    def looked_up(self, lines: Iterable[Line]) -> Iterator[tuple[Line, Digests, KnownLine | None]]:
        """The lines in their order, each with what is known of it."""
        for some in _bunches(lines):
            digests = [self._digests(line.data) for line in some]
            known = self._known([one.content for one in digests])
            for line, one in zip(some, digests, strict=True):
                value = known.get(one.content)
                yield line, one, None if value is None else self._decoded(value)

    def problem(self, known: KnownLine) -> Problem:
        """The problem of a line."""
        return self._problems.decode(known.problem)

    def note(self, content: bytes, known: KnownLine, problem: Problem) -> None:
        """Keep what a line came to."""
        try:
            packed = msgspec.msgpack.encode(problem)
        except (OverflowError, ValueError, TypeError, RecursionError):  # a whole number of more than 64 bits
            return
        if len(packed) <= LONGEST_BYTES:
            value = msgspec.structs.replace(known, kind=self._kind, problem=packed)
            self._new.append((content, msgspec.msgpack.encode(value)))
        if len(self._new) >= STORED:
            self.store()

    def store(self) -> None:
        """Write what was noted."""
        if self._new:
            self._index.keep_lines(self._new)
            self._new = []

    def _digests(self, data: bytes) -> Digests:
        key = hashlib.sha256(data).digest()
        return Digests(key, hashlib.sha256(key + self._reading).digest())

    def _known(self, contents: list[bytes]) -> dict[bytes, bytes]:
        marks = ",".join("?" * len(contents))
        query = f"SELECT content, value FROM known_lines WHERE content IN ({marks})"
        return dict(self._index.db.execute(query, contents))

    def _decoded(self, value: bytes) -> KnownLine | None:
        try:
            known = self._decoder.decode(value)
        except msgspec.MsgspecError:  # of another version
            return None
        return known if known.kind == self._kind else None


def _bunches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """The lines, some at a time."""
    some: list[Line] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line.data)
        if len(some) >= LOOKED_UP or size >= LOOKED_UP_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some
