"""Trace files of others: one file per shape, one row of a table per format.

In: the bytes of one JSON row. Out: the traces in it. `table.py` lists the formats, `detect.py` finds the one of a row,
`readers.py` takes rows out of files of all kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from r1distill.importers import chat, columns, conversations, generations, logs, own, responses
from r1distill.importers.detect import Detector, what_is_lacking
from r1distill.importers.fields import LacksError, Row, known_row, read_row
from r1distill.importers.found import Context, Found, Unread
from r1distill.importers.table import Format, Shape
from r1distill.thinking import text_json

__all__ = ["Context", "Detector", "Found", "Unread", "text_of", "traces_of"]

Reader = Callable[[Row, Format, Context], Iterator[Found | Unread]]
NOT_SO_SHAPED = (AttributeError, LookupError, TypeError)
"""The fence around a stranger's row: what a reader stumbles over where something else stands than its format has there."""
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
    none = True
    try:
        for found in READERS[_shape(row, format)](row, format, context):
            none = False
            yield found
    except LacksError as error:
        raise ValueError(what_is_lacking(row, format, str(error))) from None
    except NOT_SO_SHAPED as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"the row is not shaped as rows of {format.name} are ({said})") from None
    if none:
        raise ValueError("the row holds no trace: its list is empty")


def text_of(line: bytes, detector: Detector, context: Context) -> bytes:
    """The canonical text, as JSON, of the first trace of a row that is known to hold one: quicker than the whole trace."""
    row = known_row(line)
    format = detector.format_of(row)
    shape = _shape(row, format)
    if shape == "own":
        return own.text(row)
    if shape == "columns" and not format.authors:
        split, _, _ = columns.reply(row, format)
        return text_json(split.reasoning, split.answer)
    trace = next(found for found in READERS[shape](row, format, context) if isinstance(found, Found)).trace
    return text_json(trace.reasoning, trace.answer)


def _shape(row: Row, format: Format) -> Shape:
    is_list = format.name == "map" and row.kind(format.reply[0]) == "list"
    return "generations" if is_list else format.shape
