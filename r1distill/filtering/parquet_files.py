"""Training rows as Parquet: NAME.jsonl -> NAME.parquet, row group by row group, so that memory does not grow with the file.

The columns are those of the JSONL rows, messages as lists of {role, content}: `datasets` and TRL load both alike
(https://huggingface.co/docs/trl/dataset_formats). Needs pyarrow (extra `logprobs`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1distill.errors import InputError, MissingPackageError
from r1distill.ledger import read_lines, storage_errors
from r1distill.path_names import shown

IDS = ("trace_id", "rejected_trace_id")
COLUMNS = {
    "train": ("trace_id", "prompt", "completion"),
    "val": ("trace_id", "prompt", "completion"),
    "pairs": ("trace_id", "rejected_trace_id", "prompt", "chosen", "rejected"),
}
"""By file; all but IDS are lists of messages."""
MARK = {b"r1distill": b"training rows"}
"""File metadata: what carries it may be replaced and removed, files of others may not."""
GROUP_BYTES = 8 << 20
"""So many bytes of JSONL, or GROUP_ROWS, make a row group: what is held in memory."""
GROUP_ROWS = 10_000


def need_pyarrow() -> None:
    """Raise MissingPackageError unless pyarrow can be imported."""
    try:
        import pyarrow.json
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "filter.select.parquet writes Parquet files, which need pyarrow: pip install 'r1distill[logprobs]', "
            "or set it to false."
        ) from None


def write_parquet(folder: Path) -> None:
    """Write NAME.parquet beside NAME.jsonl for each of COLUMNS, whole or not at all. Raises MissingPackageError, StorageError."""
    need_pyarrow()
    for name, columns in COLUMNS.items():
        _convert(folder / f"{name}.jsonl", folder / f"{name}.parquet", _schema(columns))


def refuse_foreign(folder: Path) -> None:
    """Raise InputError when a Parquet file that is not ours stands where `write_parquet` would write."""
    for path in (folder / f"{name}.parquet" for name in COLUMNS):
        if path.exists() and not _is_ours(path):
            raise InputError(
                f"{shown(path)} was not written by r1distill and would be replaced: choose another folder, or move it."
            )


def remove_parquet(folder: Path) -> None:
    """Remove what an earlier run into the same folder wrote: it would not fit the JSONL files any more."""
    for path in (folder / f"{name}.parquet" for name in COLUMNS):
        if path.exists() and _is_ours(path):
            with storage_errors(path):
                path.unlink()


def _is_ours(path: Path) -> bool:
    """By the mark in its metadata; False where that can't be read."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return False
    try:
        with path.open("rb") as raw:  # the name may be no UTF-8, which Arrow would refuse
            return MARK.items() <= (pq.read_schema(raw).metadata or {}).items()
    except (pa.ArrowException, OSError):
        return False


def _schema(columns: tuple[str, ...]) -> Any:
    import pyarrow as pa

    messages = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
    return pa.schema({name: pa.string() if name in IDS else messages for name in columns})


def _convert(source: Path, target: Path, schema: Any) -> None:
    import pyarrow.parquet as pq

    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    with storage_errors(target):
        try:
            with (
                part.open("wb") as raw,
                pq.ParquetWriter(raw, schema.with_metadata(MARK), compression="zstd") as file,
            ):
                for lines in _groups(source):
                    file.write_table(_table(lines, schema))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _table(lines: bytes, schema: Any) -> Any:
    """Read by Arrow itself: `Table.from_pylist` would import pandas, which takes 50 MB."""
    import pyarrow as pa
    from pyarrow import json

    parse = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    read = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)  # a block holds whole lines
    return json.read_json(pa.BufferReader(lines), read, parse).select(schema.names)


def _groups(source: Path) -> Iterator[bytes]:
    """The lines of a row group, as they stand in the file."""
    lines: list[bytes] = []
    size = 0
    for _, line in read_lines(source):
        lines.append(line)
        size += len(line)
        if size >= GROUP_BYTES or len(lines) >= GROUP_ROWS:
            yield b"\n".join(lines)
            lines, size = [], 0
    if lines:
        yield b"\n".join(lines)
