"""What reading the lines of trace files came to, kept in the index: a line that is known need not be parsed to be judged anew.

In: lines of files. Out: each with its digests and, where it was read before in the same way, with all that the filter needs
of it but the texts. Only a line that is read by itself alone is kept: one whole trace that needs no request of another file.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from r1distill.filtering import known_files
from r1distill.filtering.judged import Place, read_place
from r1distill.filtering.known_files import Spot, SpotsSeen, spots_of
from r1distill.importers.lines import Line
from r1distill.importers.readers import lines_of
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
    text_start: int
    text_length: int
    """As in Place."""


class FileAgain:
    """A file that is opened when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def read(self, offset: int, size: int) -> bytes:
        """A part of it. Raises OSError."""
        if self._file is None:
            self._file = self._path.open("rb", buffering=0)
            weakref.finalize(self, self._file.close)
        return read_place(self._file.fileno(), Place(0, offset, size))


class LineAgain:
    """A line that was read before; its text is read again only if somebody wants it."""

    __slots__ = ("_file", "number", "offset", "size")
    fault = ""

    def __init__(self, file: FileAgain, spot: Spot) -> None:
        self._file, self.number, self.offset, self.size = file, spot.number, spot.offset, spot.size

    @property
    def data(self) -> bytes:
        """The line. Raises OSError."""
        return self._file.read(self.offset, self.size)


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
        index.db.execute(known_files.TABLE)

    def looked_up(self, path: Path) -> Iterator[tuple[Line | LineAgain, Spot, KnownLine | None]]:
        """The lines of a file in their order, each with its digests and what is known of it. A file that did not change is not
        read again.
        """
        spots = spots_of(path, self._index, self._reading)
        lines: Iterator[tuple[Line | LineAgain, Spot]]
        lines = self._read(path) if spots is None else self._again(path, spots)
        for some in _bunches(lines):
            known = self._known([spot.content for _, spot in some])
            for line, spot in some:
                value = known.get(spot.content)
                yield line, spot, None if value is None else self._decoded(value)

    def _again(self, path: Path, spots: Iterator[Spot]) -> Iterator[tuple[Line | LineAgain, Spot]]:
        file = FileAgain(path)
        return ((LineAgain(file, spot), spot) for spot in spots)

    def _read(self, path: Path) -> Iterator[tuple[Line | LineAgain, Spot]]:
        seen = SpotsSeen(path)
        for line in lines_of(path):
            spot = self._spot(line)
            seen.add(None if line.offset is None or line.fault else spot)
            yield line, spot
        seen.keep(self._index, self._reading)

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

    def _spot(self, line: Line) -> Spot:
        key = hashlib.sha256(line.data).digest()
        content = hashlib.sha256(key + self._reading).digest()
        return Spot(line.number, line.offset or 0, len(line.data), key, content)

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


def _bunches(
    lines: Iterable[tuple[Line | LineAgain, Spot]],
) -> Iterator[list[tuple[Line | LineAgain, Spot]]]:
    """The lines, some at a time."""
    some: list[tuple[Line | LineAgain, Spot]] = []
    size = 0
    for line, spot in lines:
        some.append((line, spot))
        size += spot.size
        if len(some) >= LOOKED_UP or size >= LOOKED_UP_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some
