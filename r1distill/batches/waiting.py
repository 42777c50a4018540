"""How many answers are waited for: of batches at a provider, and of files that were exported for others to run.

In: batches.jsonl and the traces of a run. Out: numbers. What came, by whatever way, is not waited for.
"""

from __future__ import annotations

from typing import NamedTuple

from r1distill.batches.ledger import Batch, read_batches, read_items
from r1distill.index import Index
from r1distill.queries import batched
from r1distill.run import Run
from r1distill.show import counted

LOOKUP = 400
"""Slots looked up at a time."""


class Waiting(NamedTuple):
    """Answers that are out and have not come."""

    submitted: int
    """In batches at a provider."""
    exported: int
    """In files that were written with --mark-out."""

    @property
    def total(self) -> int:
        """Both."""
        return self.submitted + self.exported

    def lines(self) -> list[str]:
        """A sentence for each of the two that is not 0, with what brings them."""
        text = []
        if self.submitted:
            text.append(f"{_out(self.submitted)} out in batches; `batch collect` brings them.")
        if self.exported:
            text.append(f"{_out(self.exported)} out in exported files; `batch import` brings them.")
        return text


def _out(count: int) -> str:
    return f"{counted(count, 'answer')} {'is' if count == 1 else 'are'}"


def waiting(run: Run) -> Waiting:
    """What the run waits for. Raises InputError when a file of a batch that is out is gone."""
    still: dict[bool, set[str]] = {True: set(), False: set()}
    with run.index(write=False) as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        for batch in read_batches(run).values():
            if batch.open:
                still[batch.kind == "export"] |= _slots(run, batch) - _came(run, batch, index)
    return Waiting(len(still[False]), len(still[True] - still[False]))


def came(run: Run, batch: Batch) -> int:
    """How many answers of a batch are there. Raises InputError when its file is gone."""
    with run.index(write=False) as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        return len(_came(run, batch, index))


def _slots(run: Run, batch: Batch) -> set[str]:
    return {item.slot for item in read_items(run, batch.name)}


def _came(run: Run, batch: Batch, index: Index) -> set[str]:
    """The slots whose very request (its ceiling included) is answered, or that failed for good."""
    slots: set[str] = set()
    for chunk in batched(read_items(run, batch.name), LOOKUP):
        have = index.has_traces("traces", [item.id for item in chunk])
        slots.update(item.slot for item in chunk if item.id in have)
    return slots | (_slots(run, batch) & index.final_failures("traces"))
