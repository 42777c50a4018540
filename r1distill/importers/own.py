"""Our own traces, as they stand in a run's traces/ or in kept.jsonl and rejected.jsonl.

The problem comes from the run folder that the file lies in; a file that was moved away has only the messages, of which the
last question counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from r1distill.importers.fields import Row
from r1distill.importers.found import Context, Found, Unread, kind, reference
from r1distill.importers.table import Format
from r1distill.records import Prompt, Trace
from r1distill.thinking import text_json


class _Texts(msgspec.Struct):
    """Of a trace, all that a training row needs."""

    reasoning: str
    answer: str


_TRACE = msgspec.json.Decoder(Trace)
_TEXTS = msgspec.json.Decoder(_Texts)


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The trace as it was written. Raises ValueError for a row that is none."""
    trace = _TRACE.decode(row.source)
    asked = [m for m in trace.messages if m.role == "system"]
    asked += [m for m in trace.messages if m.role == "user"][-1:]
    question = asked[-1].content if asked else ""
    saved = context.saved.get(trace.prompt_id)
    if saved is None and not question.strip():
        raise ValueError("no question: none of its messages is a user's")
    prompt = saved or Prompt(
        trace.prompt_id, question, reference(row, format.reference), kind(row, format, context.kind)
    )
    yield Found(prompt, trace, asked, None)


def text(row: Row) -> bytes:
    """The canonical text of the trace, as JSON."""
    trace = _TEXTS.decode(row.source)
    return text_json(trace.reasoning, trace.answer)
