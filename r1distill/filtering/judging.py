"""The judges of a filter run: asked after the other checks have spoken, about the traces that those keep.

In: the recipe, its checks, the traces of a filter run. Out: the same checks, knowing what their judges said, and what that took.
Without a judge nothing happens.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from r1distill.checks.base import Check
from r1distill.checks.judge import Judge
from r1distill.errors import RecipeError
from r1distill.filtering.funnel import FilterSummary
from r1distill.filtering.judge_harvest import Court, JudgeHarvest, JudgeSummary, Sources
from r1distill.filtering.judges import equipped, judges_run
from r1distill.filtering.measure import Judged, Measured, measure_and_judge
from r1distill.forecast import COLUMNS, covered, table
from r1distill.index import Index
from r1distill.recipe import Recipe
from r1distill.records import digest
from r1distill.show import Show, counted, dollars


class JudgedSummary(FilterSummary, frozen=True, kw_only=True):
    """What a filter run with judges comes to."""

    judges: list[JudgeSummary] = msgspec.field(default_factory=list)
    still_owed: int = 0
    """Replies of judges that are still to be asked for; their traces are UNJUDGED."""


class Heard(NamedTuple):
    """The checks of a filter run after its judges were asked."""

    checks: dict[str, Check]
    inputs: list[str]
    """What the filter's result depends on besides its traces: digests of what the judges said; [] without a judge."""
    told: list[JudgeSummary]
    found: Measured | None = None
    """The traces, measured and judged with all that was heard; None without a judge."""

    def complete(self, summary: FilterSummary) -> FilterSummary:
        """The filter's summary with what the judges did and cost; unchanged without a judge."""
        if not self.told:
            return summary
        fields = {name: getattr(summary, name) for name in FilterSummary.__struct_fields__}
        if (
            summary.dry_run and self.found is not None
        ):  # a copy of the index was measured into before it was counted
            fields |= {"measured": self.found.measured, "cached": self.found.cached}
        owed = sum(one.still_owed for one in self.told)
        return JudgedSummary(**fields, judges=self.told, still_owed=owed)


def has_judge(checks: dict[str, Check]) -> bool:
    """True when one of the checks asks a model."""
    return any(isinstance(check, Judge) for check in checks.values())


def check_judges(recipe: Recipe, checks: dict[str, Check]) -> dict[str, Check]:
    """The checks, each judge knowing whom it asks. Raises RecipeError for a judge that can't be asked as the recipe says."""
    ready: dict[str, Check] = {
        name: equipped(recipe, name, check) if isinstance(check, Judge) else check
        for name, check in checks.items()
    }
    for name, check in ready.items():
        if isinstance(check, Judge):
            _conditions(name, ready)
    return ready


def hear(
    recipe: Recipe | None, checks: dict[str, Check], folder: Path, sources: Sources, total: int, index: Index, dry_run: bool,
    show: Show, keep: Collection[str] = (), retry_failed: bool = False,
) -> Heard:  # fmt: skip
    """Ask the judges for what they owe on these traces. A dry run asks nobody, writes nothing and says what it would cost.

    `keep`: the checks whose measurements stay in the rows (see `measure_and_judge`).
    `retry_failed`: also for what failed for good.
    `folder` is where judge/ lies or will lie; `sources` gives all traces (`total`, for the display); `index` keeps what is
    measured (of a dry run: a copy of it). Raises RecipeError, StopRunError when a judge refuses every request, LockedError,
    KeyboardInterrupt after Ctrl-C; replies that came before are kept, and the same command goes on from there.
    """
    if recipe is None or not has_judge(checks):
        return Heard(checks, [], [])
    ready = check_judges(recipe, checks)
    names = [name for name, check in ready.items() if isinstance(check, Judge)]
    with show.progress("Filtering for the judge", total) as progress:
        workers = recipe.filter.workers
        found = measure_and_judge(sources(), ready, index, workers, progress.update, keep=[*names, *keep])
        progress.update(total)
    court, told = Court(recipe, judges_run(folder), sources, dry_run, show, retry_failed), []
    for name in names:
        ready[name], summary = _ask(court, name, ready, found.rows)
        told.append(summary)
    said = [(name, row.trace_id, row.judgements[name]) for row in found.rows for name in names]
    return Heard(ready, [digest([name, trace, j.score, j.reason]) for name, trace, j in said], told, found)


