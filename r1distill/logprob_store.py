"""Log-probabilities beside the traces: an append-only spool that turns into Parquet files.

    logprobs/PART.spool           what came last: frames of (length, CRC-32, msgpack of trace id, slot, record)
    logprobs/PART.00001.parquet   older answers, SPOOL_BYTES of spool each (columns: logprob_columns.py)

Promises: a record is in the spool when `append` returns, so a caller that appends first and writes the trace after has the
log-probabilities of every trace that is in the ledger, whenever it is killed. What was appended more than a second ago is
fsynced, as long as somebody calls `sync` twice a second. A Parquet file appears whole or not at all, and only then is the
spool emptied; killed in between, the next writer sees by the spool's digest in the file that it was converted. Readers may
run beside; of several records of a trace they take the newest, within a part (parts share no trace).
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec
from filelock import FileLock, Timeout

from r1distill.errors import LockedError
from r1distill.ledger import SYNC_EVERY_S, storage_errors
from r1distill.logprob_columns import ColumnWriter, Row, need_pyarrow, origin_of, row_groups
from r1distill.token_logprobs import TokenLogprobs

SPOOL_BYTES = 16 << 20
"""A spool that is larger becomes a Parquet file."""
GROUP_BYTES = 4 << 20
"""Spool bytes of one row group: bounds the memory of converting and of reading."""
HEAD = struct.Struct("<II")
"""Before each frame: its length in bytes and its CRC-32."""
FILE_NAME = re.compile(r"(?P<part>.+)\.(?P<number>\d{5,})\.parquet")


class LogprobStore:
    """The one writer of a part's log-probabilities; use as a context manager."""

    def __init__(self, folder: Path, part: str) -> None:
        self.torn_bytes = 0
        """Bytes of a torn last frame that opening cut off."""
        self._folder, self._part = folder, part
        self._spool = folder / f"{part}.spool"
        self._lock = FileLock(str(self._spool) + ".lock")
        self._file = -1
        self._end = 0
        self._synced_at = 0.0
        self._dirty = False

    def __enter__(self) -> LogprobStore:
        """Take the writer lock, cut a torn tail. Raises MissingPackageError (no pyarrow), LockedError, StorageError."""
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
                self._file = os.open(self._spool, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
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
            self._convert()
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
        self.sync()
        if self._end >= SPOOL_BYTES:
            self._convert()

    def sync(self, force: bool = False) -> None:
        """Fsync what was appended, unless that was done less than SYNC_EVERY_S ago. Raises StorageError."""
        now = time.monotonic()
        if self._dirty and (force or now - self._synced_at >= SYNC_EVERY_S):
            with storage_errors(self._spool):
                os.fsync(self._file)
            self._synced_at, self._dirty = now, False

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._lock.release()

    def _repair(self) -> None:
        """Cut what a kill left behind: a torn frame, an unfinished Parquet file, a spool that was converted already."""
        for unfinished in self._folder.glob(f"{_escaped(self._part)}.*.parquet.part"):
            unfinished.unlink()
        with self._spool.open("rb") as file:
            self._end = max(
                (offset + HEAD.size + len(payload) for offset, payload in _frames(file)), default=0
            )
        self.torn_bytes = os.fstat(self._file).st_size - self._end
        os.ftruncate(self._file, self._end)
        files = _parquet_files(self._folder, self._part)
        if self._end and files and origin_of(files[-1]) == self._digest():
            self._empty()

    def _digest(self) -> str:
        with self._spool.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _convert(self) -> None:
        """Turn the spool into the part's next Parquet file. Raises StorageError; the spool is then as it was."""
        if not self._end:
            return
        files = _parquet_files(self._folder, self._part)
        number = _number(files[-1]) + 1 if files else 1
        path = self._folder / f"{self._part}.{number:05}.parquet"
        unfinished = path.with_name(path.name + ".part")
        with storage_errors(path):
            try:
                with ColumnWriter(unfinished, self._digest()) as writer:
                    for group in _groups(self._spool):
                        writer.write(group)
                _fsync(unfinished)
                unfinished.replace(path)
                _fsync(self._folder)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise
            self._empty()

    def _empty(self) -> None:
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self._end, self._dirty = 0, False


def has(folder: Path) -> bool:
    """Is there any record in this folder?"""
    spools = any(spool.stat().st_size > HEAD.size for spool in folder.glob("*.spool"))
    return spools or any(folder.glob("*.parquet"))


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
    """Newest first. The spool goes before the listing: what a writer converts meanwhile is then found in a file."""
    spool = folder / f"{part}.spool"
    if spool.exists():
        yield from _spooled(spool, fresh)
    files = _parquet_files(folder, part)
    if files:
        need_pyarrow()
    for path in reversed(files):
        for ids, rows in row_groups(path):
            if any(map(fresh, ids)):
                yield from rows()


def _parts(folder: Path) -> list[str]:
    matches = [FILE_NAME.fullmatch(path.name) for path in folder.glob("*.parquet")]
    return sorted({m["part"] for m in matches if m}.union(path.stem for path in folder.glob("*.spool")))


def _parquet_files(folder: Path, part: str) -> list[Path]:
    files = [path for path in folder.glob(f"{_escaped(part)}.*.parquet") if FILE_NAME.fullmatch(path.name)]
    return sorted((path for path in files if path.name.startswith(f"{part}.")), key=_number)


def _number(path: Path) -> int:
    return int(path.name.split(".")[-2])


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
    decoder = msgspec.msgpack.Decoder(Row)
    with spool.open("rb") as file:
        for trace_id, offset in _newest(file).items():
            payload = _payload_at(file, offset) if fresh(trace_id) else b""
            row = decoder.decode(payload) if payload else None
            if row and row[0] == trace_id:  # else the writer has converted it meanwhile
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
