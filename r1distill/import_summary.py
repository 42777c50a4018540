"""What an import did, as numbers and as sentences."""

from __future__ import annotations

import msgspec

from r1distill.show import counted


class ImportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    files: int
    traces: int
    """Taken over now."""
    had: int
    """In this run already."""
    failures: int
    """Final failures taken over: their slots are not asked again."""
    wanted: int | None
    """Of the traces taken over now, those that the recipe of this run asks for; None when that can't be told."""
    logprob_files: int
    """Files of log-probabilities taken over."""
    unreadable: list[str]
    """FILE: byte OFFSET of the first rows that are no traces; they stay where they are."""
    unreadable_rows: int
    """How many there are in all."""
    from_files: int = 0
    """Of the traces taken over now, those that files of others held: the filter of this run uses all of them."""
    skipped: int = 0
    """Rows of such files that are no traces."""
    skipped_file: str = ""
    """Where those are listed with file, line and reason."""
    notes: list[str] = []
    """What else is to be told of such files."""
    dry_run: bool = False


def lines(summary: ImportSummary) -> list[str]:
    """What is to be told of an import beyond its files, as sentences."""
    told = list(summary.notes)
    told += [f"{place}: no trace of ours; left out." for place in summary.unreadable]
    if more := summary.unreadable_rows - len(summary.unreadable):
        told.append(f"... and {more:,} more rows that are no trace of ours.")
    own = summary.traces - summary.from_files
    if own and summary.wanted is not None:
        why = "" if summary.wanted else ": other teacher, model, template, problems or sampling"
        told.append(f"Wanted by this recipe: {summary.wanted:,} of {counted(own, 'trace')}{why}.")
    if summary.from_files:
        told.append(f"From files of others: {counted(summary.from_files, 'trace')}; filter uses all of them.")
    return told
