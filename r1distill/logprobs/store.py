"""Log-probabilities beside the traces: an append-only spool, rotated and turned into Parquet files in the background.

    logprobs/PART.spool           what came last: frames of (length, CRC-32, msgpack of trace id, slot, record)
    logprobs/PART.00002.spool     rotated: SPOOL_BYTES that wait for the one background thread, or for the next writer
    logprobs/PART.00001.parquet   a rotated spool that was converted (columns: columns.py)

Promises: a record is in the spool when `append` returns, so a caller that appends first and writes the trace after has the
log-probabilities of every trace that is in the ledger, whenever it is killed. `append` never waits for a conversion; spools
queue up on the disk. What was appended more than a second ago is fsynced, as long as somebody calls `sync` twice a second.
A Parquet file appears whole or not at all, and only then is its spool removed; killed in between, the next writer sees by
the spool's digest in the file that it was converted. Readers may run beside; of several records of a trace they take the
newest, within a part (parts share no trace).
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec
from filelock import FileLock

from r1distill.errors import StorageError
from r1distill.ledger import SYNC_EVERY_S, storage_errors, take_writer_lock
from r1distill.logprobs.columns import ColumnWriter, need_pyarrow, origin_of
from r1distill.logprobs.spool import (
    HEAD,
    digest_of,
    escaped,
    fsync_path,
    groups,
    numbered,
    numbers,
    whole_bytes,
)
from r1distill.logprobs.tokens import TokenLogprobs

SPOOL_BYTES = 16 << 20
"""A spool that is larger is rotated and becomes a Parquet file."""


class LogprobStore:
    """The one writer of a part's log-probabilities; use as a context manager. One thread appends, any may call `sync`."""

    def __init__(self, folder: Path, part: str) -> None:
        self.torn_bytes = 0
        """Bytes of a torn last frame that opening cut off."""
        self.sync_on_append = True
        """False: somebody else calls `sync` at least every SYNC_EVERY_S (the asking engine, from a thread)."""
        self._folder, self._part = folder, part
        self._spool = folder / f"{part}.spool"
        self._lock = FileLock(str(self._spool) + ".lock")
        self._file = -1
        self._end = 0
        self._number = 0
        """Of the newest rotated spool or Parquet file."""
        self._synced_at = 0.0
        self._dirty = False
        self._retired: list[int] = []
        """Descriptors of rotated spools: `sync` closes them, so that rotating never takes one away from an fsync."""
        self._guard = threading.Lock()  # held for moments: _file and _retired change together
        self._syncing = (
            threading.Lock()
        )  # held while fsyncing; `append` never waits for it unless it syncs itself
        self._converter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="logprobs")
        self._conversions: deque[Future[None]] = deque()

    def __enter__(self) -> LogprobStore:
        """Take the writer lock, cut a torn tail, convert what a kill left rotated (in the background).

        Raises MissingPackageError (no pyarrow), LockedError, StorageError.
        """
        need_pyarrow()
        with storage_errors(self._spool):
            self._folder.mkdir(parents=True, exist_ok=True)
            take_writer_lock(self._lock, self._spool)
            try:
                self._file = self._opened()
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
            if self._end:
                self._rotate()
            self.settle()
        finally:
            self._close()

    def append(self, trace_id: str, slot: str, record: TokenLogprobs) -> None:
        """Keep one record. Raises StorageError and leaves no half frame."""
        payload = msgspec.msgpack.encode((trace_id, slot, record))
        frame = HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        with storage_errors(self._spool):
            try:
                written = 0
                while written < len(frame):
                    written += os.write(self._file, frame[written:] if written else frame)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(frame)
        self._dirty = True
        if self._end >= SPOOL_BYTES:
            self._rotate()
        if self.sync_on_append:
            self.sync()

    def sync(self, force: bool = False) -> None:
        """Fsync what was appended, unless that was done less than SYNC_EVERY_S ago; any thread may, until the block ends.

        Raises StorageError: of the fsync, of a conversion that failed (its spool stays, the next writer tries again), and
        when somebody has deleted the spool.
        """
        with self._syncing:
            now = time.monotonic()
            if self._dirty and (force or now - self._synced_at >= SYNC_EVERY_S):
                self._synced_at = now
                self._fsync_spools()
            while self._conversions and self._conversions[0].done():
                self._conversions.popleft().result()

    def settle(self) -> None:
        """Wait until all rotated spools are converted. Raises the StorageError of one that could not be."""
        with self._syncing:
            while self._conversions:
                self._conversions.popleft().result()

    def _fsync_spools(self) -> None:
        with self._guard:
            self._dirty = False  # before: what is appended meanwhile is for the next time
            *rotated, current = *self._retired, self._file
        try:
            with storage_errors(self._spool):
                for file in (*rotated, current):
                    os.fsync(file)
                if rotated:
                    fsync_path(self._folder)
        except StorageError:
            self._dirty = True
            raise
        with self._guard:
            del self._retired[: len(rotated)]
            deleted = self._is_deleted()
        for file in rotated:
            os.close(file)
        if deleted:
            raise self._deleted()

    def _is_deleted(self) -> bool:
        return os.fstat(self._file).st_nlink == 0

    def _deleted(self) -> StorageError:
        return StorageError(
            f"{self._spool} was deleted while it was being written; what came in since can't be kept. Stopped."
        )

    def _opened(self) -> int:
        return os.open(self._spool, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    def _close(self) -> None:
        self._converter.shutdown(cancel_futures=True)  # none is left, unless `settle` raised
        with self._syncing:
            for file in (*self._retired, self._file):
                if file >= 0:
                    os.close(file)
            self._retired, self._file, self._dirty = [], -1, False
        self._lock.release()

    def _repair(self) -> None:
        """Cut what a kill left behind: a torn frame, an unfinished Parquet file, a spool that was converted already."""
        for unfinished in self._folder.glob(f"{escaped(self._part)}.*.parquet.part"):
            unfinished.unlink()
        with self._spool.open("rb") as file:
            self._end = whole_bytes(file)
        self.torn_bytes = os.fstat(self._file).st_size - self._end
        os.ftruncate(self._file, self._end)
        found = numbers(self._folder, self._part)
        self._number = max(found, default=0)
        newest = numbered(self._folder, self._part, self._number, "parquet")
        if self._end and newest.exists() and origin_of(newest) == digest_of(self._spool):
            os.ftruncate(self._file, 0)  # as releases did that converted it in place
            self._end = 0
        for spool in (numbered(self._folder, self._part, number, "spool") for number in found):
            if spool.exists():
                self._conversions.append(self._converter.submit(_convert, spool))

    def _rotate(self) -> None:
        """Give the spool a number and to the converter; go on with an empty one. Raises StorageError and changes nothing."""
        if self._is_deleted():
            raise self._deleted()
        rotated = numbered(self._folder, self._part, self._number + 1, "spool")
        with storage_errors(self._spool):
            self._spool.rename(rotated)
            try:
                file = self._opened()
            except OSError:
                rotated.rename(self._spool)
                raise
        with self._guard:
            self._retired.append(self._file)
            self._file, self._dirty = file, True
        self._end = 0
        self._number += 1
        self._conversions.append(self._converter.submit(_convert, rotated))


def _convert(spool: Path) -> None:
    """Turn a rotated spool into the Parquet file of its number, unless it is there. Raises StorageError; the spool then stays."""
    path = spool.with_suffix(".parquet")
    unfinished = path.with_name(path.name + ".part")
    with storage_errors(path):
        digest = digest_of(spool)
        if not path.exists():
            try:
                with ColumnWriter(unfinished, digest) as writer:
                    for group in groups(spool):
                        writer.write(group)
                fsync_path(unfinished)
                unfinished.replace(path)
                fsync_path(path.parent)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
        if origin_of(path) == digest:  # else a file from elsewhere took the number: readers read both
            spool.unlink()
