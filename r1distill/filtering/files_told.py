"""What is told about trace files once they were read, as sentences: what was skipped, how rows were read, why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from r1distill.importers.scratch import Skipped
from r1distill.importers.table import QUESTION, REPLY

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
        f"the first is {first['file']}:{first['line']} ({first['reason']})."
    )


def no_trace_sentence(files: list[Path], skipped: Skipped, seen_fields: Counter[str]) -> str:
    """For files that hold no trace at all: what was seen instead, and what a row needs."""
    names = ", ".join(str(path) for path in files)
    fields = ", ".join(name for name, _ in seen_fields.most_common(20)) or "no JSON object at all"
    first = next(iter(skipped), None)
    reason = f" (line {first['line']}: {first['reason']})" if first else ""
    return (
        f"No trace can be read from {names}{reason}; the fields seen are: {fields}. A row needs a question "
        f"({', '.join(QUESTION)} or messages) and an answer ({', '.join(REPLY)}, or reasoning and answer); for other "
        "names use --map question=COLUMN,answer=COLUMN."
    )
