"""Traces that came into a run from files of others: how they are told from harvested ones, and where their problems are.

Nobody knows what their teacher was asked with, so that their slot can't be made as `slot_of` does: it is made of their id, and
no recipe ever owes it. Their problems lie in prompts-files-*.jsonl of the run folder, beside those of the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from r1distill.importers.readers import lines_of
from r1distill.records import AnswerKind, Prompt, Trace, digest


def imported_slot(trace_id: str) -> str:
    """The slot of a trace from a file of others."""
    return digest({"imported": trace_id})


def is_imported(slot: str, trace_id: str) -> bool:
    """True for a trace that came from a file of others."""
    return slot == imported_slot(trace_id)


def problem_of(trace: Trace, kind: AnswerKind = "math") -> Prompt:
    """The problem as far as the trace itself knows it: the last question, and no reference."""
    question = next((m.content for m in reversed(trace.messages) if m.role == "user"), "")
    return Prompt(trace.prompt_id, question, answer_kind=kind)


def run_folder_of(path: Path) -> Path | None:
    """The run folder that a file lies in, by the name of its folder."""
    folder = path.resolve().parent
    if folder.name == "traces":
        return folder.parent
    return folder.parent.parent if folder.parent.name == "filter" else None


def imported_prompts(run_folder: Path) -> Iterator[Prompt]:
    """The problems that came into a run folder with traces from files, as they are stored (see imported_problems.py)."""
    for path in sorted(run_folder.glob("prompts-files-*.jsonl")):
        yield from saved_prompts(path)


def saved_prompts(path: Path) -> Iterator[Prompt]:
    """The problems in a file of ours; none when it is not there, and without rows that are broken."""
    decoder = msgspec.json.Decoder(Prompt)
    for line in lines_of(path) if path.is_file() else ():
        try:
            yield decoder.decode(line.data)
        except (ValueError, RecursionError):
            continue
