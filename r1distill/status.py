"""VERB status: what a run folder holds now; reads only, also beside a running harvest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from r1distill.asking.account import spent
from r1distill.asking.live import live
from r1distill.asking.owed import Plan, harvest_plan
from r1distill.batches.ledger import slots_out
from r1distill.errors import R1DistillError
from r1distill.filtering.judges import judging_so_far
from r1distill.index import Index
from r1distill.queries import Queries, Standing
from r1distill.recipe import Recipe
from r1distill.run import PromptFile, Run
from r1distill.show import Show, counted, dollars, duration

STAGES = ("filter", "train", "evaluate")


class GivenUp(msgspec.Struct, frozen=True):
    """Wanted answers without a trace whose last request failed in one way."""

    error_class: str
    final: bool
    """Asking again can't help."""
    count: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run. What is wanted is there, failed for good or still owed."""

    folder: str
    prompts: int
    wanted: int | None
    """Answers that the recipe wants; None when that can't be told (a file of the recipe is gone)."""
    there: int | None
    """Wanted answers that need not be asked for again."""
    failed: int | None
    """Wanted answers that failed for good."""
    owed: int | None
    out_in_batches: int
    """Of the owed ones, those that wait in batches."""
    traces: int
    """On disk, whatever they answer."""
    earlier: int | None
    """Of these, answers that only earlier recipes wanted."""
    duplicates: int
    """Of these, traces beyond the first of the same answer and ceiling."""
    imported: int
    """Of these, traces that another run paid for."""
    teachers: list[dict[str, Any]]
    given_up: list[GivenUp]
    """Of the wanted answers: why those that have no trace failed last."""
    spent_usd: float
    """By the harvest so far, lost attempts included, as far as it is known."""
    budget_usd: float | None
    judge_replies: int
    """Replies of the judges that the filter asked, on disk."""
    judge_usd: float | None
    """Spent on the judges so far, lost attempts included; None when the cost of some reply is unknown."""
    harvesting: dict[str, dict[str, Any]]
    """Harvests that are going on, by part: what they did in this call."""
    stages: dict[str, str]
    """The id of the current result of each stage that has one."""
    unreadable: list[str]


class _Watched(Queries):
    """An index that counts what a plan finds in it, so that the plan need not be gone over twice."""

    def __init__(self, index: Index) -> None:
        self.db = index.db
        self.answered = 0
        """Slots that were looked for and have a trace."""
        self.failures: Counter[tuple[str, bool]] = Counter()
        """Of those that have none: how their last request failed."""
        self._given_up = self.given_up("traces")

    def standing(self, ledger: str, slots: list[str]) -> dict[str, Standing]:
        """As of the index."""
        found = super().standing(ledger, slots)
        self.answered += len(found)
        self.failures.update(self._given_up[slot] for slot in slots if slot in self._given_up)
        return found


def status(recipe: Recipe, run: Run) -> Status:
    """Count what is there and what is owed. Raises InputError when there is no run yet."""
    prompts = run.prompts_file()
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        watched = _Watched(index)
        plan = _plan(recipe, run, prompts, watched)
        held = index.holdings("traces")
        judging = judging_so_far(recipe, run.folder)
        return Status(
            folder=str(run.folder), prompts=sum(1 for _ in prompts), wanted=plan.wanted if plan else None,
            there=plan.had - plan.had_failed if plan else None, failed=plan.had_failed if plan else None,
            owed=plan.still_owed + plan.out if plan else None, out_in_batches=plan.out if plan else 0,
            traces=held.traces,
            earlier=held.slots - held.from_files - watched.answered if plan else None, duplicates=held.duplicates,
            imported=held.imported, teachers=index.totals("traces"),
            given_up=[GivenUp(name, final, count) for (name, final), count in watched.failures.most_common()],
            spent_usd=spent(recipe, run, index).total, budget_usd=recipe.harvest.budget_usd, harvesting=live(run),
            unreadable=index.unreadable,
            judge_replies=judging.replies, judge_usd=judging.usd,
            stages={verb: found[0].name for verb in STAGES if (found := run.latest(verb))},
        )  # fmt: skip


