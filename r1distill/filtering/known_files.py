"""What the files of a set are, so that the same set is known again: path, size, SHA-256 and lines of each.

In: paths, and maybe an index that remembers them. A file whose size, inode and times of change (one of which no program can
set) are as they were is not read again.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from r1distill.errors import InputError
from r1distill.filtering.judged import Place
from r1distill.importers.readers import first_bytes
from r1distill.index import Index
from r1distill.path_names import as_text, key_of, shown

CHUNK_BYTES = 1 << 20
SETTLED_S = 2.0
"""A file that was changed within so many seconds may change again without its times telling."""
TABLE = (
    "CREATE TABLE IF NOT EXISTS known_files "
    "(path TEXT PRIMARY KEY, look TEXT, sha256 TEXT, lines INTEGER, reading BLOB, spots BLOB)"
)
SPOT = struct.Struct("<QQQ32s32s")
MOST_SPOTS = 500_000
"""Lines of a file whose places are kept (88 bytes each)."""


class Fingerprint(NamedTuple):
    """One file."""

    path: Path
    size_bytes: int
    sha256: str
    lines: int

    def origin(self) -> dict[str, Any]:
        """As sources.json has it."""
        return {"path": as_text(self.path), "bytes": self.size_bytes, "sha256": self.sha256}


class Spot(NamedTuple):
    """One line of a file."""

    number: int
    offset: int
    size: int
    """In bytes."""
    key: bytes
    """SHA-256 of the line."""
    content: bytes
    """SHA-256 of the line and of the way that it is read."""


def fingerprints(paths: list[Path], index: Index | None = None) -> list[Fingerprint]:
    """One for each file, in their order. Raises InputError for a file that is refused or can't be read."""
    if index is not None:
        index.db.execute(TABLE)  # as known_lines: an index that was made before it keeps its measurements
    return [_fingerprint(path, index) for path in paths]


def _fingerprint(path: Path, index: Index | None) -> Fingerprint:
    first_bytes(path)
    try:
        look, place = _look(path), path.resolve()
        if index is None or not look:
            return _read(path)
        query = "SELECT sha256, lines FROM known_files WHERE path=? AND look=?"
        known = index.db.execute(query, (key_of(place), look)).fetchone()
        if known is not None:
            return Fingerprint(place, path.stat().st_size, *known)
        found = _read(path)
        if _look(path) == look:
            row = (key_of(place), look, found.sha256, found.lines)
            index.db.execute("INSERT OR REPLACE INTO known_files VALUES (?,?,?,?,NULL,NULL)", row)
        return found
    except OSError as error:
        raise InputError(f"{shown(path)} can't be read: {error.strerror or error}.") from None


def spots_of(path: Path, index: Index, reading: bytes) -> Iterator[Spot] | None:
    """The lines of a file, without reading it; None when it has changed, or was not read in this way before."""
    query = "SELECT spots FROM known_files WHERE path=? AND look=? AND reading=? AND spots IS NOT NULL"
    row = index.db.execute(query, (key_of(path.resolve()), _look(path), reading)).fetchone()
    return None if row is None else itertools.starmap(Spot, SPOT.iter_unpack(row[0]))


class SpotsSeen:
    """The lines of a file while it is read, kept in the end if all of them are plain and the file is as it was."""

    def __init__(self, path: Path) -> None:
        self._path, self._look = path, _look(path)
        self._packed: bytearray | None = bytearray() if self._look else None

    def add(self, spot: Spot | None) -> None:
        """Note a line; None: one that does not stand in the file as it is needed."""
        if spot is None or (self._packed is not None and len(self._packed) >= MOST_SPOTS * SPOT.size):
            self._packed = None
        elif self._packed is not None:
            self._packed += SPOT.pack(*spot)

    def keep(self, index: Index, reading: bytes) -> None:
        """Let the index know."""
        if self._packed and _look(self._path) == self._look:
            values = (reading, bytes(self._packed), key_of(self._path.resolve()), self._look)
            index.db.execute("UPDATE known_files SET reading=?, spots=? WHERE path=? AND look=?", values)


def look(path: Path) -> tuple[int, ...]:
    """Differs whenever the file was changed, but for changes within one tick of the clock; () for a file that is gone."""
    try:
        now = path.stat()
    except OSError:
        return ()
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def refuse_changed(
    files: Sequence[Path], looks: Sequence[tuple[int, ...]], before: Sequence[Fingerprint], places: Iterable[Place]
) -> None:  # fmt: skip
    """Raises InputError for a file that does not `look` as before it was read, unless all `places` are in what it still has."""
    ends = {number: 0 for number, path in enumerate(files) if look(path) != looks[number]}
    for place in places if ends else ():
        if place.file in ends:
            ends[place.file] = max(ends[place.file], place.offset + place.length)
    for number, end in ends.items():
        if end > before[number].size_bytes or not _begins_as(files[number], before[number]):
            raise InputError(
                f"{shown(files[number])} changed while it was filtered, so nothing was written: run the same command again."
            )


def _begins_as(path: Path, before: Fingerprint) -> bool:
    """Whether the file still begins with all that was read of it."""
    sha256, left = hashlib.sha256(), before.size_bytes
    try:
        with path.open("rb") as file:
            while left and (chunk := file.read(min(left, CHUNK_BYTES))):
                sha256.update(chunk)
                left -= len(chunk)
    except OSError:
        return False
    return not left and sha256.hexdigest() == before.sha256


def _look(path: Path) -> str:
    """Differs whenever the file was changed; "" while that can't be told."""
    now = path.stat()
    if time.time() - max(now.st_mtime, now.st_ctime) < SETTLED_S:
        return ""
    return " ".join(map(str, look(path)))


def _read(path: Path) -> Fingerprint:
    sha256, size_bytes, lines = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            size_bytes += len(chunk)
            lines += chunk.count(b"\n")
    return Fingerprint(path.resolve(), size_bytes, sha256.hexdigest(), lines)
