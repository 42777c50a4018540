"""The harvest of one judge: which replies a filter run wants of it, what is still owed, and what the replies say.

In: a judge check that knows its judge, the traces it is to judge. Out: replies in judge/traces/ by the same asking engine,
ledgers and account as a harvest's, so that nothing is asked or paid for twice and a budget holds over kills; readings by slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple, cast

import msgspec

from r1distill.ask import Asker
from r1distill.asking.account import opened, spent
from r1distill.asking.desk import Terms
from r1distill.asking.owed import LOOKUP, SETTLED, Plan, Wanted, state_of
from r1distill.asking.recent import recent_answers
from r1distill.asking.tally import Tally
from r1distill.checks.judge import Judge, Reading, read_reply
from r1distill.errors import RecipeError
from r1distill.estimates import TeacherEstimate, estimates
from r1distill.filtering.judges import in_judges_words, judges_recipe, with_all_prices, without_cost
from r1distill.filtering.measure import Source
from r1distill.filtering.sift import open_index
from r1distill.index import Index
from r1distill.ledger import Ledger
from r1distill.queries import Made, TraceRef, batched
from r1distill.recipe import Recipe
from r1distill.records import digest, split_ceiling
from r1distill.run import Run
from r1distill.show import Show
from r1distill.teachers.endpoints import open_endpoint
from r1distill.teachers.notes import recipe_notes
from r1distill.teachers.providers import provider

READER = 1
"""Raised when `read_reply` reads the same reply in another way."""
Sources = Callable[[], Iterator[Source]]
"""Reads all traces of a filter run, as often as it is called."""


class JudgeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one judge check asked for and cost."""

    check: str
    teacher: str
    judged: int
    """Traces that the judge is to judge."""
    not_asked: int
    """Traces that are not worth its money: another check removes them."""
    wanted: int
    """Replies that this takes; equal texts are asked about once."""
    asked: int = 0
    """Replies asked for in this call; of a dry run: so many would be."""
    still_owed: int = 0
    no_verdict: int = 0
    """Replies without a score that can be read, and requests that failed for good."""
    failures: dict[str, int] = {}
    """Requests of this call that were given up, by error class."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of this call, as `prompt_tokens`."""
    spent_usd: float = 0.0
    """By all judges of this folder so far, lost attempts included, as far as it is known."""
    cost_unknown: int = 0
    """Replies of this judge whose cost nobody knows."""
    budget_usd: float | None = None
    over_budget: bool = False
    """Stopped since one more request might have cost more than the budget has left."""
    estimates: list[TeacherEstimate] = []
    """Of a dry run: what it would use."""
    warnings: list[str] = []


class Court(NamedTuple):
    """What all judges of a filter run share."""

    recipe: Recipe
    run: Run
    """Their own run folder, judge/."""
    sources: Sources
    dry_run: bool
    show: Show
    retry_failed: bool = False
    """Ask again also for what failed for good."""