def _plan(recipe: Recipe, run: Run, prompts: PromptFile, index: Queries) -> Plan | None:
    try:
        return harvest_plan(recipe, prompts).look(cast(Index, index), "traces", out=slots_out(run))
    except R1DistillError:
        return None


def tell(state: Status, show: Show) -> None:
    """Print a status for people."""
    for line in lines(state):
        show.note(line)
    show.table("Traces", *_traces(state.teachers))
    rows = [(g.error_class, "final" if g.final else "open", f"{g.count:,}") for g in state.given_up]
    show.table("Requests given up (these answers have no trace)", ("class", "final/open", "count"), rows)
    for verb, stage in state.stages.items():
        show.note(f"{verb}: {state.folder}/{verb}/{stage}")
    for place in state.unreadable:
        show.note(f"{place}: an unreadable row was passed over.")


def lines(state: Status) -> list[str]:
    """A status for people, without its tables: a sentence a line."""
    text = [f"{state.folder}: {counted(state.prompts, 'problem')}, {_wanted(state)}."]
    if state.failed:
        text.append("`harvest --retry-failed` asks again for what failed for good.")
    if state.out_in_batches:
        text.append(
            f"{state.out_in_batches:,} of the owed ones are out in batches or exported files (`batch status` says more)."
        )
    text += _beside(state)
    if state.spent_usd or state.budget_usd:
        budget = f" of the budget of {dollars(state.budget_usd)}" if state.budget_usd is not None else ""
        text.append(f"Spent{budget}: {dollars(state.spent_usd)}, lost attempts included.")
    if state.judge_replies or state.judge_usd != 0:
        text.append(
            f"Judges: {counted(state.judge_replies, 'reply', 'replies')} there, spent on them: {dollars(state.judge_usd)}."
        )
    return text + [
        f"harvesting now ({part}, pid {now['pid']}): {now['done']:,}/{now['total']:,}, {now['line']}{_left(now)}"
        for part, now in state.harvesting.items()
    ]


def _wanted(state: Status) -> str:
    if state.wanted is None:
        return "unknown answers wanted, unknown still owed (a file of the recipe is gone or can't be used)"
    failed = f", {state.failed:,} failed for good" if state.failed else ""
    return (
        f"{counted(state.wanted, 'answer')} wanted: {state.there:,} there{failed}, {state.owed:,} still owed"
    )


def _beside(state: Status) -> list[str]:
    """On traces that are no answers of this recipe, or not of this run's money."""
    text = []
    if state.earlier:
        text.append(f"{counted(state.earlier, 'more answer')} on disk, of earlier recipes: not counted.")
    if state.duplicates:
        text.append(
            f"{counted(state.duplicates, 'duplicate')}: more than one trace of the same answer; it counts once."
        )
    if state.imported:
        text.append(f"{counted(state.imported, 'trace')} imported: paid for by another run.")
    return text


def _traces(teachers: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(columns, rows) of the table of traces."""
    imported = any(t["imported"] for t in teachers)
    rows = [
        (t["teacher"], f"{t['traces']:,}", *([f"{t['imported']:,}"] if imported else []), f"{t['truncated']:,}",
         _tokens(t["prompt_tokens"]), _tokens(t["completion_tokens"]),
         dollars(None if t["own_cost_unknown"] else t["own_cost_usd"]))
        for t in teachers
    ]  # fmt: skip
    extra = ("imported",) if imported else ()
    return ("teacher", "traces", *extra, "cut", "prompt tokens", "completion tokens", "cost"), rows


def _tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _left(now: dict[str, Any]) -> str:
    done, left = now["done"], now["total"] - now["done"] - now.get("given_up", 0)
    return f", {duration(now['elapsed_s'] / done * left)} left" if done and left > 0 else ""
