"""The card of a trained student: what it is, who taught it on what, how, and what licences ask for. Markdown.

In: the recipe, a training's summary, rows by author, the checks of the filter result, the settings that were used, and scores
if there are any. Out: README.md in the form that model cards have on the Hugging Face hub
(https://huggingface.co/docs/hub/model-cards). An evaluation that comes later puts its scores into the card (`put_scores`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from r1distill.ledger import write_atomic
from r1distill.recipe import Recipe
from r1distill.recipe_sections import TeacherSection
from r1distill.show import duration, plain
from r1distill.teachers.provider_row import matches
from r1distill.teachers.providers import MODEL_NOTES, provider, terms
from r1distill.train_summary import TrainSummary
from r1distill.version import __version__

SCORES = "## Scores"
CHECKS_UNKNOWN = "Which checks the traces passed is not known."
LIBRARY = {"lora": "peft", "qlora": "peft", "full": "transformers"}
LLAMA_NAME = (
    '**Its name:** licences of Llama 3.1 to 3.3 want that a model which is distributed has a name that begins with "Llama", '
    'shows "Built with Llama" and comes with a copy of the licence (https://www.llama.com/llama3_1/license/).'
)


class Author(NamedTuple):
    """Who wrote a trace, as its row says."""

    teacher: str
    """Its name in the recipe, or what the imported traces call it."""
    model: str = ""
    answered: str = ""
    """What the endpoint said that answered; "" when it said nothing."""


def model_card(
    recipe: Recipe,
    summary: TrainSummary,
    rows_by_author: Mapping[Author, int],
    checks: Sequence[str] = (),
    used: Mapping[str, Any] | None = None,
    scores: Sequence[tuple[str, str]] = (),
) -> str:
    """The card's text; `scores` are lines (what, score with its interval). Nothing in it is a path of this machine.

    `used` are the settings with all defaults (objectives/settings.resolved); without them, those of the recipe.
    """
    base = base_name(summary.base)
    parts = [
        _head(summary, base),
        f"A student of {cell(base)}, trained by r1distill {__version__} on {summary.rows:,} reasoning traces. It thinks between "
        "`<think>` and `</think>`, then answers. Serve it with the chat template in "
        "this folder: it is the one that was trained with.",
        "## Teachers\n" + _teachers(recipe, rows_by_author),
        "## Licences and terms\n" + _licences(recipe, base, rows_by_author),
        "## Data\n" + _data(recipe, summary, checks),
        "## Training\n" + _training(recipe, summary, used),
        f"{SCORES}\n{_scores(scores)}",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def put_scores(path: Path, scores: Sequence[tuple[str, str]]) -> None:
    """Put scores into a card that is there already; nothing happens where there is none. Raises StorageError."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, found, _ = text.partition(f"\n{SCORES}\n")  # the last section
    if found:
        write_atomic(path, f"{before}{found}{_scores(scores)}\n".encode())


def base_name(base: str) -> str:
    """The base as a card may say it: a hub name as it is, of a path the last part only."""
    if base == "embedded":
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    # A hub name has one slash at most; what is longer, or starts elsewhere, is a path of this machine.
    is_path = (
        base.startswith((".", "/", "~"))
        or base.count("/") > 1
        or "\\" in base
        or base.lower().endswith(".gguf")
    )
    return base.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_path else base


def is_llama(*names: str) -> bool:
    """Whether one of these models is a Llama or was made from one."""
    return any("llama" in name.lower() for name in names)


