"""Trace files of others: one file per shape, one row of a table per format.

In: the bytes of one JSON row. Out: the traces in it. `table.py` lists the formats, `detect.py` finds the one of a row,
`readers.py` takes rows out of files of all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from r1distill.importers import chat, columns, conversations, generations, logs, own, responses
from r1distill.importers.detect import Detector
from r1distill.importers.fields import Row, read_row
from r1distill.importers.found import Context, Found, Unread
from r1distill.importers.table import Format, Shape

__all__ = ["Context", "Detector", "Found", "Unread", "traces_of"]

Reader = Callable[[Row, Format, Context], Iterator[Found | Unread]]
READERS: dict[Shape, Reader] = {
    "own": own.read,
    "chat": chat.read,
    "conversations": conversations.read,
    "columns": columns.read,
    "generations": generations.read,
    "responses": responses.read,
    "logs": logs.read,
}


def traces_of(line: bytes, detector: Detector, context: Context) -> Iterator[Found | Unread]:
    """All traces of one row. Raises ValueError or RecursionError for a row that holds none at all."""
    row = read_row(line)
    format = detector.format_of(row)
    shape = format.shape
    if format.name == "map" and row.kind(format.reply[0]) == "list":
        shape = "generations"
    none = True
    for found in READERS[shape](row, format, context):
        none = False
        yield found
    if none:
        raise ValueError("the row holds no trace: its list is empty")
