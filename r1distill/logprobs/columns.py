"""Token log-probabilities <-> Parquet columns; the layout of logprobs/*.parquet.

One row per trace. Any Parquet reader understands it:
    trace_id, slot          string
    tokens                  list<binary>          the bytes of each token
    logprobs                list<float16>         natural logarithm; -inf: not told, or too unlikely to be told
    top_tokens              list<list<binary>>    each token's alternatives, in the server's order
    top_logprobs            list<list<float16>>
    token_ids               list<uint32>          empty when the server did not tell
    asked                   int32                 alternatives asked for
    reasoning_ends          int64 or null         so many leading tokens are reasoning, its closing tag included
    reasoning_found, notes  string, list<string>  see `TokenLogprobs`
Tokens are dictionary-encoded, values byte-stream-split, everything zstd: 2.8, 17 and 51 MB per million tokens with 0, 5
and 20 alternatives (scripts/bench_logprobs.py on grade-school solutions). Ids of a dictionary kept apart were 1-10% smaller,
joined bytes with sizes 20-50% larger than these lists. Layout: https://parquet.apache.org/docs/file-format/data-pages/encodings/
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

from r1distill.errors import InputError, MissingPackageError
from r1distill.logprobs.tokens import TokenLogprobs

Row = tuple[str, str, TokenLogprobs]
"""Trace id, slot, record."""

TOKEN_COLUMNS = ("tokens.list.element", "top_tokens.list.element.list.element")
VALUE_COLUMNS = ("logprobs.list.element", "top_logprobs.list.element.list.element")
LABEL_COLUMNS = ("reasoning_found", "notes.list.element")
DICTIONARY_BYTES = 8 << 20
"""A row group's token dictionary may grow so large (the default of 1 MB is too small for 150,000 tokens)."""
ZSTD_LEVEL = 1
"""Level 3 takes twice the time and makes the files no smaller: what is left after the dictionary is noise."""
ORIGIN = b"r1distill.spool"
"""File metadata: the digest of the spool that the file was made of."""


def need_pyarrow() -> None:
    """Raise MissingPackageError unless pyarrow can be imported."""
    try:
        import pyarrow.compute
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "Log-probabilities are kept in Parquet files, which need pyarrow: pip install 'r1distill[logprobs]', "
            "or set harvest.top_logprobs = 0."
        ) from None


class ColumnWriter:
    """Writes rows into a new Parquet file; use as a context manager. Errors of the disk are OSErrors."""

    def __init__(self, path: Path, origin: str) -> None:
        self._path, self._origin = path, origin
        self._file: Any = None

    def __enter__(self) -> ColumnWriter:
        import pyarrow.parquet as pq

        self._file = pq.ParquetWriter(
            str(self._path),
            _schema().with_metadata({ORIGIN: self._origin.encode()}),
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=[*TOKEN_COLUMNS, *LABEL_COLUMNS],
            column_encoding=dict.fromkeys(VALUE_COLUMNS, "BYTE_STREAM_SPLIT"),
            dictionary_pagesize_limit=DICTIONARY_BYTES,
            write_statistics=False,  # of tokens they tell nothing, and cost as much as the compression
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, rows: Sequence[Row]) -> None:
        """Append one row group."""
        self._file.write_table(_table(rows))


def origin_of(path: Path) -> str:
    """The digest of the spool that a Parquet file was made of; "" when it says none or can't be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = (pq.read_schema(str(path)).metadata or {}).get(ORIGIN, b"")
    except (pa.ArrowException, OSError):
        return ""
    return str(found, "ascii", "replace")


def row_groups(path: Path) -> Iterator[tuple[list[str], Any]]:
    """Yield (trace ids, a function that reads these rows) for each row group. Raises InputError for a broken file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(str(path)) as file:
            for group in range(file.metadata.num_row_groups):
                ids = file.read_row_group(group, columns=["trace_id"]).column(0).to_pylist()
                yield ids, lambda group=group: _records(file.read_row_group(group))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(
            f"{path} can't be read as a file of log-probabilities ({str(error)[:200]}); copy it again or delete it."
        ) from None


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        {
            "trace_id": pa.string(),
            "slot": pa.string(),
            "tokens": pa.list_(pa.binary()),
            "logprobs": pa.list_(pa.float16()),
            "top_tokens": pa.list_(pa.list_(pa.binary())),
            "top_logprobs": pa.list_(pa.list_(pa.float16())),
            "token_ids": pa.list_(pa.uint32()),
            "asked": pa.int32(),
            "reasoning_ends": pa.int64(),
            "reasoning_found": pa.string(),
            "notes": pa.list_(pa.string()),
        }
    )