def cell(text: str) -> str:
    """Text of others as one cell of a table: no bars, no line breaks, no markup, no control characters."""
    text = " ".join(plain(text).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _head(summary: TrainSummary, base: str) -> str:
    lines = ["---", f"library_name: {LIBRARY[summary.method]}", "pipeline_tag: text-generation"]
    if "/" in base:
        lines.append(f"base_model: {json.dumps(base)}")
    lines += ["tags:", "- reasoning-distillation", "- r1distill", "---"]
    return "\n".join([*lines, f"# {cell(base.rpartition('/')[2])}, distilled"])


def _teachers(recipe: Recipe, rows_by_author: Mapping[Author, int]) -> str:
    lines = ["| teacher | rows | model | terms |", "|---|---|---|---|"]
    for author, count in sorted(rows_by_author.items()):
        said = cell(_terms(_section_of(recipe, author), author)) or "not known here; look them up"
        lines.append(f"| {cell(author.teacher)} | {count:,} | {cell(_model(recipe, author))} | {said} |")
    return "\n".join(lines) if rows_by_author else "The traces don't say who wrote them."


def _section_of(recipe: Recipe, author: Author) -> TeacherSection | None:
    """The recipe's teacher that wrote the traces; imported ones may have the name of another."""
    section = recipe.teacher.get(author.teacher)
    if section is None or not author.model or not section.model:
        return section
    # The traces of local weights say file name and digest.
    local = provider(section.provider).kind != "http" and "@" in author.model
    return section if local or author.model == section.model else None


def _model(recipe: Recipe, author: Author) -> str:
    section = _section_of(recipe, author)
    if section is None:
        return base_name(author.model) if author.model else "unknown"
    own = str(section.model or section.provider)
    if provider(section.provider).kind != "http":
        return base_name(own)
    answered = author.answered.rpartition("/")[2]
    return f"{own} ({answered} answered)" if answered and answered not in own else own


def _terms(section: TeacherSection | None, author: Author) -> str:
    """What the terms of the teacher's host and the licences of the models named say of training on outputs."""
    names = [author.teacher, author.model, author.answered]
    notes, found = list(MODEL_NOTES), []
    if section is not None:
        row, model = provider(section.provider), str(section.model)
        base_url = section.base_url or row.base_url
        names.append(model)
        notes = [*row.notes, *notes]
        found = [terms(str(base_url), model)] if base_url else []
    found += [note.text for note in notes if any(name and matches(name, note.models) for name in names)]
    return " ".join(text for text in found if text)


def _licences(recipe: Recipe, base: str, rows_by_author: Mapping[Author, int]) -> str:
    lines = [f"The licence of {cell(base)} covers this student too; look it up there and name it here."]
    # The last part: folders on the way to a file may be called llama.cpp.
    named = [name.rpartition("/")[2] for author in rows_by_author for name in author]
    if is_llama(base, *named, *(str(section.model) for section in recipe.teacher.values())):
        lines.append(LLAMA_NAME)
    return "\n\n".join(lines)


def _data(recipe: Recipe, summary: TrainSummary, checks: Sequence[str]) -> str:
    passed = f"Traces passed these checks: {cell(', '.join(checks))}." if checks else CHECKS_UNKNOWN
    source = recipe.prompts.hf if recipe.prompts is not None and recipe.prompts.hf else None
    problems = f"Problems: {cell(source)} on the Hugging Face hub. " if source else ""
    left_out = (
        f"{summary.rows_dropped_too_long:,} were too long, {summary.rows_dropped_control_tokens:,} spelled control tokens, "
        f"{summary.rows_dropped_changed:,} would have been changed by the tokenizer, "
        f"{summary.rows_dropped_no_target:,} had nothing to learn"
    )
    return (
        f"{problems}{passed} {summary.rows:,} rows were trained on, "
        f"{summary.validation_rows:,} validated with; of the rest {left_out}."
        + f" {summary.rows_cut:,} were cut."
        * bool(summary.rows_cut)
    )


def _training(recipe: Recipe, summary: TrainSummary, used: Mapping[str, Any] | None) -> str:
    settings = recipe.train.model_dump(mode="json") if used is None else used
    rows = [
        (key, json.dumps(value, ensure_ascii=False)) for key, value in settings.items() if value is not None
    ]
    rows += [
        ("processes", f"{summary.processes:,}"),
        ("steps", f"{summary.steps:,}"),
        ("epochs", f"{summary.epochs:g}"),
        ("labelled tokens", f"{summary.labelled_tokens:,}"),
        ("trained parameters", f"{summary.trainable_parameters:,} of {summary.parameters:,}"),
        ("loss, first and last tenth", f"{_figure(summary.first_loss)}, {_figure(summary.last_loss)}"),
        ("validation loss", _figure(summary.validation_loss)),
        ("time", duration(summary.elapsed_s)),
    ]
    lines = [f"| {cell(key)} | {cell(value)} |" for key, value in rows]
    return "\n".join(["| setting | value |", "|---|---|", *lines, "", "Losses are nats per labelled token."])


def _scores(scores: Sequence[tuple[str, str]]) -> str:
    if not scores:
        return (
            "Not evaluated when this card was written: `r1distill evaluate` scores base, teacher and student."
        )
    return "\n".join(["| what | score |", "|---|---|", *(f"| {cell(a)} | {cell(b)} |" for a, b in scores)])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