def _ask(court: Court, name: str, checks: dict[str, Check], rows: list[Judged]) -> tuple[Judge, JudgeSummary]:
    """Ask one judge: (the check that knows its replies, what it took). Its verdicts go into the rows, for later judges."""
    slots, barred = _parted(rows, name, checks)
    readings, summary = JudgeHarvest(court, name, cast(Judge, checks[name]), slots).hold(len(barred))
    check = cast(Judge, checks[name]).informed(readings, barred)
    for row in rows:
        if "slots" in row.values.get(name, {}):
            row.judgements[name] = check.verdict(row.trace_id, row.values[name])
    tell(summary, court.dry_run, court.show)
    return check, summary


def _conditions(name: str, checks: dict[str, Check]) -> list[str]:
    """The checks that must keep a trace before the judge is asked about it. Raises RecipeError."""
    order = list(checks)
    later = {other for other in order[order.index(name) :] if isinstance(checks[other], Judge)}
    wanted = cast(Judge, checks[name]).only_if
    for other in wanted or ():
        if other not in checks:
            raise RecipeError(f"filter.checks.{name}.only_if: there is no check '{other}' in the recipe.")
        if other in later:
            raise RecipeError(
                f"filter.checks.{name}.only_if: the judge '{other}' is not asked before this one; put its table first."
            )
    return [other for other in order if other not in later] if wanted is None else wanted


def _parted(
    rows: list[Judged], name: str, checks: dict[str, Check]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(keys of the replies that are wanted, the check that removes it for a trace that is not asked about), by trace id."""
    conditions = _conditions(name, checks)
    slots, barred = {}, {}
    for row in rows:
        removed_by = next((c for c in conditions if not checks[c].keeps(row.judgements[c])), None)
        if removed_by is not None:
            barred[row.trace_id] = removed_by
        elif "slots" in row.values.get(name, {}):  # else the check raised an error, and the filter says so
            slots[row.trace_id] = row.values[name]["slots"]
    return slots, barred


def tell(summary: JudgeSummary, dry_run: bool, show: Show) -> None:
    """Say what a judge was, or would be, asked for."""
    who = f"Judge {summary.teacher} (check {summary.check})"
    left_out = (
        f"; {summary.not_asked:,} not asked about, since other checks remove them"
        if summary.not_asked
        else ""
    )
    show.note(f"{who}: {counted(summary.judged, 'trace')} to judge{left_out}.")
    if dry_run:
        show.note(f"{who} would be asked for {counted(summary.asked, 'reply', 'replies')}; nobody was asked.")
        show.table("What they may cost", COLUMNS, table(summary.estimates))
        enough = covered(summary.estimates, summary.budget_usd, summary.spent_usd)
        if enough:
            show.note(enough)
        return
    none = f", {summary.no_verdict:,} without a verdict" if summary.no_verdict else ""
    cost = dollars(None if summary.cost_unknown else summary.spent_usd)
    show.note(
        f"{who}: {summary.wanted - summary.still_owed:,} of {counted(summary.wanted, 'reply', 'replies')} there{none}, "
        f"{summary.asked:,} asked for now. Judging so far: {cost}."
    )
    if summary.over_budget:
        show.note(
            f"The budget of {dollars(summary.budget_usd)} for judging is used up: {summary.still_owed:,} replies are still "
            f"owed, and their traces are UNJUDGED. Raise filter.checks.{summary.check}.budget_usd and filter again; what is "
            "judged stays."
        )
    elif summary.still_owed:
        show.note(
            f"{who} still owes {counted(summary.still_owed, 'reply', 'replies')}; the same command asks again, what is judged "
            "stays."
        )