def _table(rows: Sequence[Row]) -> Any:
    """The rows as an Arrow table, built from the packed bytes without a Python object per token."""
    import pyarrow as pa

    records = [record for _, _, record in rows]
    lengths = [len(record) for record in records]
    counts = b"".join(r.counts for r in records)
    tokens = _binaries(b"".join(r.sizes for r in records), b"".join(r.tokens for r in records))
    others = _binaries(
        b"".join(r.alternative_sizes for r in records), b"".join(r.alternatives for r in records)
    )
    values = _plain(pa.float16(), b"".join(r.values for r in records))
    other_values = _plain(pa.float16(), b"".join(r.alternative_values for r in records))
    columns = [
        _texts([trace_id for trace_id, _, _ in rows]),
        _texts([slot for _, slot, _ in rows]),
        _lists(lengths, tokens),
        _lists(lengths, values),
        _lists(lengths, _counted(counts, others)),
        _lists(lengths, _counted(counts, other_values)),
        _lists([len(r.ids) // 4 for r in records], _plain(pa.uint32(), b"".join(r.ids for r in records))),
        _plain(pa.int32(), array("i", [r.asked for r in records]).tobytes()),
        _some([r.reasoning_ends for r in records]),
        _texts([r.reasoning_found for r in records]),
        _lists([len(r.notes) for r in records], _texts([note for r in records for note in r.notes])),
    ]
    return pa.Table.from_arrays(columns, schema=_schema())


# From here on without `pa.array`: its first call imports pandas where that is installed, which takes 0.14-0.3 s and 40 MB.


def _plain(kind: Any, data: bytes) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(kind, len(data) * 8 // kind.bit_width, [None, pa.py_buffer(data)])


def _some(values: Sequence[int | None]) -> Any:
    """int64 [n], null where the value is None."""
    import pyarrow as pa

    known = sum(1 << at for at, value in enumerate(values) if value is not None)
    bitmap = known.to_bytes(len(values) // 8 + 1, "little")
    data = array("q", [value or 0 for value in values]).tobytes()
    return pa.Array.from_buffers(pa.int64(), len(values), [pa.py_buffer(bitmap), pa.py_buffer(data)])


def _texts(values: Sequence[str]) -> Any:
    import pyarrow as pa

    data = [value.encode("utf-8", "replace") for value in values]
    starts = _starts(map(len, data)).buffers()[1]
    return pa.Array.from_buffers(pa.string(), len(data), [None, starts, pa.py_buffer(b"".join(data))])


def _starts(lengths: Iterable[int]) -> Any:
    """int32 [n + 1]: where each of the n things begins."""
    import pyarrow as pa

    return _plain(pa.int32(), array("i", accumulate(lengths, initial=0)).tobytes())


def _offsets(sizes: bytes) -> Any:
    """As `_starts`, from packed uint16 sizes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sums = pc.cumulative_sum(_plain(pa.uint16(), sizes).cast(pa.int32()))
    return pa.concat_arrays([_starts(()), sums])


def _binaries(sizes: bytes, blob: bytes) -> Any:
    import pyarrow as pa

    starts = _offsets(sizes)
    return pa.Array.from_buffers(
        pa.binary(), len(starts) - 1, [None, starts.buffers()[1], pa.py_buffer(blob)]
    )


def _counted(counts: bytes, values: Any) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(_offsets(counts), values)


def _lists(lengths: Sequence[int], values: Any) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(_starts(lengths), values)


def _records(table: Any) -> Iterator[Row]:
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    for row in range(table.num_rows):
        yield _row({name: column.slice(row, 1) for name, column in columns.items()})


def _row(cells: dict[str, Any]) -> Row:
    import pyarrow as pa
    import pyarrow.compute as pc

    tokens, top = cells["tokens"].flatten(), cells["top_tokens"].flatten()
    others, other_values = top.flatten(), cells["top_logprobs"].flatten().flatten()
    record = TokenLogprobs(
        _blob(tokens),
        _packed(pc.binary_length(tokens).cast(pa.uint16())),
        _packed(cells["logprobs"].flatten()),
        _blob(others),
        _packed(pc.binary_length(others).cast(pa.uint16())),
        _packed(other_values),
        _packed(pc.list_value_length(top).cast(pa.uint16())),
        _packed(cells["token_ids"].flatten()),
        cells["asked"][0].as_py(),
        cells["reasoning_ends"][0].as_py(),
        cells["reasoning_found"][0].as_py(),
        tuple(cells["notes"][0].as_py()),
    )
    return cells["trace_id"][0].as_py(), cells["slot"][0].as_py(), record


def _packed(array: Any) -> bytes:
    """The numbers of an Arrow array as little-endian bytes."""
    width = array.type.bit_width // 8
    data = array.buffers()[1]
    return (
        bytes(memoryview(data)[array.offset * width : (array.offset + len(array)) * width]) if data else b""
    )


def _blob(array: Any) -> bytes:
    """The values of a binary Arrow array, joined."""
    _, starts, data = array.buffers()
    if not len(array) or not data:
        return b""
    start, end = (struct.unpack_from("<i", starts, 4 * (array.offset + at))[0] for at in (0, len(array)))
    return bytes(memoryview(data)[start:end])
