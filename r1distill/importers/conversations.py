"""Conversations in ShareGPT's shape: {"system"?, "conversations": [{"from", "value"}, ...]}, also with role and content.

Sources: FastChat's docs/training.md; OpenThoughts-114k, Bespoke-Stratos and Sky-T1 write "user" and "assistant" into `from`.
A system prompt that asks for tags which training rows don't have stays in the trace, and is not shown to students.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from r1distill.importers.chat import exchange
from r1distill.importers.fields import Row
from r1distill.importers.found import Context, Found, Unread, found
from r1distill.importers.table import Format
from r1distill.records import Message


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The trace of a conversation: its last answer. Raises ValueError."""
    items = row.items("conversations") or row.items("conversation")
    said = exchange(row, format, items)
    system = row.text((format.system,))
    if system is not None and not any(message.role == "system" for message in said.messages):
        said = replace(said, messages=[Message("system", system), *said.messages])
    yield found(row, format, context, said)
