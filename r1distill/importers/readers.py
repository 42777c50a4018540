"""Rows out of files: JSONL, a JSON array or objects spread over lines, each also as .gz or .zst, and Parquet.

In: a path; what a file is, is told by its first bytes. Out: a Line for each row, one after the other, with a bounded part of
the file in memory (limits.py). What can't be read is a Line with a fault. Nothing of a file is ever run: pickles, checkpoints and
caches that hold them are refused by their name and by their first bytes.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from r1distill.errors import InputError
from r1distill.importers.fields import BOM
from r1distill.importers.limits import (
    BUFFER_BYTES,
    CHUNK_BYTES,
    FREE_BYTES,
    MAX_LINE_BYTES,
    MAX_RATIO,
    MAX_WINDOW_LOG,
)
from r1distill.importers.lines import BOMB, TOO_LONG, Line
from r1distill.importers.parquet import parquet_lines
from r1distill.importers.values import Values
from r1distill.path_names import shown

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
REFUSED_NAMES = frozenset(
    {
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".ckpt",
        ".bin",
        ".joblib",
        ".npy",
        ".npz",
        ".arrow",
        ".feather",
        ".dill",
        ".py",
    }
)
REFUSED_STARTS = {
    b"PK\x03\x04": "a zip file or a PyTorch checkpoint", b"\x80\x02": "a pickle", b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle", b"\x80\x05": "a pickle", b"\x93NUMPY": "a NumPy array", b"ARROW1": "an Arrow cache",
    b"SQLite": "a database", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file", b"GGUF": "a file of weights",
}  # fmt: skip
TOO_MUCH_MEMORY = "requires too much memory"
WINDOW = (
    f"unpacking it takes a window of more than {1 << MAX_WINDOW_LOG - 20} MiB (zstd --long): unpack the file first; "
    "nothing more of it is read"
)
SPREAD_ENDS = (b"{", b"[", b",")


def lines_of(path: Path) -> Iterator[Line]:
    """The rows of a file that are not blank. Raises InputError for what is no such file, MissingPackageError."""
    head = first_bytes(path)
    if head.startswith(PARQUET):
        yield from parquet_lines(path)
    elif head.startswith(GZIP):
        yield from _unpacked(path, lambda raw: gzip.GzipFile(fileobj=raw), (OSError, EOFError, zlib.error))
    elif head.startswith(ZSTD):
        zstd = _zstd()
        limit = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
        yield from _unpacked(
            path, lambda raw: zstd.open(raw, "rb", options=limit), (OSError, EOFError, zstd.ZstdError)
        )
    else:
        with path.open("rb", buffering=BUFFER_BYTES) as file:
            yield from _rows(file, plain=True)


def first_bytes(path: Path) -> bytes:
    """How a file begins. Raises InputError for one that is refused or can't be read."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(
            f"{shown(path)} is no file but a pipe or a device: files are read twice, so write it to one."
        )
    name = path.name.lower()
    if any(name.endswith(end) for end in REFUSED_NAMES):
        raise InputError(
            f"{shown(path)} is not read: files of this kind can run code. Write its rows as JSONL or Parquet."
        )
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"{shown(path)} can't be read: {error.strerror or error}.") from None
    for start, what in REFUSED_STARTS.items():
        if head.startswith(start):
            raise InputError(
                f"{shown(path)} is {what}, not a trace file: write its rows as JSONL or Parquet, unpacked."
            )
    return head


def _rows(file: IO[bytes], plain: bool, check: Callable[[int], str] = lambda size: "") -> Iterator[Line]:
    """The rows of text that is JSON; `check` is told the bytes so far and may say why to stop."""
    head = _peek(file)
    if head.startswith(UTF16):
        yield Line(1, None, b"", "the file is written as UTF-16: save it as UTF-8; nothing of it is read")
        return
    start = head.removeprefix(BOM).lstrip()
    if start.startswith(b"[") or _is_spread(start):
        yield from _elements(file, check)
    else:
        yield from _json_lines(file, plain, check)


def _peek(file: IO[bytes]) -> bytes:
    return file.peek(4096)[:4096] if isinstance(file, io.BufferedReader) else b""


