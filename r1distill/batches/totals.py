"""What a collect or an import came to: the counts of several intakes -> one summary.

In: intakes that have ended, what still waits. Out: a CollectSummary, as people and `--json` get it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from r1distill.batches.intake import MOST_PLACES, Intake
from r1distill.batches.ledger import Batch
from r1distill.batches.waiting import Waiting


class CollectSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a collect or an import took in."""

    collected: list[str]
    """Names of the batches that are done with."""
    traces: int = 0
    truncated: int = 0
    failed_final: int = 0
    failed_open: int = 0
    """Lines with an error that may pass; owed again."""
    never_asked: int = 0
    """Lines that the provider did not get to (expired, cancelled) or lost; owed again."""
    already: int = 0
    """Answers that were there before."""
    duplicates: int = 0
    """Lines whose custom_id came twice in these files."""
    unknown: int = 0
    """Lines whose custom_id belongs to no answer that is wanted."""
    torn: int = 0
    """Lines that can't be read."""
    odd: list[str] = []
    """The first of these three, as FILE: line N: what it is."""
    cost_usd: float | None = None
    """Of the traces, by the teacher's own figures or the recipe's price; None when any is unknown."""
    without_reasoning: int = 0
    out: int = 0
    """Answers that still wait in batches or in exported files."""
    exported: int = 0
    """Of these, the ones in exported files."""
    still_owed: int = 0
    """Of what was waited for: slots that still wait, and those that came back without an answer."""
    dry_run: bool = False
    warnings: list[str] = []


class Totals:
    """What several batches came to."""

    def __init__(self) -> None:
        self.collected: list[str] = []
        self.counts: Counter[str] = Counter()
        self.odd: list[str] = []
        self.warnings: list[str] = []
        self.cost_usd, self.cost_unknown = 0.0, False

    def add(self, intake: Intake, batch: Batch | None, missing: int) -> None:
        """Add one intake, of a batch or of files."""
        self.counts.update(intake.counts)
        self.odd += intake.odd[: MOST_PLACES - len(self.odd)]
        self.cost_usd += intake.cost_usd
        self.cost_unknown |= intake.cost_unknown
        if batch is not None:
            self.collected.append(batch.name)
            if missing:
                why = f" ({batch.message})" if batch.message else ""
                self.warnings.append(
                    f"{batch.name} ended as {batch.status}{why}: {missing:,} of {batch.lines:,} answers did not come."
                )

    def summary(self, left: Waiting, dry_run: bool = False) -> CollectSummary:
        """All of it."""
        c = self.counts
        names = ("traces", "truncated", "failed_final", "failed_open", "never_asked", "already", "duplicates", "unknown",
                 "torn", "without_reasoning")  # fmt: skip
        facts: dict[str, Any] = {name: c[name] for name in names}
        return CollectSummary(
            collected=self.collected, odd=self.odd, out=left.total, exported=left.exported, dry_run=dry_run,
            warnings=[*self.warnings, *self._refused()], cost_usd=None if self.cost_unknown else self.cost_usd,
            still_owed=left.total + c["failed_open"] + c["never_asked"], **facts,
        )  # fmt: skip

    def _refused(self) -> list[str]:
        told = {
            name.removeprefix("class "): count
            for name, count in self.counts.items()
            if name.startswith("class ")
        }
        return (
            [f"Lines without an answer: {', '.join(f'{count:,} {name}' for name, count in told.items())}."]
            if told
            else []
        )
