"""What the lines of a batch asked: its request file read again, so that an answer finds what it is for by its custom_id.

In: a batch. Out: a Wanted for each of its lines.
"""

from __future__ import annotations

import msgspec

from r1distill.asking.owed import Wanted
from r1distill.batches.ledger import Batch, read_items, request_file
from r1distill.errors import InputError
from r1distill.ledger import read_lines
from r1distill.records import Message
from r1distill.run import Run


class Requests:
    """What the lines of a batch asked, by custom_id; messages are read from its request file when they are needed."""

    def __init__(self, run: Run, batch: Batch) -> None:
        """Read what its lines are for. Raises InputError when a file of the batch is gone."""
        self._path, self._teacher = request_file(run, batch.name), batch.teacher
        items = read_items(run, batch.name)
        if not self._path.exists():
            raise InputError(
                f"{self._path} is gone: it says what the batch {batch.name} asked. Put it back, then collect again."
            )
        lines = read_lines(self._path)
        self.items = {
            item.id: (item, offset, len(line)) for item, (offset, line) in zip(items, lines, strict=False)
        }

    def find(self, custom_id: str) -> Wanted | None:
        """The wanted answer of a line, or None."""
        if custom_id not in self.items:
            return None
        item, offset, length = self.items[custom_id]
        with self._path.open("rb") as file:
            file.seek(offset)
            messages = msgspec.json.decode(file.read(length), type=_Line).body.messages
        return Wanted(
            item.slot, item.prompt_id, item.sample, self._teacher, item.model, messages, item.sampling
        )


class _Body(msgspec.Struct):
    messages: list[Message]


class _Line(msgspec.Struct):
    body: _Body
