"""The inside of the process that reads a Parquet file (parquet.py starts it and says how it answers): rows as JSON lines.

It imports nothing of the package. What a hostile file does to the library that reads it, it does to this process alone.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections import Counter
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
        if (twice := _twice(file.schema_arrow.names)) is not None:
            _say(out, FILE_FAULT, f"the column {twice!r} stands in the file twice")
            return
        if _unpacked_bytes(file.metadata) > most:
            raise _Bomb
        for batch in file.iter_batches(batch_size=limits.rows_at_once, use_threads=False):
            size += _write_batch(batch, limits, out)
            out.flush()
            if size > most:
                raise _Bomb


def _twice(names: list[str]) -> str | None:
    """The first name that stands there more than once, cut short."""
    return next((name[:100] for name, count in Counter(names).items() if count > 1), None)


def _unpacked_bytes(metadata: Any) -> int:
    """What a Parquet file says of itself: bytes of all its pages, unpacked."""
    return sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))


def _write_batch(batch: Any, limits: Limits, out: BinaryIO) -> int:
    """The rows of a batch, at once when they take no more together than one of them may. Returns their bytes."""
    rows: list[Any] = []
    size = 0
    if size_of(batch) <= limits.row_bytes:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            rows = batch.to_pylist()
    for at in range(batch.num_rows):
        size += _write_row(rows[at : at + 1] or batch.slice(at, 1), limits, out)
    return size


def _write_row(row: Any, limits: Limits, out: BinaryIO) -> int:
    """One row as a line: of a list of it, or of a batch of it. Returns its bytes, also of one that is too long."""
    try:
        if not isinstance(row, list) and (size := size_of(row)) > limits.row_bytes:
            _say(out, ROW_FAULT, "")
            return size
        values = row if isinstance(row, list) else row.to_pylist()
        data = msgspec.json.encode(values[0], enc_hook=str)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        _say(out, ROW_FAULT, f"the row can't be written as JSON ({str(error)[:100]})")
        return 0
    if len(data) > limits.row_bytes:  # a control character takes six bytes
        _say(out, ROW_FAULT, "")
    else:
        out.write(data)
        out.write(b"\n")
    return len(data)


def size_of(batch: Any) -> int:
    """What all rows of a batch take: as they lie there or as JSON, whichever is sure to be more. JSON may take more than this
    (a control character six bytes instead of one), hardly ever less.
    """
    return _size_of_names(batch.num_rows, batch.schema.names) + sum(
        _size_of_column(column) for column in batch.columns
    )


def _size_of_column(array: Any) -> int:
    from pyarrow import lib

    kind, count = array.type, len(array)
    if kind.id in (lib.Type_LIST, lib.Type_LARGE_LIST, lib.Type_MAP):
        first, last = array.offsets[0].as_py(), array.offsets[count].as_py()
        parts = (array.keys, array.items) if kind.id == lib.Type_MAP else (array.values,)
        return 2 * count + sum(_size_of_column(part.slice(first, last - first)) for part in parts)
    if kind.id == lib.Type_STRUCT:
        inner = sum(_size_of_column(part) for part in array.flatten())
        return _size_of_names(count - array.null_count, [field.name for field in kind]) + inner
    if kind.id == lib.Type_FIXED_SIZE_LIST:
        return 2 * count + _size_of_column(array.flatten())
    if kind.id == lib.Type_DICTIONARY:
        return _size_of_dictionary(array)
    if kind.id in (lib.Type_NA, lib.Type_BOOL):
        return 5 * count  # `null,` stands in no buffer, `true,` takes a bit
    return max(int(array.nbytes), 2 * count)


def _size_of_names(count: int, names: list[str]) -> int:
    """The names and brackets of so many JSON objects, each with `""`, a colon and a comma around the name."""
    return count * (2 + sum(len(name) + 4 for name in names))


def _size_of_dictionary(array: Any) -> int:
    """Values that stand in the array once and are meant by number: each as often as it is meant."""
    from pyarrow import compute

    count, values = len(array), array.dictionary
    try:
        lengths = compute.binary_length(values)
    except NotImplementedError:  # they are numbers
        return _size_of_column(array.dictionary_decode())
    return 2 * count + int(compute.sum(lengths.take(array.indices), min_count=0).as_py())
