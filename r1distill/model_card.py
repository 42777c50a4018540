"""The card of a trained student: what it is, who taught it on what, how, and what licences ask for. Markdown.

In: the recipe, a training's summary, the number of rows by teacher, and scores if there are any. Out: README.md in the form
that model cards have on the Hugging Face hub (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from r1distill.recipe import Recipe
from r1distill.show import duration, plain
from r1distill.teachers.provider_row import matches
from r1distill.teachers.providers import MODEL_NOTES, provider, terms
from r1distill.train_summary import TrainSummary
from r1distill.version import __version__

LIBRARY = {"lora": "peft", "qlora": "peft", "full": "transformers"}
LLAMA_NAME = (
    '**Its name:** licences of Llama 3.1 to 3.3 want that a model which is distributed has a name that begins with "Llama", '
    'shows "Built with Llama" and comes with a copy of the licence (https://www.llama.com/llama3_1/license/).'
)


def model_card(
    recipe: Recipe,
    summary: TrainSummary,
    rows_by_teacher: Mapping[str, int],
    scores: Sequence[tuple[str, str]] = (),
) -> str:
    """The card's text; `scores` are lines (what, score with its interval). Nothing in it is a path of this machine."""
    base = base_name(summary.base)
    parts = [
        _head(summary, base),
        f"A student of {cell(base)}, trained by r1distill {__version__} on {summary.rows:,} reasoning traces. It thinks between "
        "`<think>` and `</think>`, then answers. Serve it with the chat template in "
        "this folder: it is the one that was trained with.",
        "## Teachers\n" + _teachers(recipe, rows_by_teacher),
        "## Licences and terms\n" + _licences(recipe, base),
        "## Data\n" + _data(recipe, summary),
        "## Training\n" + _training(recipe, summary),
        "## Scores\n" + _scores(scores),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


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


def _teachers(recipe: Recipe, rows_by_teacher: Mapping[str, int]) -> str:
    lines = ["| teacher | rows | model | terms |", "|---|---|---|---|"]
    for name, count in sorted(rows_by_teacher.items()):
        section = recipe.teacher.get(name)
        model = str(section.model or section.provider) if section is not None else "unknown"
        lines.append(
            f"| {cell(name)} | {count:,} | {cell(model)} | {cell(_terms(section)) or 'none known'} |"
        )
    return "\n".join(lines) if rows_by_teacher else "The traces don't say who wrote them."


def _terms(section: Any) -> str:
    """What the terms of the teacher's host and the licence of its model say of training on outputs."""
    if section is None:
        return ""
    row, model = provider(section.provider), str(section.model)
    base_url = section.base_url or row.base_url
    found = [terms(str(base_url), model)] if base_url else []
    found += [note.text for note in (*row.notes, *MODEL_NOTES) if matches(model, note.models)]
    return " ".join(text for text in found if text)


def _licences(recipe: Recipe, base: str) -> str:
    lines = [f"The licence of {cell(base)} covers this student too; look it up there and name it here."]
    if is_llama(base, *(str(section.model) for section in recipe.teacher.values())):
        lines.append(LLAMA_NAME)
    return "\n\n".join(lines)


def _data(recipe: Recipe, summary: TrainSummary) -> str:
    checks = ", ".join(recipe.filter.checks) or "finish, format, length, duplicate, correct (the default)"
    source = recipe.prompts.hf if recipe.prompts is not None and recipe.prompts.hf else None
    problems = f"Problems: {cell(source)} on the Hugging Face hub. " if source else ""
    left_out = (
        f"{summary.rows_dropped_too_long:,} were too long, {summary.rows_dropped_control_tokens:,} spelled control tokens, "
        f"{summary.rows_dropped_no_target:,} had nothing to learn"
    )
    return (
        f"{problems}Traces passed these checks: {cell(checks)}. {summary.rows:,} rows were trained on, "
        f"{summary.validation_rows:,} validated with; of the rest {left_out}."
        + f" {summary.rows_cut:,} were cut."
        * bool(summary.rows_cut)
    )


def _training(recipe: Recipe, summary: TrainSummary) -> str:
    settings = recipe.train.model_dump(mode="json", exclude_defaults=False)
    rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in settings.items()]
    rows += [
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
