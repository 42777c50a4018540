"""What must be looked up again and stands in no file as it is needed: rows that were unpacked or parted, requests of a batch.

Kept on disk in files without a name, which vanish with the process; in memory is only where each entry stands.
"""

from __future__ import annotations

import hashlib
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from r1distill.importers.fields import in_plain_words
from r1distill.importers.limits import BUFFER_BYTES
from r1distill.ledger import storage_errors
from r1distill.path_names import as_text

NOT_ONE = (-1, -1)


class Scratch:
    """Bytes put away, to be read again by their place."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: where the file may lie; None for the system's temporary folder."""
        self._place = folder or Path(tempfile.gettempdir())
        self._file: IO[bytes] | None = None
        self._end = 0
        self._at_end = True

    def put(self, data: bytes) -> tuple[int, int]:
        """Put away; returns (offset, length). Raises StorageError."""
        with storage_errors(self._place):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._place, buffering=BUFFER_BYTES)  # noqa: SIM115 - it lives as long as this
                weakref.finalize(self, self._file.close)
            if not self._at_end:  # a seek empties the buffer, so there is none between two writes
                self._file.seek(self._end)
                self._at_end = True
            self._file.write(data)
        offset, self._end = self._end, self._end + len(data)
        return offset, len(data)

    def get(self, offset: int, length: int) -> bytes:
        """What was put away there."""
        if self._file is None:
            return b""
        self._at_end = False
        self._file.seek(offset)
        return self._file.read(length)


class Requests:
    """Requests by their id."""

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._places: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: str, line: bytes) -> None:
        """Keep a request. Another one with the same id makes both useless: nobody knows which was answered."""
        mark = _mark(key)
        if mark not in self._places:
            self._places[mark] = self._scratch.put(line)
        elif self._places[mark] != NOT_ONE and self._scratch.get(*self._places[mark]) != line:
            self._places[mark] = NOT_ONE

    def get(self, key: str) -> bytes | None:
        """The request, if there is one. Raises ValueError when there are several."""
        place = self._places.get(_mark(key))
        if place == NOT_ONE:
            raise ValueError(f"several different requests have the id {key[:80]!r}")
        return None if place is None else self._scratch.get(*place)


class Skipped:
    """The rows that are no traces, with file, line and reason."""

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._places: list[tuple[int, int]] = []
        self.lines = 0
        """Lines of which something was noted: a line that holds several traces may be noted several times."""
        self._last: tuple[Path, int] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for place in self._places:
            yield msgspec.json.decode(self._scratch.get(*place))

    def add(self, path: Path, line: int, reason: str) -> None:
        """Note one. The notes of a line come one after the other."""
        self.lines += (path, line) != self._last
        self._last = (path, line)
        row = {
            "file": as_text(path),
            "line": line,
            "reason": in_plain_words(reason).encode("utf-8", "replace").decode(),
        }
        self._places.append(self._scratch.put(msgspec.json.encode(row)))


def _mark(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
