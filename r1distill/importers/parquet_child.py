"""The inside of the process that reads a Parquet file (parquet.py starts it and says how it answers): rows as JSON lines.

It imports nothing of the package. What a hostile file does to the library that reads it, it does to this process alone.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

ROW_FAULT, FILE_FAULT = b"!", b"#"
"""What a line begins with that is no row: why one can't be read; why the rest of the file can't."""


class Limits(NamedTuple):
    """What the file may cost."""

    address_space_bytes: int
    row_bytes: int
    free_bytes: int
    ratio: int
    """Bytes that may come out of each byte of the file, beyond the free ones."""
    rows_at_once: int


class _Bomb(Exception):
    """More comes out of the file than can be true."""


def main(path: str, limits: list[int]) -> None:
    """Write all rows to standard output, then how it ended if that was not the end of the file."""
    bounds = Limits(*limits)
    _limit_memory(bounds.address_space_bytes)
    out = sys.stdout.buffer
    try:
        _rows(Path(path), bounds, out)
    except _Bomb:
        _say(out, FILE_FAULT, "")
    except Exception as error:  # noqa: BLE001 - the fence around a stranger's file; the rest is said by how the process ends
        text = next(iter(str(error).splitlines()), type(error).__name__)
        _say(out, FILE_FAULT, text[:200] or type(error).__name__)
    out.flush()


def _limit_memory(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind


def _say(out: BinaryIO, kind: bytes, text: str) -> None:
    out.write(kind + msgspec.json.encode(text.encode("utf-8", "replace").decode()) + b"\n")


def _rows(path: Path, limits: Limits, out: BinaryIO) -> None:
    from pyarrow import parquet

    most = limits.free_bytes + limits.ratio * path.stat().st_size
    size = 0
    with (
        path.open("rb") as raw,  # whose name may be no UTF-8, which the library would refuse
        parquet.ParquetFile(raw, pre_buffer=False, thrift_string_size_limit=1 << 28) as file,
    ):
        if _unpacked_bytes(file.metadata) > most:
            raise _Bomb
        for batch in file.iter_batches(batch_size=limits.rows_at_once, use_threads=False):
            size += _write_batch(batch, limits, out)
            out.flush()
            if size > most:
                raise _Bomb


def _unpacked_bytes(metadata: Any) -> int:
    """What a Parquet file says of itself: bytes of all its pages, unpacked."""
    return sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))


def _write_batch(batch: Any, limits: Limits, out: BinaryIO) -> int:
    """The rows of a batch; at once where that is sure to be small: a value may stand in it once and be meant by every row."""
    rows: list[Any] = []
    size = 0
    if batch.nbytes * batch.num_rows <= limits.row_bytes:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            rows = batch.to_pylist()
    for at in range(batch.num_rows):
        size += _write_row(rows[at : at + 1] or batch.slice(at, 1), limits, out)
    return size


def _write_row(row: Any, limits: Limits, out: BinaryIO) -> int:
    """One row as a line: of a list of it, or of a batch of it. Returns its bytes."""
    try:
        if not isinstance(row, list) and row.nbytes > limits.row_bytes:
            _say(out, ROW_FAULT, "")
            return 0
        values = row if isinstance(row, list) else row.to_pylist()
        data = msgspec.json.encode(values[0], enc_hook=str)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        _say(out, ROW_FAULT, f"the row can't be written as JSON ({str(error)[:100]})")
        return 0
    out.write(data)
    out.write(b"\n")
    return len(data)
