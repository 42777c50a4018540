"""Log-probabilities beside the traces: an append-only spool, rotated and turned into Parquet files in the background.

    logprobs/PART.spool           what came last: frames of (length, CRC-32, msgpack of trace id, slot, record)
    logprobs/PART.00002.spool     rotated: SPOOL_BYTES that wait for the one background thread, or for the next writer
    logprobs/PART.00001.parquet   a rotated spool that was converted (columns: logprob_columns.py)

Promises: a record is in the spool when `append` returns, so a caller that appends first and writes the trace after has the
log-probabilities of every trace that is in the ledger, whenever it is killed. `append` never waits for a conversion; spools
queue up on the disk. What was appended more than a second ago is fsynced, as long as somebody calls `sync` twice a second.
A Parquet file appears whole or not at all, and only then is its spool removed; killed in between, the next writer sees by
the spool's digest in the file that it was converted. Readers may run beside; of several records of a trace they take the
newest, within a part (parts share no trace).
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec
from filelock import FileLock, Timeout

from r1distill.errors import LockedError, StorageError
from r1distill.ledger import SYNC_EVERY_S, storage_errors
from r1distill.logprob_columns import ColumnWriter, Row, need_pyarrow, origin_of, row_groups
from r1distill.token_logprobs import TokenLogprobs

SPOOL_BYTES = 16 << 20
"""A spool that is larger is rotated and becomes a Parquet file."""
GROUP_BYTES = 4 << 20
"""Spool bytes of one row group: bounds the memory of converting and of reading."""
HEAD = struct.Struct("<II")
"""Before each frame: its length in bytes and its CRC-32."""
FILE_NAME = re.compile(r"(?P<part>.+)\.(?P<number>\d{5,})\.(parquet|spool)")


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
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise LockedError(
                    f"Another process is writing {self._spool}; wait for it or stop it, then run again."
                ) from None
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
                    _fsync(self._folder)
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
        for unfinished in self._folder.glob(f"{_escaped(self._part)}.*.parquet.part"):
            unfinished.unlink()
        with self._spool.open("rb") as file:
            self._end = _whole_bytes(file)
        self.torn_bytes = os.fstat(self._file).st_size - self._end
        os.ftruncate(self._file, self._end)
        numbers = _numbers(self._folder, self._part)
        self._number = max(numbers, default=0)
        newest = _numbered(self._folder, self._part, self._number, "parquet")
        if self._end and newest.exists() and origin_of(newest) == _digest(self._spool):
            os.ftruncate(self._file, 0)  # as releases did that converted it in place
            self._end = 0
        for spool in (_numbered(self._folder, self._part, number, "spool") for number in numbers):
            if spool.exists():
                self._conversions.append(self._converter.submit(_convert, spool))

    def _rotate(self) -> None:
        """Give the spool a number and to the converter; go on with an empty one. Raises StorageError and changes nothing."""
        if self._is_deleted():
            raise self._deleted()
        rotated = _numbered(self._folder, self._part, self._number + 1, "spool")
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
        digest = _digest(spool)
        if not path.exists():
            try:
                with ColumnWriter(unfinished, digest) as writer:
                    for group in _groups(spool):
                        writer.write(group)
                _fsync(unfinished)
                unfinished.replace(path)
                _fsync(path.parent)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
        if origin_of(path) == digest:  # else a file from elsewhere took the number: readers read both
            spool.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has(folder: Path) -> bool:
    """Is there any record in this folder?"""
    spools = any(_size(spool) > HEAD.size for spool in folder.glob("*.spool"))
    return spools or any(folder.glob("*.parquet"))


def whole_frames(spool: Path) -> bytes:
    """What a spool holds up to its first torn frame; b"" when there is no such file. Two of them joined are a spool."""
    try:
        with spool.open("rb") as file:
            end = _whole_bytes(file)
            file.seek(0)
            return file.read(end)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # converted meanwhile
        return 0


def read(folder: Path, trace_ids: Collection[str] | None = None) -> Iterator[tuple[str, TokenLogprobs]]:
    """Yield (trace id, record), one per trace, newest first within a part; only those of `trace_ids` when given.

    Holds one row group and about 150 bytes per trace yielded. Raises InputError for a broken Parquet file,
    MissingPackageError without pyarrow.
    """
    wanted = None if trace_ids is None else set(trace_ids)
    seen: set[str] = set()

    def fresh(trace_id: str) -> bool:
        return trace_id not in seen and (wanted is None or trace_id in wanted)

    for part in _parts(folder):
        for trace_id, _, record in _rows(folder, part, fresh):
            if fresh(trace_id):
                seen.add(trace_id)
                yield trace_id, record


def _rows(folder: Path, part: str, fresh: Callable[[str], bool]) -> Iterator[Row]:
    """Newest first. A spool goes before the listing, and before the file of its number: what a writer rotates or converts
    meanwhile is then found there.
    """
    yield from _spooled(folder / f"{part}.spool", fresh)
    for number in reversed(_numbers(folder, part)):
        yield from _spooled(_numbered(folder, part, number, "spool"), fresh)
        path = _numbered(folder, part, number, "parquet")
        if path.exists():
            need_pyarrow()
            for ids, rows in row_groups(path):
                if any(map(fresh, ids)):
                    yield from rows()


def _parts(folder: Path) -> list[str]:
    names = [path.name for pattern in ("*.parquet", "*.spool") for path in folder.glob(pattern)]
    matches = [(name, FILE_NAME.fullmatch(name)) for name in names]
    return sorted(
        {
            m["part"] if m else name.removesuffix(".spool")
            for name, m in matches
            if m or name.endswith(".spool")
        }
    )


def _numbers(folder: Path, part: str) -> list[int]:
    """The numbers of the part's rotated spools and Parquet files, oldest first."""
    matches = (FILE_NAME.fullmatch(path.name) for path in folder.glob(f"{_escaped(part)}.*"))
    return sorted({int(m["number"]) for m in matches if m and m["part"] == part})


