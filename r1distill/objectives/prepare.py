"""Rows of a filter result + settings -> what a training needs, with every row that is left out counted.

In: train.jsonl and val.jsonl as Examples, the recipe's [train], a Student. Out: a Job for sft.py. Settings are
checked first, since loading a student takes long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from r1distill.errors import NothingKeptError
from r1distill.ledger import storage_errors
from r1distill.objectives import settings
from r1distill.objectives.adapter_gguf import write_gguf_adapter
from r1distill.objectives.render import Rendered, Rendering, format_of, marked, render
from r1distill.objectives.sft import Job
from r1distill.objectives.students import Student, load_tokenizer, materialise, position_limit
from r1distill.recipe_sections import TrainSection
from r1distill.records import Example
from r1distill.show import Show


class Ready(NamedTuple):
    """A job, and what was left out of train.jsonl on the way (numbers of rows)."""

    job: Job
    too_long: int
    no_target: int
    control_tokens: int
    longest_tokens: int
    """Length of the longest row that is trained on."""


def prepare(
    section: TrainSection,
    student: Student,
    train: Sequence[Example],
    validation: Sequence[Example],
    folder: Path,
    show: Show,
) -> Ready:
    """Check the settings, load the tokenizer, render the rows, show one of them.

    Raises RecipeError, InputError, StorageError, NothingKeptError (no row can be trained on).
    """
    settings.check(section.lora, section.sft)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    source = materialise(student, show)
    tokenizer = load_tokenizer(source)
    limit = min(settings.max_length(section.sft), position_limit(source))
    reason = "train.sft.max_length" if limit < position_limit(source) else "the student has no more positions"
    rendered = render(tokenizer, train)
    rows = fitting(rendered.rows, limit)
    too_long = len(rendered.rows) - len(rows)
    _say_dropped(rendered, too_long, f"{limit:,} tokens ({reason})", show)
    if not rows:
        raise NothingKeptError(
            f"None of the {len(train):,} rows can be trained on: {too_long:,} are longer than {limit:,} tokens "
            f"({reason}), {rendered.control_tokens:,} hold control tokens, {rendered.no_target:,} have no "
            "target."
        )
    _show_row(tokenizer, rows[0], folder, show)
    job = Job(
        student=source,
        base=student.base if student.kind == "hub" else str(source),
        tokenizer=tokenizer,
        end_id=format_of(tokenizer).end_id,
        rows=rows,
        validation=fitting(render(tokenizer, validation).rows, limit),
        lora=section.lora,
        sft=section.sft,
        seed=section.seed,
        folder=folder,
    )
    return Ready(
        job, too_long, rendered.no_target, rendered.control_tokens, max(len(row.input_ids) for row in rows)
    )


def fitting(rows: Sequence[Rendered], limit_tokens: int) -> list[Rendered]:
    """The rows of at most so many tokens; none is ever cut."""
    return [row for row in rows if len(row.input_ids) <= limit_tokens]


def write_gguf(student: Student, folder: Path, show: Show) -> Path | None:
    """adapter.gguf beside the adapter of a GGUF student; None (and a note) where llama.cpp can't hold it."""
    if student.kind != "gguf":
        return None
    try:
        with storage_errors(folder):
            return write_gguf_adapter(folder / "adapter", student.path, folder / "adapter.gguf")
    except ValueError as error:
        show.note(f"The adapter can't be served by llama.cpp: {error}")
        return None


def _say_dropped(rendered: Rendering, too_long: int, limit: str, show: Show) -> None:
    if too_long:
        show.note(f"{too_long:,} rows are longer than {limit} and are left out whole, not cut.")
    if rendered.control_tokens:
        seen = ", ".join(f"{text} in {count:,}" for text, count in rendered.control_seen.items())
        show.note(
            f"{rendered.control_tokens:,} rows spell control tokens of the student and are left out: {seen}."
        )
    if rendered.no_target:
        show.note(f"{rendered.no_target:,} rows have no target and are left out.")


def _show_row(tokenizer: Any, row: Rendered, folder: Path, show: Show) -> None:
    """Show one row as the student sees it, and keep it in example.txt."""
    head = f"Trace {row.trace_id}, {len(row.input_ids):,} tokens; trained on what stands between ⟦ and ⟧:"
    text = f"{head}\n{marked(tokenizer, row)}\n"
    with storage_errors(folder):
        (folder / "example.txt").write_text(text, encoding="utf-8", errors="replace")
    show.note(text)
