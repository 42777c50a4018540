"""The card of an exported student: its form, how to use it and how well it does, before what its training's card says.

In: the summary of an export, the recipe, the run. Out: README.md in the form that model cards have on the Hugging Face hub
(https://huggingface.co/docs/hub/model-cards). Nothing in it is a path of this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from r1distill.exports.summary import ExportSummary
from r1distill.model_card import LLAMA_NAME, cell, is_llama
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.scores import Difference, Score
from r1distill.version import __version__

LIBRARY = {"merged": "transformers", "gguf": "gguf", "adapter": "peft"}
TAKEN = ("Teachers", "Licences and terms", "Data", "Training")
"""Sections of the training's card that this one repeats."""
USAGE = {
    "merged": "`r1distill serve FOLDER`, `transformers serve`, vLLM and others load this folder as it is.",
    "gguf": "`r1distill serve FOLDER`, or any other server made of llama.cpp; the chat template is in the file.",
    "adapter": (
        "`PeftModel.from_pretrained(base, FOLDER)` lays it over the base, llama.cpp takes adapter.gguf (`--lora`) if it is here; "
        "use the tokenizer and chat template of this folder, which it was trained with."
    ),
}


def card(summary: ExportSummary, recipe: Recipe, run: Run, training_card: Path) -> str:
    """The card's text."""
    parts = [
        _head(summary),
        f"# {cell(summary.name)}\n\nA student of {cell(summary.base)}, trained on a teacher's reasoning and exported "
        f"by r1distill {__version__}. It thinks between `<think>` and `</think>`, then answers.",
        _table(("", ""), _facts(summary)),
        f"## How to use it\n{USAGE[summary.format]}",
        f"## Scores\n{_scores(summary, run)}",
        *_of_training(training_card, recipe),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _head(summary: ExportSummary) -> str:
    lines = ["---", f"library_name: {LIBRARY[summary.format]}", "pipeline_tag: text-generation"]
    lines += [f"base_model: {json.dumps(summary.base)}"] if "/" in summary.base else []
    return "\n".join([*lines, "tags:", "- reasoning-distillation", "- r1distill", "---"])


def _facts(summary: ExportSummary) -> Iterable[tuple[str, str]]:
    yield "form", summary.format + (f", {summary.quant}" if summary.quant else "")
    yield "size", f"{(summary.bytes or 0) / 1e6:,.1f} MB"
    if summary.parameters is not None:
        yield "parameters", f"{summary.parameters / 1e6:,.1f} million"
    if summary.tokens_per_s is not None:
        yield "speed", f"{summary.tokens_per_s:,.0f} tokens/s, one answer at a time, where it was made"
    if summary.prompts_checked:
        yield "checked", f"{summary.prompts_checked} prompts become the tokens they were in training"


def _scores(summary: ExportSummary, run: Run) -> str:
    parts = []
    if summary.scores:
        parts += [_score_table(summary.scores, summary.models), *(d.sentence() for d in summary.differences)]
    done = run.latest("evaluate")
    if done and summary.train_stage in str(done[1].get("models", {}).get("student", {}).get("what")):
        before = msgspec.convert(done[1]["differences"], list[Difference])
        parts += ["Before the export:", _score_table(msgspec.convert(done[1]["scores"], list[Score]), {})]
        parts += [d.sentence() for d in before]
    return (
        "\n\n".join(parts)
        or "Not scored; `r1distill export --evaluate` does it on the recipe's held-out problems."
    )


def _score_table(scores: Sequence[Score], models: dict[str, dict[str, Any]]) -> str:
    rows = [
        (s.who, s.problems, s.n_problems, _percent(s.lenient), _percent(s.strict), f"{s.truncated:.0%}",
         _figure(models, s.who, "bytes", 1e-6), _figure(models, s.who, "tokens_per_s", 1))
        for s in scores
    ]  # fmt: skip
    head = ("model", "problems", "n", "pass@1 lenient (95%)", "strict (95%)", "cut", "MB", "tokens/s")
    return _table(head, rows)


def _of_training(training_card: Path, recipe: Recipe) -> list[str]:
    """The sections of the training's card: teachers, licences and terms, data, settings."""
    text = training_card.read_text(encoding="utf-8") if training_card.is_file() else ""
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    if "Licences and terms" in sections:  # peft writes a card, too, which says nothing
        return [f"## {sections[name]}" for name in TAKEN if name in sections]
    base = recipe.student.base if recipe.student else ""
    llama = is_llama(base, *(str(section.model) for section in recipe.teacher.values()))
    notes = [
        "The training has no card: say here who taught it, on what, and under which licences.",
        *[LLAMA_NAME] * llama,
    ]
    return ["## Licences and terms\n" + "\n\n".join(notes)]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(str(entry)) for entry in line) + " |" for line in lines)


def _percent(score: Any) -> str:
    return f"{score.value:.1%} ({score.low * 100:.0f}-{score.high * 100:.0f})"


def _figure(models: dict[str, dict[str, Any]], who: str, key: str, factor: float) -> str:
    value = models.get(who, {}).get(key)
    return "-" if value is None else f"{value * factor:,.1f}"
