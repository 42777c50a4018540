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

_TRACE = msgspec.json.Decoder(Trace)


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
