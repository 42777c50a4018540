"""What came back of batches, line by line -> rows of the ledgers, each once, however often it is tried.

In: result lines and what they are for. Out: traces/part-batch.jsonl, failures-batch.jsonl, and counts. A usable answer
becomes a trace, by the same table as in a harvest; what failed for good is recorded so; all else (empty answers, passing
troubles, lines that the provider never got to) is owed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from r1distill.asking.exchange import failure_of, trace_of
from r1distill.asking.owed import Wanted
from r1distill.batches.files import NEVER_ASKED, Result, read_results
from r1distill.ledger import Ledger, read_lines
from r1distill.recipe import Recipe
from r1distill.recipe_sections import PriceSection
from r1distill.records import trace_id_of
from r1distill.run import Run
from r1distill.teachers.money import cost_usd
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply
from r1distill.teachers.secrets import scrub

MOST_PLACES = 20
"""So many odd lines are told by their place; the rest is counted."""
Find = Callable[[str], Wanted | None]
"""What a custom_id is for."""


class Intake:
    """Takes result lines in; each answer becomes one row in the ledgers, or none if it is there."""

    def __init__(
        self, recipe: Recipe, run: Run, have: set[str], failed: set[str], answered: set[str]
    ) -> None:
        self.recipe, self.run = recipe, run
        self.have, self.failed, self.answered = have, failed, answered
        """Trace ids that are there; slots whose failure was recorded for these files; teachers that gave an answer before."""
        self.traces: Ledger | None = None
        self.failures: Ledger | None = None
        """Where rows go; None: nowhere (a dry run)."""
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        """The custom_ids that came."""
        self.odd: list[str] = []
        self.cost_usd = 0.0
        self.cost_unknown = False
        self.unanswered: dict[str, float] = {}
        """What those that came back without an answer cost, in USD by trace id."""
        self._deferred: list[tuple[Wanted, Refusal]] = []

    def take(self, path: Path, find: Find) -> None:
        """Take in a result file; `find` tells what a custom_id is for. Raises InputError, StorageError."""
        for result in read_results(path):
            self._take_one(result, find)

    def _take_one(self, result: Result, find: Find) -> None:
        if result.custom_id is None:
            return self._note("torn", result, "no result, or torn")
        if result.custom_id in self.seen:
            return self._note("duplicates", result, "its custom_id came before")
        item = find(result.custom_id)
        if item is None:
            return self._note("unknown", result, f"unknown custom_id {result.custom_id[:80]!r}")
        self.seen.add(result.custom_id)
        if result.custom_id in self.have:
            self.counts["already"] += 1
        elif result.reply is not None:
            self._trace(item, result.reply)
        elif result.refused is not None:
            self._failed(item, result.refused)
        return None

    def _note(self, what: str, result: Result, told: str) -> None:
        self.counts[what] += 1
        if len(self.odd) < MOST_PLACES:
            self.odd.append(f"{result.place}: {told}")

    def _trace(self, item: Wanted, reply: Reply) -> None:
        cost = reply.cost_usd if reply.cost_usd is not None else cost_usd(reply.usage, self._price(item))
        trace = msgspec.structs.replace(trace_of(item, reply, cost, 1, 0.0), latency_s=None)
        if self.traces is not None:
            self.traces.append(trace)
        self.have.add(trace.id)
        self.answered.add(item.teacher)
        self.counts.update(
            traces=1, truncated=trace.finish == "length", without_reasoning=not trace.reasoning
        )
        self.cost_usd += cost or 0.0
        self.cost_unknown |= cost is None

    def _price(self, item: Wanted) -> PriceSection | None:
        section = self.recipe.teacher.get(item.teacher)
        return section.price if section is not None else None

    def _failed(self, item: Wanted, refused: Refusal) -> None:
        if refused.error_class in NEVER_ASKED:
            self.counts["never_asked"] += 1
            self.unanswered[trace_id(item)] = 0.0
        elif refused.action is Action.STOP:
            self._deferred.append(
                (item, refused)
            )  # only the whole batch tells whether it is the item's fault
        else:
            self._failure(item, refused)

    def finish(self) -> None:
        """Decide on what was put off, once all files are read. Raises StorageError."""
        for item, refused in self._deferred:
            if refused.error_class == "refused_request" and item.teacher in self.answered:
                # The same settings were answered, so it is this problem that the teacher does not take.
                refused.action, refused.error_class = Action.FINAL, "invalid_item"
            self._failure(item, refused)
        self._deferred.clear()

    def _failure(self, item: Wanted, refused: Refusal) -> None:
        refused.message = scrub(refused.message)
        if self.failures is not None and item.slot not in self.failed:
            self.failures.append(failure_of(item, refused, 1))
        self.failed.add(item.slot)
        self.counts["failed_final" if refused.action is Action.FINAL else "failed_open"] += 1
        self.counts[f"class {refused.error_class}"] += 1
        cost = cost_usd(refused.usage, self._price(item)) if refused.usage is not None else None
        self.unanswered[trace_id(item)] = cost or 0.0

    def store(self) -> None:
        """Put what was written on disk for good (fsync). Raises StorageError."""
        for ledger in (self.traces, self.failures):
            if ledger is not None:
                ledger.sync(force=True)


def open_intake(
    recipe: Recipe,
    run: Run,
    stack: ExitStack,
    ids: Iterable[str],
    failures_from: int | None,
    write: bool = True,
) -> Intake:
    """An intake over the run's ledgers, opened (and repaired) before it looks at what they hold."""
    failures = run.folder / "failures-batch.jsonl"
    ledgers: list[Ledger | None] = [None, None]
    if write:
        ledgers = [
            stack.enter_context(Ledger(p))
            for p in (run.ledger_folder("traces") / "part-batch.jsonl", failures)
        ]
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        have = index.has_traces("traces", ids)
        answered = {row["teacher"] for row in index.totals("traces") if row["traces"]}
    intake = Intake(recipe, run, have, _recorded(failures, failures_from), answered)
    intake.traces, intake.failures = ledgers
    return intake


class _Slot(msgspec.Struct):
    slot: str


def _recorded(path: Path, start: int | None) -> set[str]:
    """The slots whose failure stands in the ledger from byte `start` on; none for None."""
    if start is None or not path.exists():
        return set()
    decoder = msgspec.json.Decoder(_Slot)
    return {
        decoder.decode(line).slot
        for _, line in read_lines(path, start if start <= path.stat().st_size else 0)
    }


def trace_id(item: Wanted) -> str:
    """The id of the trace that an answer will be: the custom_id of its request."""
    return trace_id_of(item.slot, item.max_tokens)