def _is_spread(start: bytes) -> bool:
    """True when the first line is only the beginning of an object, as indented JSON has it."""
    first, newline, _ = start.partition(b"\n")
    first = first.strip()
    if not newline or not first.startswith(b"{") or not first.endswith(SPREAD_ENDS):
        return False
    try:
        msgspec.json.decode(first)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except (RecursionError, UnicodeDecodeError):
        pass
    return False


def _json_lines(file: IO[bytes], plain: bool, check: Callable[[int], str]) -> Iterator[Line]:
    offset = number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(line)
        if size > MAX_LINE_BYTES and not line.endswith(b"\n"):
            size += _skip_line(file, offset + size, check)
            yield Line(number, None, b"", TOO_LONG)
        else:
            mark = (
                len(BOM) if line.startswith(BOM) else 0
            )  # files that were joined have one before later lines too
            if line[mark:].strip():
                yield Line(number, offset + mark if plain else None, line[mark:].rstrip(b"\n"))
        offset += size
        if fault := check(offset):
            yield Line(number + 1, None, b"", fault)
            return


def _skip_line(file: IO[bytes], size: int, check: Callable[[int], str]) -> int:
    """Pass over the rest of a line, as far as the file may be read; its bytes."""
    skipped = 0
    while part := file.readline(CHUNK_BYTES):
        skipped += len(part)
        if part.endswith(b"\n") or check(size + skipped):
            break
    return skipped


def _elements(file: IO[bytes], check: Callable[[int], str]) -> Iterator[Line]:
    stopped = ""

    def chunks() -> Iterator[bytes]:
        nonlocal stopped
        size = 0
        while not stopped and (chunk := file.read(CHUNK_BYTES)):
            yield chunk.removeprefix(BOM) if size == 0 else chunk
            size += len(chunk)
            stopped = check(size)

    number = 0
    for number, element in enumerate(Values().read(chunks()), 1):
        if element is None or not stopped:
            yield Line(number, None, element or b"", TOO_LONG if element is None else "")
    if stopped:
        yield Line(number + 1, None, b"", stopped)


def _unpacked(
    path: Path, unpack: Callable[[IO[bytes]], Any], faults: tuple[type[Exception], ...]
) -> Iterator[Line]:
    """The rows of a compressed file, as far as it can be unpacked."""
    number, last = 0, None
    with path.open("rb") as raw:

        def check(size: int) -> str:
            return BOMB if size > FREE_BYTES + MAX_RATIO * raw.tell() else ""

        with (
            Unpacking(lambda: unpack(raw), faults) as unpacking,
            io.BufferedReader(unpacking, BUFFER_BYTES) as file,
        ):
            for line in _rows(file, False, check):
                if last is not None:
                    number = last.number
                    yield last
                last = line
            if last is not None and (last.fault or not unpacking.fault or _is_json(last.data)):
                number = last.number
                yield last  # else it is the row in which the file is torn
            if unpacking.fault:
                yield Line(number + 1, None, b"", unpacking.fault)


class Unpacking(io.RawIOBase):
    """The bytes that come out of a compressed file. Where no more can be had it ends, and `fault` says why: all that came before
    is read, which a buffered reader would drop if this raised.
    """

    def __init__(self, unpack: Callable[[], Any], faults: tuple[type[Exception], ...]) -> None:
        self.fault = ""
        self._unpack, self._faults = unpack, faults
        self._packed: Any = None

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill a buffer, as far as there is something; the bytes."""
        view, size = memoryview(into), 0
        while size < len(view) and not self.fault:
            try:
                if self._packed is None:
                    self._packed = self._unpack()
                piece = self._packed.read1(len(view) - size)
            except self._faults as error:
                said = str(error)[:100]
                torn = f"the compressed data are damaged or end too early ({said})"
                self.fault = WINDOW if TOO_MUCH_MEMORY in said else torn
                break
            if not piece:
                break
            view[size : size + len(piece)] = piece
            size += len(piece)
        return size

    def close(self) -> None:
        """Close the reader; the file itself belongs to the caller."""
        if self._packed is not None:
            self._packed.close()
        super().close()


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return False
    return True


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
