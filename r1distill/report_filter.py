"""What the report shows of a filter run: examples, lengths, overlaps, references that may be wrong.

In: a run, the folder and the summary of its filter run. Out: plain records that the page is made from; texts are cut here and
escaped there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from r1distill.filtering.funnel import mix_sentence
from r1distill.filtering.mixing import Mix
from r1distill.filtering.suspects import SuspectRow
from r1distill.imported_problems import imported_problems
from r1distill.ledger import read_lines
from r1distill.records import Prompt, Trace
from r1distill.run import Run

EXAMPLES_KEPT = 3
MOST_REASONS = 12
"""So many reasons get an example each, the most frequent first."""
MOST_SUSPECTS = 20
"""So many references that may be wrong are shown."""
SHOWN_CHARS = 3000
"""So much of an example's question, reasoning and answer is shown."""


class ShownTrace(msgspec.Struct, frozen=True):
    """An example as the page shows it."""

    title: str
    question: str
    reference: str | None
    text: str
    """Reasoning, a line, answer."""


class Overlaps(msgspec.Struct, frozen=True):
    """How many traces each pair of checks removes together, as a square table."""

    checks: list[str]
    """Those that remove a trace together with another one."""
    rows: list[tuple[str, list[int]]]
    """A check, and for each of `checks` how many traces both remove (for itself: how many it removes)."""


class Filtered(msgspec.Struct):
    """What the page shows of the traces of a filter run; lengths are completion tokens, where they are known."""

    kept: list[ShownTrace] = []
    rejected: list[ShownTrace] = []
    kept_lengths: list[int] = []
    rejected_lengths: list[int] = []
    suspects: list[SuspectRow] = []
    """The first few of the references that may be wrong."""


def examples(run: Run, stage: Path) -> Filtered:
    """A few traces to look at, kept ones of different problems and one per reason of rejection; the lengths of all."""
    prompts = imported_problems(run.folder) | {prompt.id: prompt for prompt in run.prompts()}
    reasons = {row["trace_id"]: row["reasons"] for row in rows_of(stage / "reasons.jsonl") if row["rejected"]}
    counts = Counter(reason for found in reasons.values() for reason in found)
    wanted = [
        reason for reason, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_REASONS]
    ]
    shown, seen = Filtered(), set[str]()
    for trace in _traces(stage / "kept.jsonl"):
        shown.kept_lengths += _length(trace)
        if len(seen) < EXAMPLES_KEPT and trace.prompt_id not in seen:
            seen.add(trace.prompt_id)
            shown.kept.append(_shown("kept", trace, prompts))
    by_reason: dict[str, ShownTrace] = {}
    for trace in _traces(stage / "rejected.jsonl"):
        shown.rejected_lengths += _length(trace)
        for reason in reasons.get(trace.id, []):
            if reason in wanted and reason not in by_reason:
                by_reason[reason] = _shown(f"{reason} ({counts[reason]:,} traces)", trace, prompts)
    shown.rejected = [by_reason[reason] for reason in wanted if reason in by_reason]
    shown.suspects = [
        msgspec.convert({**row, "question": _cut(row["question"])}, SuspectRow)
        for row in islice(rows_of(stage / "suspect_references.jsonl"), MOST_SUSPECTS)
    ]
    return shown


def overlaps_of(summary: dict[str, Any]) -> Overlaps | None:
    """The square table of a filter summary; None when no two checks remove the same trace."""
    both = {(p["first"], p["second"]): p["removed_by_both"] for p in summary.get("overlap", [])}
    both |= {(second, first): count for (first, second), count in both.items()}
    removed = {row["check"]: row["removed"] for row in summary["funnel"]}
    checks = [name for name in removed if any(name == first for first, _ in both)]
    rows = [
        (name, [removed[name] if name == other else both.get((name, other), 0) for other in checks])
        for name in checks
    ]
    return Overlaps(checks, rows) if rows else None


def mixture_of(summary: dict[str, Any] | None) -> str:
    """A sentence on the mixture of long and short traces; "" where there is none."""
    mix = (summary or {}).get("mix")
    return mix_sentence(msgspec.convert(mix, Mix)) if mix else ""


def _traces(path: Path) -> Iterator[Trace]:
    decoder = msgspec.json.Decoder(Trace)
    for _, line in read_lines(path):
        yield decoder.decode(line)


def _length(trace: Trace) -> list[int]:
    return [] if trace.usage.completion_tokens is None else [trace.usage.completion_tokens]


def _shown(title: str, trace: Trace, prompts: dict[str, Prompt]) -> ShownTrace:
    prompt = prompts.get(trace.prompt_id)
    question = prompt.question if prompt else trace.messages[-1].content if trace.messages else ""
    text = "\n———\n".join(part for part in (trace.reasoning, trace.answer) if part)
    return ShownTrace(title, _cut(question), prompt.answer if prompt else None, _cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + " …"


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file; none when it is not there."""
    for _, line in read_lines(path) if path.exists() else ():
        yield msgspec.json.decode(line)