def _numbered(folder: Path, part: str, number: int, kind: str) -> Path:
    return folder / f"{part}.{number:05}.{kind}"


def _escaped(part: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", part)


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _frames(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of each whole frame, up to the first that is torn (a hole of zeros is no frame)."""
    offset = 0
    while payload := _payload_at(file, offset):
        yield offset, payload
        offset += HEAD.size + len(payload)


def _whole_bytes(file: BinaryIO) -> int:
    return max((offset + HEAD.size + len(payload) for offset, payload in _frames(file)), default=0)


def _payload_at(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return b""
    length, checksum = HEAD.unpack(head)
    if length > os.fstat(file.fileno()).st_size - offset:
        return b""
    payload = file.read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else b""


def _newest(file: BinaryIO) -> dict[str, int]:
    """Trace id -> offset of its last frame."""
    decoder = msgspec.msgpack.Decoder(tuple[str, str, msgspec.Raw])
    newest: dict[str, int] = {}
    for offset, payload in _frames(file):
        newest[decoder.decode(payload)[0]] = offset
    return newest


def _spooled(spool: Path, fresh: Callable[[str], bool]) -> Iterator[Row]:
    """The newest record of each trace in a spool; nothing when it is not there (any more)."""
    decoder = msgspec.msgpack.Decoder(Row)
    try:
        file = spool.open("rb")
    except FileNotFoundError:
        return
    with file:
        for trace_id, offset in _newest(file).items():
            payload = _payload_at(file, offset) if fresh(trace_id) else b""
            row = decoder.decode(payload) if payload else None
            if row and row[0] == trace_id:  # else a writer has cut the spool meanwhile
                yield row


def _groups(spool: Path) -> Iterator[list[Row]]:
    """The newest record of each trace, in row groups."""
    group: list[Row] = []
    bytes_held = 0
    for row in _spooled(spool, lambda _: True):
        group.append(row)
        record = row[2]
        bytes_held += len(record.alternatives) + 2 * len(record.alternative_sizes) + 8 * len(record)
        if bytes_held >= GROUP_BYTES:
            yield group
            group, bytes_held = [], 0
    if group:
        yield group
