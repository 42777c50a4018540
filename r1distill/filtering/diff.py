"""What changed against the filter run before: which traces were gained or lost, and by which check.

In: the files of an earlier filter run (verdicts.jsonl, reasons.jsonl) and the judged rows of this one. Out: counts, and a
few trace ids of each kind to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from r1distill.filtering.funnel import FilterSummary, Parted, reason_of
from r1distill.ledger import read_lines
from r1distill.show import Show, counted

EXAMPLES = 5


class FilterDiff(msgspec.Struct, frozen=True, kw_only=True):
    """A filter run against an earlier one; counts are traces."""

    before: str
    """Folder of the earlier run."""
    gained: int = 0
    """Rejected before, kept now."""
    lost: int = 0
    """Kept before, rejected now."""
    new_kept: int = 0
    """Kept now, not there before."""
    new_rejected: int = 0
    gone: int = 0
    """There before, not now."""
    same: int = 0
    """Kept before and now, or rejected both times;"""
    moved: int = 0
    """so many of them for other or more reasons."""
    chosen: int = 0
    """Training or validation rows now, not so before."""
    unchosen: int = 0
    """Training or validation rows before, not so now."""
    gained_from: dict[str, int] = {}
    """Reasons for which the gained ones were rejected before."""
    lost_to: dict[str, int] = {}
    """Reasons for which the lost ones are rejected now."""
    moved_to: dict[str, int] = {}
    """Reasons for which traces are rejected now that had others before."""
    gained_ids: list[str] = []
    lost_ids: list[str] = []
    """The first few trace ids of each kind."""


class Earlier(NamedTuple):
    """What an earlier filter run said."""

    folder: Path
    traces: set[str]
    rejected: dict[str, list[str]]
    """Reasons by trace id."""
    unused: set[str]
    """Trace ids that are in neither train nor val, for whatever reason."""


class _Id(msgspec.Struct):
    trace_id: str


class _Reason(msgspec.Struct):
    trace_id: str
    rejected: bool
    reasons: list[str]


def read_earlier(folder: Path) -> Earlier | None:
    """What the filter run in `folder` said; None when there is none, or not all of it."""
    verdicts, reasons = folder / "verdicts.jsonl", folder / "reasons.jsonl"
    if not (verdicts.is_file() and reasons.is_file()):
        return None
    ids, why = msgspec.json.Decoder(_Id), msgspec.json.Decoder(_Reason)
    traces = {ids.decode(line).trace_id for _, line in read_lines(verdicts)}
    found = Earlier(folder, traces, {}, set())
    for row in (why.decode(line) for _, line in read_lines(reasons)):
        found.unused.add(row.trace_id)
        if row.rejected:
            found.rejected[row.trace_id] = row.reasons
    return found


def unchanged(summary: FilterSummary) -> FilterDiff:
    """What there is to say of a filter run that was up to date."""
    return FilterDiff(before=summary.folder, same=summary.traces)


def compare(earlier: Earlier, parted: Parted) -> FilterDiff:
    """The rows of this run against the earlier one."""
    counts, gained_from, lost_to, moved_to = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    ids: dict[str, list[str]] = {"gained": [], "lost": []}
    now: set[str] = set()
    for row, names in zip(parted.rows, parted.removed_by, strict=True):
        now.add(row.trace_id)
        kind = _kind(row.trace_id, bool(names), earlier)
        counts[kind] += 1
        if kind == "gained":
            gained_from.update(earlier.rejected[row.trace_id])
        elif kind == "lost":
            lost_to.update(reason_of(name, row) for name in names)
        elif kind == "same" and names:
            reasons, before = [reason_of(name, row) for name in names], earlier.rejected[row.trace_id]
            counts["moved"] += reasons != before
            moved_to.update(reason for reason in reasons if reason not in before)
        if kind in ids and len(ids[kind]) < EXAMPLES:
            ids[kind].append(row.trace_id)
    used = {row.trace_id for row in (*parted.train, *parted.val)}
    used_before = earlier.traces - earlier.unused
    return FilterDiff(
        before=str(earlier.folder), chosen=len(used - used_before), unchosen=len(used_before - used),
        gained=counts["gained"], lost=counts["lost"], new_kept=counts["new kept"],
        new_rejected=counts["new rejected"], same=counts["same"], moved=counts["moved"], gone=len(earlier.traces - now),
        gained_from=_ordered(gained_from), lost_to=_ordered(lost_to), moved_to=_ordered(moved_to),
        gained_ids=ids["gained"], lost_ids=ids["lost"],
    )  # fmt: skip


def _kind(trace_id: str, rejected: bool, earlier: Earlier) -> str:
    if trace_id not in earlier.traces:
        return "new rejected" if rejected else "new kept"
    before = trace_id in earlier.rejected
    return "same" if before == rejected else "lost" if rejected else "gained"


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def tell(diff: FilterDiff, show: Show) -> None:
    """Print a diff for people."""
    parts = (diff.gained, diff.lost, diff.new_kept, diff.new_rejected, diff.gone, diff.chosen, diff.unchosen)
    if not any((*parts, diff.moved)):
        show.note(f"Against {diff.before}: nothing changed, {diff.same:,} traces as before.")
        return
    show.note(
        f"Against {diff.before}: {diff.gained:,} gained, {diff.lost:,} lost, {diff.same:,} as before"
        + (f" ({diff.moved:,} of them rejected for other or more reasons)" if diff.moved else "")
        + _others(
            [(diff.new_kept, "new and kept"), (diff.new_rejected, "new and rejected"), (diff.gone, "gone")]
        )
    )
    if diff.chosen or diff.unchosen:
        show.note(f"Training and validation rows: {diff.chosen:,} more, {diff.unchosen:,} fewer.")
    rows = [("gained", f"{count:,}", reason) for reason, count in diff.gained_from.items()]
    rows += [("lost", f"{count:,}", reason) for reason, count in diff.lost_to.items()]
    rows += [("rejected again", f"{count:,}", reason) for reason, count in diff.moved_to.items()]
    show.table("By reason (a trace may have several)", ("", "traces", "rejected before by / now by"), rows)
    for what, ids in (("Gained", diff.gained_ids), ("Lost", diff.lost_ids)):
        if ids:
            show.note(
                f"{what}, {counted(len(ids), 'trace')} to look at: {', '.join(id_[:12] for id_ in ids)}"
            )


def _others(parts: Iterable[tuple[int, str]]) -> str:
    said = [f"{count:,} {words}" for count, words in parts if count]
    return f", {', '.join(said)}." if said else "."
