"""What a filter run comes to: who was removed by which check, counted and put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import msgspec

from r1distill.checks.base import Check
from r1distill.filtering.judged import Judged
from r1distill.filtering.mixing import Mix
from r1distill.filtering.select import select, validation_prompts
from r1distill.recipe_sections import SelectSection
from r1distill.records import Prompt
from r1distill.show import Show, counted

NAME = "curated traces"
"""What a set of traces is called that no recipe gives a name."""
MOST_SHOWN = 5
"""So many overlaps, or reasons of not being selected, are printed."""


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


class Overlap(msgspec.Struct, frozen=True):
    """Two checks, in their order, and how many traces both remove."""

    first: str
    second: str
    removed_by_both: int


class FilterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a filter run comes to; counts are traces unless the name says otherwise."""

    stage_id: str
    folder: str
    traces: int
    kept: int = 0
    """Passed every check; those that were not selected are in neither train nor val."""
    rejected: int = 0
    train: int = 0
    val: int = 0
    not_selected: int = 0
    """Kept, but over per_prompt or a cap."""
    not_selected_reasons: dict[str, int] = {}
    """Why, the most frequent first."""
    mix: Mix | None = None
    """The lengths of what was chosen, with select.long_share."""
    pairs: int = 0
    """Preference pairs: a right answer over a wrong one to the same problem."""
    pairs_length_ratio: float | None = None
    """The wrong answers' length as a multiple of the right ones' (median over the pairs): near 1 where length tells little."""
    suspect_references: int = 0
    """Problems where most samples agree with each other and not with the reference: suspect_references.jsonl."""
    parquet: bool = False
    """train, val and pairs are there as Parquet files, too."""
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
    overlap: list[Overlap] = []
    """Pairs of checks that remove the same traces, the most frequent first; pairs without one are left out."""
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
    left_out: dict[int, str]
    """Why a kept row is in neither train nor val, by id(row)."""
    mix: Mix | None


def part(
    rows: list[Judged], checks: dict[str, Check], settings: SelectSection, problems: Sequence[Prompt]
) -> Parted:
    """Who is kept, and who of them is selected for training and for validation; `problems` by their number in the set."""
    removed_by = [removing(row, checks) for row in rows]
    kept = [row for row, names in zip(rows, removed_by, strict=True) if not names]
    chosen, left_out, mix = select(kept, settings, checks, problems)
    held = validation_prompts((row.prompt_id for row in chosen), settings)
    train = [row for row in chosen if row.prompt_id not in held]
    val = [row for row in chosen if row.prompt_id in held]
    return Parted(rows, removed_by, kept, train, val, left_out, mix)


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
    return _ordered(Counter(reason_of(name, row) for row, names in pairs for name in names))


def not_selected_reasons(parted: Parted) -> dict[str, int]:
    """How many kept traces were not selected for which reason, the most frequent first."""
    return _ordered(Counter(parted.left_out.values()))


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def overlap(parted: Parted) -> list[Overlap]:
    """How many traces two checks remove together, for all pairs of checks that have any, the most frequent first."""
    counts = Counter(pair for names in parted.removed_by for pair in combinations(names, 2))
    return [
        Overlap(*pair, count) for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def unjudged_count(parted: Parted) -> int:
    """Traces that at least one check could not judge."""
    return sum(any(j.outcome == "UNJUDGED" for j in row.judgements.values()) for row in parted.rows)


def print_summary(summary: FilterSummary, show: Show) -> None:
    """The funnel as a table, then what is left, then the notes."""
    columns = ("check", "passed", "failed", "unjudged", "removed only by this")
    rows = [(r.check, r.passed, r.failed, r.unjudged, r.removed_only_by_this) for r in summary.funnel]
    show.table(f"{summary.traces:,} traces", columns, rows)
    if summary.overlap:
        show.note(_overlap_sentence(summary.overlap))
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
    for reason, count in list(summary.not_selected_reasons.items())[:MOST_SHOWN]:
        show.note(f"Not selected: {counted(count, 'kept trace')} ({reason}).")
    if summary.mix is not None:
        show.note(mix_sentence(summary.mix))
    if summary.pairs:
        show.note(pairs_sentence(summary))
    if summary.suspect_references:
        show.note(suspects_sentence(summary.suspect_references))


def _overlap_sentence(pairs: list[Overlap]) -> str:
    """The largest overlaps in one line."""
    told = ", ".join(f"{p.first} and {p.second} {p.removed_by_both:,}" for p in pairs[:MOST_SHOWN])
    more = len(pairs) - MOST_SHOWN
    rest = f" and {counted(more, 'more pair')}" if more > 0 else ""
    return f"Removed by two checks at once: {told}{rest}."


def mix_sentence(mix: Mix) -> str:
    """What a mixture of long and short traces has come to."""
    parts = [
        f"{count:,} {what}" + (f" (median {tokens:,.0f} tokens)" if tokens is not None else "")
        for what, count, tokens in (
            ("long", mix.long, mix.long_median_tokens),
            ("short", mix.short, mix.short_median_tokens),
        )
    ]
    rest = f", {mix.without_choice:,} of problems without a choice" if mix.without_choice else ""
    return f"Mixture: {' and '.join(parts)} traces{rest}; tokens by {mix.unit}."


def pairs_sentence(summary: FilterSummary) -> str:
    """How many preference pairs there are, and how far length tells right from wrong."""
    ratio = summary.pairs_length_ratio
    length = f"; the wrong answer is {ratio:.2f} times as long (median)" if ratio is not None else ""
    return f"{counted(summary.pairs, 'preference pair')} (a right answer over a wrong one) in pairs.jsonl{length}."


def suspects_sentence(count: int) -> str:
    """That references may be wrong, and where they are listed."""
    return (
        f"{counted(count, 'reference')} may be wrong (most samples agree with each other, not with the reference): "
        "see suspect_references.jsonl."
    )


def nothing_kept_sentence(summary: FilterSummary) -> str:
    """Why nothing is left to train on: which check removed how many, or what the selection left out."""
    if summary.kept:
        listed = ", ".join(
            f"{why}: {n:,}" for why, n in list(summary.not_selected_reasons.items())[:MOST_SHOWN]
        )
        return (
            f"No trace is left to train on: {summary.kept:,} of {summary.traces:,} traces passed every check, and the "
            f"selection took none of them ({listed}); see [filter.select]."
        )
    culprits = sorted((row for row in summary.funnel if row.removed), key=lambda row: -row.removed)
    listed = ", ".join(f"{row.check} removed {row.removed:,}" for row in culprits)
    first = next(iter(summary.reasons), "")
    frequent = f"; the most frequent reason is '{first}' ({summary.reasons[first]:,} traces)" if first else ""
    return (
        f"No trace is left after filtering: of {summary.traces:,} traces {listed}{frequent}.{_cure(summary)} "
        f"Every reason is in {summary.folder}/reasons.jsonl."
    )


def _cure(summary: FilterSummary) -> str:
    """What to change where a check removes all traces since it can't judge them."""
    blind = [row.check for row in summary.funnel if row.removed == row.unjudged == summary.traces]
    tables = " and ".join(f"[filter.checks.{name}]" for name in blind)
    return (
        f' {" and ".join(blind)} can\'t judge any of them: unjudged = "keep" in {tables} lets them pass.'
        if blind
        else ""
    )
