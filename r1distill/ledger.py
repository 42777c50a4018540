"""An append-only JSONL file with one writer: what is paid for goes here first.

Promises: a line is in the file before `append` returns; a torn last line (kill, power loss) is cut off when the
file is opened for writing, and counted, unless only its newline is missing; what was appended more than a second
ago is fsynced, as long as somebody calls `sync` at least that often (ask.py does). Readers stop at the last
newline, so that they may run beside.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from r1distill.errors import LockedError, StorageError

SYNC_EVERY_S = 0.5
"""Seconds between two fsyncs: at most so much, plus the caller's tick, is lost when the power fails."""
CHUNK_BYTES = 1 << 20
GATE_S = 5.0


class Ledger:
    """The one writer of a ledger file; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn_bytes = 0
        """Bytes of a torn last line that opening cut off."""
        self._lock = FileLock(str(path) + ".lock")
        self._file = -1
        self._end = 0
        self._synced_at = 0.0
        self._dirty = False
        self.sync_on_append = True
        """False: somebody else calls `sync` at least every SYNC_EVERY_S (the asking engine, from a thread)."""

    def __enter__(self) -> Ledger:
        """Take the writer lock and repair the tail. Raises LockedError, StorageError."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            take_writer_lock(self._lock, self.path)
            try:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                self._repair()
            except OSError:
                self._close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.sync(force=True)
        finally:
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._lock.release()

    def append(self, record: msgspec.Struct | dict[str, Any]) -> tuple[int, int]:
        """Write one row; returns (offset, length) in bytes. Raises StorageError and leaves no half row."""
        return self.append_line(msgspec.json.encode(record))

    def append_line(self, row: bytes) -> tuple[int, int]:
        """Write one row that is JSON already, without its newline; as `append`."""
        line = row + b"\n"
        offset = self._end
        with storage_errors(self.path):
            try:
                _write_all(self._file, line)
            except OSError:
                os.ftruncate(self._file, offset)
                raise
        self._end = offset + len(line)
        self._dirty = True
        if self.sync_on_append:
            self.sync()
        return offset, len(line)

    def sync(self, force: bool = False) -> None:
        """Fsync what was appended, unless that was done less than SYNC_EVERY_S ago; may be called from another thread.

        Raises StorageError, also when somebody has deleted the file: what is written then is lost with the process.
        """
        now = time.monotonic()
        if not self._dirty or not (force or now - self._synced_at >= SYNC_EVERY_S):
            return
        self._synced_at, self._dirty = now, False  # before: what is appended meanwhile is for the next time
        with storage_errors(self.path):
            os.fsync(self._file)
            if os.fstat(self._file).st_nlink == 0:
                raise StorageError(
                    f"{self.path} was deleted while it was being written; what came in since can't be kept. Stopped."
                )

    def _repair(self) -> None:
        size = os.fstat(self._file).st_size
        self._end = last_newline(self.path, size)
        if self._end == size:
            return
        if _is_row(os.pread(self._file, size - self._end, self._end)):
            _write_all(self._file, b"\n")
            self._end = size + 1
        else:
            self.torn_bytes = size - self._end
            os.ftruncate(self._file, self._end)


def take_writer_lock(lock: FileLock, path: Path) -> None:
    """Become the one writer of `path`. Raises LockedError when another process is."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(
            f"Another process is writing {path}; wait for it or stop it, then run again."
        ) from None


@contextmanager
def starting_gate(run_folder: Path) -> Iterator[None]:
    """Held while a harvest takes its place, and while a batch is planned: nobody starts between a look and a lock.

    Raises LockedError when somebody holds it for longer than GATE_S.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    gate = FileLock(str(run_folder / "harvest.lock"))
    try:
        gate.acquire(timeout=GATE_S)
    except Timeout:
        raise LockedError(
            f"A batch of {run_folder} is just being put together by another process; run again when it is submitted."
        ) from None
    try:
        yield
    finally:
        gate.release()


def is_being_written(path: Path) -> bool:
    """True while another process has this ledger open for writing."""
    lock = FileLock(str(path) + ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


class storage_errors:
    """Turn an OSError of the body into one StorageError sentence that names the file and what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, Timeout):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "there is no space left" if full else (error.strerror or str(error))
            todo = "free some space" if full else "make that possible"
            raise StorageError(
                f"{self.path} can't be written: {what}; {todo} and run the same command again, all rows written so far are kept."
            ) from None


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def last_newline(path: Path, size: int) -> int:
    """The offset just behind the last newline within the first `size` bytes (0 when there is none)."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - CHUNK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line without its newline) from byte `start` up to the last newline; a torn tail is not read."""
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            if line.strip():
                yield offset, line[:-1]
            offset += len(line)


def read_at(path: Path, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the rows at (offset, length) of a ledger, without their newline."""
    with path.open("rb") as file:
        for offset, length in spans:
            file.seek(offset)
            yield file.read(length).rstrip(b"\n")


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace `path` by `data` (in one piece, or in pieces) so that a reader or a kill sees the old or the new file, never
    half. Raises StorageError, and what making the pieces raises.
    """
    part = path.with_name(path.name + f".{os.getpid()}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
