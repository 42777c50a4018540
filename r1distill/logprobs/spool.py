"""The spools of log-probabilities: frames of (length, CRC-32, msgpack of trace id, slot, record), and the names of files."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from r1distill.logprobs.columns import Row

GROUP_BYTES = 4 << 20
"""Spool bytes of one row group: bounds the memory of converting and of reading."""
HEAD = struct.Struct("<II")
"""Before each frame: its length in bytes and its CRC-32."""
FILE_NAME = re.compile(r"(?P<part>.+)\.(?P<number>\d{5,})\.(parquet|spool)")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def whole_frames(spool: Path) -> bytes:
    """What a spool holds up to its first torn frame; b"" when there is no such file. Two of them joined are a spool."""
    try:
        with spool.open("rb") as file:
            end = whole_bytes(file)
            file.seek(0)
            return file.read(end)
    except FileNotFoundError:
        return b""


def size_of(path: Path) -> int:
    """Bytes of a file, 0 when it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:  # converted meanwhile
        return 0


def parts(folder: Path) -> list[str]:
    """The names of the parts that have files in the folder."""
    names = [path.name for pattern in ("*.parquet", "*.spool") for path in folder.glob(pattern)]
    matches = [(name, FILE_NAME.fullmatch(name)) for name in names]
    return sorted(
        {
            m["part"] if m else name.removesuffix(".spool")
            for name, m in matches
            if m or name.endswith(".spool")
        }
    )


def numbers(folder: Path, part: str) -> list[int]:
    """The numbers of the part's rotated spools and Parquet files, oldest first."""
    matches = (FILE_NAME.fullmatch(path.name) for path in folder.glob(f"{escaped(part)}.*"))
    return sorted({int(m["number"]) for m in matches if m and m["part"] == part})


def numbered(folder: Path, part: str, number: int, kind: str) -> Path:
    """The path of a part's numbered file."""
    return folder / f"{part}.{number:05}.{kind}"


def escaped(part: str) -> str:
    """A name as a glob pattern."""
    return re.sub(r"([*?\[])", r"[\1]", part)


def fsync_path(path: Path) -> None:
    """Fsync a file or folder by its path."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def frames(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of each whole frame, up to the first that is torn (a hole of zeros is no frame)."""
    offset = 0
    while payload := payload_at(file, offset):
        yield offset, payload
        offset += HEAD.size + len(payload)


def whole_bytes(file: BinaryIO) -> int:
    """Bytes up to the end of the last whole frame."""
    return max((offset + HEAD.size + len(payload) for offset, payload in frames(file)), default=0)


def payload_at(file: BinaryIO, offset: int) -> bytes:
    """The payload of the frame at an offset."""
    file.seek(offset)
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return b""
    length, checksum = HEAD.unpack(head)
    if length > os.fstat(file.fileno()).st_size - offset:
        return b""
    payload = file.read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else b""


def newest(file: BinaryIO) -> dict[str, int]:
    """Trace id -> offset of its last frame."""
    decoder = msgspec.msgpack.Decoder(tuple[str, str, msgspec.Raw])
    newest: dict[str, int] = {}
    for offset, payload in frames(file):
        newest[decoder.decode(payload)[0]] = offset
    return newest


def spooled(spool: Path, fresh: Callable[[str], bool]) -> Iterator[Row]:
    """The newest record of each trace in a spool; nothing when it is not there (any more)."""
    decoder = msgspec.msgpack.Decoder(Row)
    try:
        file = spool.open("rb")
    except FileNotFoundError:
        return
    with file:
        for trace_id, offset in newest(file).items():
            payload = payload_at(file, offset) if fresh(trace_id) else b""
            row = decoder.decode(payload) if payload else None
            if row and row[0] == trace_id:  # else a writer has cut the spool meanwhile
                yield row


def groups(spool: Path) -> Iterator[list[Row]]:
    """The newest record of each trace, in row groups."""
    group: list[Row] = []
    bytes_held = 0
    for row in spooled(spool, lambda _: True):
        group.append(row)
        record = row[2]
        bytes_held += len(record.alternatives) + 2 * len(record.alternative_sizes) + 8 * len(record)
        if bytes_held >= GROUP_BYTES:
            yield group
            group, bytes_held = [], 0
    if group:
        yield group
