"""What a filter run comes to: who was removed by which check, counted and put into words."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from r1distill.checks.base import Check
from r1distill.measure import Judged
from r1distill.recipe_sections import SelectSection
from r1distill.select import select, validation_prompts
from r1distill.show import Show, counted


class FunnelRow(msgspec.Struct, frozen=True):
    """What one check did to the whole set; counts are traces. Every check judges every trace."""

    check: str
    judged: int
    """passed + failed"""
    passed: int
    failed: int
    unjudged: int
    """Can't tell: no reference, timed out, ..."""
    removed: int
    """Failed, or unjudged with the policy "drop"."""
    removed_only_by_this: int
    """Would be kept without this check."""


class FilterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a filter run comes to; counts are traces unless the name says otherwise."""

    stage_id: str
    folder: str
    traces: int
    kept: int = 0
    """Passed every check; those over per_prompt among them are in neither train nor val."""
    rejected: int = 0
    train: int = 0
    val: int = 0
    not_selected: int = 0
    """Kept, but over per_prompt."""
    pairs: int = 0
    """Preference pairs: a right answer over a wrong one to the same problem."""
    prompts: int = 0
    """Problems of the recipe, or of the files."""
    prompts_covered: int = 0
    """Problems with a row in train or val."""
    from_earlier_recipes: int = 0
    """Traces in the run that today's recipe does not ask for; not used unless filter.traces = "all"."""
    unknown_problem: int = 0
    """Traces of earlier recipes whose problem is not known any more; never used."""
    unreadable: int = 0
    """Lines that could not be read as a trace; listed in skipped.jsonl (files) or the notes (runs)."""
    unjudged: int = 0
    """Traces that at least one check could not judge."""
    measured: int = 0
    """Measurements made now (with dry_run: to be made)."""
    cached: int = 0
    """Measurements found from earlier runs."""
    funnel: list[FunnelRow] = []
    reasons: dict[str, int] = {}
    """Traces that each reason removes; a trace may have several."""
    notes: list[str] = []
    """Sentences that a person should read: errors of own checks, unreadable lines."""
    diff: Any = None
    """Against the filter run before, where that was asked for (a FilterDiff)."""
    up_to_date: bool = False
    """True: nothing had to be done, this is the summary of the earlier run."""
    dry_run: bool = False
    elapsed_s: float = 0.0


class Parted(NamedTuple):
    """The rows of a filter run, parted."""

    rows: list[Judged]
    removed_by: list[list[str]]
    """For each row the checks that remove it; [] for a kept one."""
    kept: list[Judged]
    train: list[Judged]
    val: list[Judged]


def part(rows: list[Judged], checks: dict[str, Check], settings: SelectSection) -> Parted:
    """Who is kept, and who of them is selected for training and for validation."""
    removed_by = [removing(row, checks) for row in rows]
    kept = [row for row, names in zip(rows, removed_by, strict=True) if not names]
    chosen = select(kept, settings)
    held = validation_prompts((row.prompt_id for row in chosen), settings)
    train = [row for row in chosen if row.prompt_id not in held]
    return Parted(rows, removed_by, kept, train, [row for row in chosen if row.prompt_id in held])


def removing(row: Judged, checks: dict[str, Check]) -> list[str]:
    """The checks that remove a trace, in their order."""
    return [name for name, judgement in row.judgements.items() if not checks[name].keeps(judgement)]


def reason_of(name: str, row: Judged) -> str:
    """The countable reason of one verdict: the check's name and its words."""
    return f"{name}: {row.judgements[name].reason}"


def funnel(parted: Parted, checks: dict[str, Check]) -> list[FunnelRow]:
    """One row per check, in their order."""
    table = []
    for name in checks:
        outcomes = Counter(row.judgements[name].outcome for row in parted.rows)
        removed = sum(name in names for names in parted.removed_by)
        alone = sum(names == [name] for names in parted.removed_by)
        passed, failed, unjudged = outcomes["PASS"], outcomes["FAIL"], outcomes["UNJUDGED"]
        table.append(FunnelRow(name, passed + failed, passed, failed, unjudged, removed, alone))
    return table


def reasons(parted: Parted) -> dict[str, int]:
    """How many traces each reason removes, the most frequent first."""
    pairs = zip(parted.rows, parted.removed_by, strict=True)
    counts = Counter(reason_of(name, row) for row, names in pairs for name in names)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def unjudged_count(parted: Parted) -> int:
    """Traces that at least one check could not judge."""
    return sum(any(j.outcome == "UNJUDGED" for j in row.judgements.values()) for row in parted.rows)


def print_summary(summary: FilterSummary, show: Show) -> None:
    """The funnel as a table, then what is left, then the notes."""
    columns = ("check", "passed", "failed", "unjudged", "removed only by this")
    rows = [(r.check, r.passed, r.failed, r.unjudged, r.removed_only_by_this) for r in summary.funnel]
    show.table(f"{summary.traces:,} traces", columns, rows)
    for note in summary.notes:
        show.note(note)
    if summary.from_earlier_recipes:
        show.note(
            f'{summary.from_earlier_recipes:,} traces of earlier recipes are not used (filter.traces = "all" uses them).'
        )
    show.note(
        f"{summary.kept:,} of {summary.traces:,} traces kept, from {summary.prompts_covered:,} of {summary.prompts:,} "
        f"problems: {summary.train:,} training and {summary.val:,} validation rows in {summary.folder}"
    )
    if summary.pairs:
        show.note(
            f"{counted(summary.pairs, 'preference pair')} (a right answer over a wrong one) in pairs.jsonl."
        )


def nothing_kept_sentence(summary: FilterSummary) -> str:
    """Why nothing is left: which check removed how many."""
    culprits = sorted((row for row in summary.funnel if row.removed), key=lambda row: -row.removed)
    listed = ", ".join(f"{row.check} removed {row.removed:,}" for row in culprits)
    first = next(iter(summary.reasons), "")
    frequent = f"; the most frequent reason is '{first}' ({summary.reasons[first]:,} traces)" if first else ""
    return (
        f"No trace is left after filtering: of {summary.traces:,} traces {listed}{frequent}. "
        f"Every reason is in {summary.folder}/reasons.jsonl."
    )
