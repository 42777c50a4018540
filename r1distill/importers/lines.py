"""What a reader of files gives: one Line for each row, whatever file it stands in."""

from __future__ import annotations

from typing import NamedTuple

from r1distill.importers.limits import MAX_LINE_BYTES, MAX_RATIO

TOO_LONG = f"the row is longer than {MAX_LINE_BYTES >> 20} MiB"
BOMB = f"more than {MAX_RATIO} bytes come out of each byte of the file, as out of a decompression bomb; the rest is not read"


class Line(NamedTuple):
    """One row of a file."""

    number: int
    """Of the line; of the element in an array; of the row in a Parquet file. From 1."""
    offset: int | None
    """Where it stands in the file, in bytes; None when the file must be unpacked first."""
    data: bytes
    """One JSON text without a line break."""
    fault: str = ""
    """Why it can't be read, if it can't."""