class JudgeHarvest:
    """One judge check in one filter run; `slots` are the keys of the wanted replies, by the id of the trace to judge."""

    def __init__(self, court: Court, name: str, check: Judge, slots: dict[str, list[str]]) -> None:
        self.whole, self.run, self.sources, self.dry_run, self.show, self._retry_failed_now = court
        self.name, self.check, self.slots = name, check, slots
        self.recipe = judges_recipe(self.whole, name, check)
        self.section = self.recipe.teacher[check.teacher]
        self.ceiling = split_ceiling(self.section.sampling)[1]
        self.wanted = list(dict.fromkeys(slot for keys in slots.values() for slot in keys))
        self.warnings = [
            in_judges_words(text, self.whole, name, check)
            for text in recipe_notes(self.recipe, for_traces=False)
        ]

    def hold(self, not_asked: int) -> tuple[dict[str, Reading], JudgeSummary]:
        """Ask for what is owed: (what the replies say, by slot; what it took). A dry run asks nobody.

        Raises StopRunError, LockedError, StorageError, RecipeError for a missing key, KeyboardInterrupt after Ctrl-C.
        """
        owed, tally = self.owed(), Tally(budget_usd=self.check.budget_usd)
        for text in self.warnings if owed else ():
            self.show.note_once(text)
        if owed and not self.dry_run:
            self._ask(owed, tally)
            self._retry_failed_now = False  # what failed in this call is not owed again
        with self._index() as index:
            readings = self._readings(index)
            return readings, self._summary(index, readings, owed, tally, not_asked)

    def _index(self) -> AbstractContextManager[Index]:
        return open_index(self.run.folder, self.dry_run)

    def owed(self) -> set[str]:
        """The slots to ask for now, by the ledger as it is."""
        left: set[str] = set()
        with self._index() as index:
            index.catch_up("traces", self.run.ledger_folder("traces"))
            failed = set() if self._retry_failed_now else index.final_failures("traces")
            for chunk in batched(self.wanted, LOOKUP):
                found = index.standing("traces", chunk)
                left |= {
                    slot for slot in chunk if state_of(self.ceiling, found.get(slot)) != SETTLED
                } - failed
        return left

    def _ask(self, owed: set[str], tally: Tally) -> None:
        name = self.check.teacher
        with ExitStack() as stack:
            try:  # first: a missing key leaves no empty ledger
                log = self.run.log_file(f"judge-{name}")
                endpoint = stack.enter_context(open_endpoint(name, self.section, self.recipe, log))
            except RecipeError as error:
                text = in_judges_words(str(error), self.whole, self.name, self.check)
                raise RecipeError(text) from None
            traces = stack.enter_context(Ledger(self.run.ledger_folder("traces") / "part-1-of-1.jsonl"))
            failures = stack.enter_context(Ledger(self.run.failures_file("traces")))
            priced = with_all_prices(self.whole).model_copy(update={"harvest": self.recipe.harvest})
            account = stack.enter_context(opened(priced, self.run, (1, 1)))
            # Again with the writer lock: now nobody else is getting the same replies.
            left = self.owed() & owed
            asker = Asker(
                {name: endpoint}, self.recipe.harvest, traces, failures, terms={name: self._terms()},
                spending=account.spending, show=self.show, tally=tally,
            )  # fmt: skip
            asker.run({name: self.items(left)}, f"judge {name}", {name: len(left)})
        if tally.interrupted:
            raise KeyboardInterrupt

    def _terms(self) -> Terms:
        section = self.section
        return Terms(
            section.price, section.max_in_flight, section.requests_per_min, section.tokens_per_min,
            provider(section.provider).requests_window_s, for_traces=False,
            recent=recent_answers(self.run, self.check.teacher, self.check.model, self.check.sampling),
        )  # fmt: skip

    def items(self, owed: Collection[str]) -> Iterator[Wanted]:
        """What is to be asked, one after the other, rendered as it is taken; equal texts once."""
        left, check = set(owed), self.check
        for source in self.sources() if left else ():
            keys = self.slots.get(source.trace.id, ())
            due = [n for n, slot in enumerate(keys) if slot in left]
            messages = check.messages(source.prompt, source.trace) if due else []
            for n in due:
                left.discard(keys[n])
                yield Wanted(
                    keys[n], source.trace.id, n, check.teacher, check.model, messages, check.sampling
                )

    def _readings(self, index: Index) -> dict[str, Reading]:
        """What is known of each wanted slot: the newest reply as it is read, or the failure that settles it."""
        index.catch_up("traces", self.run.ledger_folder("traces"))
        wanted = set(self.wanted)
        newest = {slot: ref for slot, ref in index.newest("traces").items() if slot in wanted}
        readings = {
            slot: Reading(None, f"no reply ({error_class})")
            for slot, (error_class, final) in index.given_up("traces").items()
            if final and slot in wanted
        }
        return readings | self._read(index, newest)

    def _read(self, index: Index, newest: dict[str, TraceRef]) -> dict[str, Reading]:
        """The readings of the replies; those that were read before from the index, where a row need not be decoded again."""
        keys = {slot: digest(["judge reply", READER, ref.content]) for slot, ref in newest.items()}
        seen = index.measured(ref.id for ref in newest.values())
        known = {key: msgspec.json.decode(seen[key]) for key in keys.values() if key in seen}
        new = sorted(
            (newest[slot] for slot, key in keys.items() if key not in known), key=lambda r: (r.name, r.offset)
        )
        fresh: list[Made] = []
        for ref, (_, reply) in zip(new, self.run.read_traces("traces", new), strict=True):
            fresh.append(Made(ref.id, keys[ref.slot], msgspec.json.encode(read_reply(reply)._asdict())))
        if fresh:
            index.store(fresh)
        known |= {one.key: msgspec.json.decode(one.raw) for one in fresh}
        return {slot: Reading(**known[key]) for slot, key in keys.items()}

    def _summary(
        self, index: Index, readings: dict[str, Reading], owed: set[str], tally: Tally, not_asked: int
    ) -> JudgeSummary:
        plan = cast(Plan, _Due(self, owed))
        return JudgeSummary(
            check=self.name, teacher=self.check.teacher, judged=len(self.slots), not_asked=not_asked,
            wanted=len(self.wanted), asked=len(owed) if self.dry_run else tally.asked,
            still_owed=len(owed) if self.dry_run or not owed else len(self.owed()),
            no_verdict=sum(reading.score is None for reading in readings.values()), failures=dict(tally.failures),
            prompt_tokens=tally.prompt_tokens, completion_tokens=tally.completion_tokens,
            spent_usd=spent(with_all_prices(self.whole), self.run, index).total,
            cost_unknown=without_cost(self.whole, index).get(self.check.teacher, 0), budget_usd=self.check.budget_usd,
            over_budget=tally.over_budget, warnings=[*self.warnings, *tally.warnings],
            estimates=estimates(self.recipe, self.run, plan, index) if self.dry_run else [],
        )  # fmt: skip


class _Due:
    """What a dry run would ask for, in the form in which a harvest's plan tells it to `estimates`."""

    def __init__(self, harvest: JudgeHarvest, owed: set[str]) -> None:
        self._harvest, self._owed = harvest, owed

    def left(self, chosen: object = None) -> Counter[str]:
        """Replies to ask for, by teacher."""
        return Counter({self._harvest.check.teacher: len(self._owed)} if self._owed else {})

    def items(self, teacher: str, chosen: object = None) -> Iterator[Wanted]:
        """The requests."""
        return self._harvest.items(self._owed)
