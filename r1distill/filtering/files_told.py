"""What is told about trace files once they were read, as sentences: what was skipped, how rows were read, why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from r1distill.importers.scratch import Skipped
from r1distill.importers.table import QUESTION, REPLY
from r1distill.path_names import shown

QUIET = ("plain", "r1distill")
"""Formats that need no mention."""


def notes(skipped: Skipped, requests: int, rows: Mapping[str, int], listed_in: str) -> list[str]:
    """Of rows that were skipped, prompts that were read beside the answers, and how many `rows` each format had."""
    told = []
    if len(skipped):
        told.append(_skipped_sentence(skipped, listed_in))
    if requests:
        told.append(f"{requests:,} prompts were read from files that lie beside the answers.")
    loud = {name: count for name, count in rows.items() if name not in QUIET}
    if loud:
        counts = ", ".join(f"{name} ({count:,} rows)" for name, count in loud.items())
        told.append(f"Read as {counts}; --format or --map says otherwise.")
    return told


def _skipped_sentence(skipped: Skipped, listed_in: str) -> str:
    first = next(iter(skipped))
    has_parts = len(skipped) > skipped.lines
    parts = f", in whole or in part ({len(skipped):,} parts)," if has_parts else ""
    return (
        f"{skipped.lines:,} lines can't be read as traces{parts} and are listed in {listed_in}; "
        f"the first is {shown(first['file'])}:{first['line']} ({first['reason']})."
    )


def no_trace_sentence(
    files: list[Path], skipped: Skipped, requests: int, seen_fields: Counter[str], is_mapped: bool
) -> str:
    """For files that hold no trace at all: what was seen instead, and what a row needs; of rows that nobody could decode, and
    of rows that --map describes, only the first reason.
    """
    names = ", ".join(shown(path) for path in files)
    first = next(iter(skipped), None)
    if first is None:
        return f"No trace can be read from {names}: {_why_nothing(files, requests)}."
    said = f"No trace can be read from {names} (line {first['line']}: {first['reason']})"
    if not seen_fields or is_mapped:
        return f"{said}."
    fields = ", ".join(name for name, _ in seen_fields.most_common(20))
    return (
        f"{said}; the fields seen are: {fields}. A row needs a question "
        f"({', '.join(QUESTION)} or messages) and an answer ({', '.join(REPLY)}, or reasoning and answer); for other "
        "names use --map question=COLUMN,answer=COLUMN."
    )


def _why_nothing(files: list[Path], requests: int) -> str:
    """Of files without any row that was skipped."""
    if requests:
        return "there are only requests in it, name the file with their answers too"
    if all(path.stat().st_size == 0 for path in files):
        return "the file is empty" if len(files) == 1 else "the files are empty"
    return "the file holds no row" if len(files) == 1 else "the files hold no row"
