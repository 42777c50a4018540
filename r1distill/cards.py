"""The card of a training set: what is in it, where it comes from, what removed the rest. Markdown, beside the files.

In: the parted rows and the summary of a filter run, the recipe, the problems. Out: README.md in the form that data set cards
have on the Hugging Face hub (https://huggingface.co/docs/hub/datasets-cards).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from r1distill.checks import Check
from r1distill.funnel import FilterSummary, Parted
from r1distill.recipe import Recipe
from r1distill.records import Prompt
from r1distill.show import plain
from r1distill.teachers.provider_row import matches
from r1distill.teachers.providers import MODEL_NOTES, provider, terms
from r1distill.version import __version__

FILES = """| file | what |
|---|---|
| train.jsonl, val.jsonl | training rows in TRL's conversational prompt-completion form; the think block stands inline |
| pairs.jsonl | preference pairs: a right answer over the wrong one nearest in length |
| kept.jsonl, rejected.jsonl | the source lines, byte for byte |
| verdicts.jsonl | what every check says of every trace |
| reasons.jsonl | why a trace is no training row |
"""


def card(
    parted: Parted,
    summary: FilterSummary,
    checks: dict[str, Check],
    recipe: Recipe | None,
    prompts: Sequence[Prompt],
) -> str:
    """The card's text."""
    rows = [*parted.train, *parted.val]
    parts = [
        _head(recipe),
        f"{summary.train:,} training and {summary.val:,} validation rows from {summary.prompts_covered:,} of "
        f"{summary.prompts:,} problems, chosen by r1distill {__version__} from {summary.traces:,} traces "
        f"({summary.kept:,} passed every check). Split by problem.",
        "## Files\n" + FILES,
        "## Teachers\n" + _teachers(Counter(row.teacher for row in rows), recipe),
        "## Problems\n" + _problems([prompts[row.order] for row in rows if row.order < len(prompts)]),
        "## Checks\n" + _checks(summary, checks),
        "## What removed how many\n" + _reasons(summary),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _head(recipe: Recipe | None) -> str:
    name = _cell(recipe.name) if recipe is not None else "curated traces"
    return f"---\ntask_categories:\n- text-generation\ntags:\n- reasoning-distillation\n---\n# {name}"


def _teachers(counts: Counter[str], recipe: Recipe | None) -> str:
    lines = ["| teacher | rows | model | notes |", "|---|---|---|---|"]
    for name, count in sorted(counts.items()):
        section = recipe.teacher.get(name) if recipe is not None else None
        model = str(section.model or section.provider) if section is not None else "unknown"
        lines.append(
            f"| {_cell(name)} | {count:,} | {_cell(model)} | {_cell(_notes(section)) or 'none known'} |"
        )
    return "\n".join(lines)


def _notes(section: Any) -> str:
    """What the terms of a teacher's host and the licence of its model say of training on outputs."""
    if section is None:
        return ""
    row, model = provider(section.provider), str(section.model)
    base_url = section.base_url or row.base_url
    found = [terms(str(base_url), model)] if base_url else []
    found += [note.text for note in (*row.notes, *MODEL_NOTES) if matches(model, note.models)]
    return " ".join(text for text in found if text)


def _problems(prompts: list[Prompt]) -> str:
    lines = ["| tag | value | rows |", "|---|---|---|"]
    for tag in ("source", "licence", "license", "language", "topic"):
        counts = Counter(str(prompt.tags[tag]) for prompt in prompts if tag in prompt.tags)
        lines += [f"| {tag} | {_cell(value)} | {count:,} |" for value, count in counts.most_common(20)]
    if len(lines) == 2:
        return "The problems carry no tags: say here where they come from and under which licence."
    return "\n".join(lines)


def _checks(summary: FilterSummary, checks: dict[str, Check]) -> str:
    removed = {row.check: row for row in summary.funnel}
    lines = ["| check | version | settings | removed | only by this |", "|---|---|---|---|---|"]
    for name, check in checks.items():
        settings = json.dumps(check.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
        row = removed[name]
        lines.append(
            f"| {_cell(name)} | {check.version} | {_cell(settings)} | {row.removed:,} | {row.removed_only_by_this:,} |"
        )
    return "\n".join(lines)


def _reasons(summary: FilterSummary) -> str:
    lines = ["| reason | traces |", "|---|---|"]
    lines += [f"| {_cell(reason)} | {count:,} |" for reason, count in list(summary.reasons.items())[:30]]
    return "\n".join(lines) if summary.reasons else "Nothing was removed."


def _cell(text: str) -> str:
    """Text of others as one cell of a table: no bars, no line breaks, no markup, no control characters."""
    text = " ".join(plain(text).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
