"""The card of a training set: what is in it, where it comes from, what removed the rest. Markdown, beside the files.

In: the parted rows and the summary of a filter run, the recipe, the problems. Out: README.md in the form that data set cards
have on the Hugging Face hub (https://huggingface.co/docs/hub/datasets-cards), whose head also tells
`datasets.load_dataset(folder)` which files are training data (https://huggingface.co/docs/hub/datasets-manual-configuration).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from r1distill.checks import Check
from r1distill.checks.contamination import Contamination
from r1distill.filtering.funnel import (
    NAME,
    FilterSummary,
    Parted,
    mix_sentence,
    pairs_sentence,
    suspects_sentence,
)
from r1distill.recipe import Recipe
from r1distill.recipe_sections import FilterSection
from r1distill.records import Prompt
from r1distill.show import counted, plain
from r1distill.teachers.provider_row import matches
from r1distill.teachers.providers import MODEL_NOTES, provider, terms, terms_by_name
from r1distill.version import __version__

LICENCE_TAGS = ("licence", "license")
TAGS = ("source", "language", "topic")
MOST_ROWS = 30
"""So many values of a tag, or reasons, are listed."""
FILES = """| file | what |
|---|---|
| train.jsonl, val.jsonl | training rows in TRL's conversational prompt-completion form; the think block stands inline |
| pairs.jsonl | preference pairs: a right answer over the wrong one nearest in length |
| kept.jsonl, rejected.jsonl | the source lines, byte for byte |
| verdicts.jsonl | what every check says of every trace |
| reasons.jsonl | why a trace is no training row |
| suspect_references.jsonl | problems where most samples agree with each other and not with the reference |
"""
PARQUET = "| train.parquet, val.parquet, pairs.parquet | the same rows as in the JSONL files |\n"


def card(
    parted: Parted,
    summary: FilterSummary,
    checks: dict[str, Check],
    recipe: Recipe | None,
    prompts: Sequence[Prompt],
) -> str:
    """The card's text."""
    rows = [*parted.train, *parted.val]
    problems = [_labels(prompts[row.order]) for row in rows if row.order < len(prompts)]
    parts = [
        _head(recipe, summary),
        f"{summary.train:,} training and {summary.val:,} validation rows from {summary.prompts_covered:,} of "
        f"{_all_problems(summary, parted):,} problems, chosen by r1distill {__version__} from {summary.traces:,} traces "
        f"({summary.kept:,} passed every check). Split by problem.",
        "## Files\n" + FILES + (PARQUET if summary.parquet else ""),
        "## Teachers and their terms\n" + _teachers(Counter(row.teacher for row in rows), recipe),
        "## Licences of the problems\n" + _licences(problems),
        "## Problems\n" + _problems(problems),
        "## Checks\n" + _checks(summary, checks),
        "## Contamination\n" + _contamination(parted, checks),
        "## Selection\n" + _selection(summary, recipe),
        "## What removed how many\n" + _reasons(summary),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


class Labels(NamedTuple):
    """What counts here of a row's problem; its texts may be long."""

    licence: str | None
    tags: tuple[str | None, ...]
    """Values of TAGS."""
    has_reference: bool


def _labels(prompt: Prompt) -> Labels:
    licence = next((str(prompt.tags[tag]) for tag in LICENCE_TAGS if prompt.tags.get(tag)), None)
    values = tuple(str(prompt.tags[tag]) if tag in prompt.tags else None for tag in TAGS)
    return Labels(licence, values, prompt.answer is not None)


def _all_problems(summary: FilterSummary, parted: Parted) -> int:
    """Of plain files the number is not known before they are read."""
    return summary.prompts or len({row.prompt_id for row in parted.rows})


def _head(recipe: Recipe | None, summary: FilterSummary) -> str:
    """The YAML between dashes; a file without rows is no split, since it has no columns."""
    ending = "parquet" if summary.parquet else "jsonl"
    splits = [("train", "train", summary.train), ("validation", "val", summary.val)]
    configs = [f"  - split: {split}\n    path: {file}.{ending}" for split, file, rows in splits if rows]
    text = "---\ntask_categories:\n- text-generation\ntags:\n- reasoning-distillation\n"
    if configs:
        text += (
            "configs:\n- config_name: default\n  default: true\n  data_files:\n" + "\n".join(configs) + "\n"
        )
    if summary.pairs:
        text += f"- config_name: pairs\n  data_files: pairs.{ending}\n" if configs else ""
    return f"{text}---\n# {_cell(recipe.name if recipe is not None else NAME)}"


def _teachers(counts: Counter[str], recipe: Recipe | None) -> str:
    lines = ["| teacher | rows | model | terms |", "|---|---|---|---|"]
    for name, count in sorted(counts.items()):
        section = recipe.teacher.get(name) if recipe is not None else None
        model = str(section.model or section.provider) if section is not None else name
        lines.append(
            f"| {_cell(name)} | {count:,} | {_cell(model)} | {_cell(_terms(section, name)) or 'not known here; look them up'} |"
        )
    lines.append(
        "\nThis is no legal advice; read the terms of the teacher's host and the licence of its model."
    )
    return "\n".join(lines)


def _terms(section: Any, name: str) -> str:
    """What the terms of a teacher's host and the licence of its model say of training on outputs. Of a teacher that no recipe
    describes only the name is known, in files of others that of a model.
    """
    if section is None:
        found = [terms_by_name(name), *(note.text for note in MODEL_NOTES if matches(name, note.models))]
        return " ".join(text for text in found if text)
    row, model = provider(section.provider), str(section.model)
    base_url = section.base_url or row.base_url
    found = [terms(str(base_url), model)] if base_url else []
    found += [note.text for note in MODEL_NOTES if matches(model, note.models)]
    return " ".join(text for text in found if text)


def _licences(problems: list[Labels]) -> str:
    """Rows by what the problems' own tags say."""
    found = [problem.licence for problem in problems]
    known = Counter(licence for licence in found if licence is not None)
    if not known:
        return "The problems have no tag `licence`: say here where they come from and under which licence."
    unknown = found.count(None)
    lines = _table(("licence", "rows"), known.most_common())
    return "\n".join([*lines, *([f"| not said | {unknown:,} |"] if unknown else [])])


def _problems(problems: list[Labels]) -> str:
    lines = ["| tag | value | rows |", "|---|---|---|"]
    for number, tag in enumerate(TAGS):
        counts = Counter(value for problem in problems if (value := problem.tags[number]) is not None)
        lines += [f"| {tag} | {_cell(value)} | {count:,} |" for value, count in counts.most_common(MOST_ROWS)]
        more = counts.most_common()[MOST_ROWS:]
        lines += [f"| {tag} | and {len(more):,} more | {sum(n for _, n in more):,} |"] if more else []
    references = (
        f"{sum(p.has_reference for p in problems):,} of {len(problems):,} rows have a reference answer."
    )
    return references if len(lines) == 2 else "\n".join([*lines, "", references])


def _checks(summary: FilterSummary, checks: dict[str, Check]) -> str:
    removed = {row.check: row for row in summary.funnel}
    lines = ["| check | version | settings | removed | only by this |", "|---|---|---|---|---|"]
    for name, check in checks.items():
        row = removed[name]
        settings = _settings(check.model_dump(mode="json", exclude_none=True))
        lines.append(
            f"| {_cell(name)} | {check.version} | {settings} | {row.removed:,} | {row.removed_only_by_this:,} |"
        )
    if summary.suspect_references:
        lines.append("\n" + suspects_sentence(summary.suspect_references))
    return "\n".join(lines)


def _contamination(parted: Parted, checks: Mapping[str, Check]) -> str:
    """Whether the questions were compared with benchmarks, and with which result."""
    said = []
    for name, check in checks.items():
        if isinstance(check, Contamination):
            found = [row for row in parted.rows if row.judgements[name].outcome == "FAIL"]
            problems = len({row.prompt_id for row in found})
            said.append(
                f"Questions were compared with {', '.join(_cell(file) for file in check.benchmarks)}: "
                f"{counted(problems, 'problem')} ({counted(len(found), 'trace')}) removed by the check {_cell(name)}."
            )
    return "\n".join(said) or "Not checked: no benchmark files were named."


def _selection(summary: FilterSummary, recipe: Recipe | None) -> str:
    select = (recipe.filter if recipe is not None else FilterSection()).select
    lines = [f"Settings: {_settings(select.model_dump(mode='json', exclude_none=True))}."]
    lines += [
        f"Not selected: {counted(count, 'kept trace')} ({_cell(reason)})."
        for reason, count in list(summary.not_selected_reasons.items())[:MOST_ROWS]
    ]
    more = len(summary.not_selected_reasons) - MOST_ROWS
    lines += [f"And for {counted(more, 'more reason')}."] if more > 0 else []
    lines += [mix_sentence(summary.mix)] if summary.mix is not None else []
    lines += [pairs_sentence(summary)] if summary.pairs else []
    return "\n\n".join(lines)


def _reasons(summary: FilterSummary) -> str:
    return (
        "\n".join(_table(("reason", "traces"), summary.reasons.items()))
        if summary.reasons
        else "Nothing was removed."
    )


def _table(columns: tuple[str, str], rows: Iterable[tuple[str, int]]) -> list[str]:
    listed = list(rows)
    lines = [f"| {' | '.join(columns)} |", "|---|---|"]
    lines += [f"| {_cell(text)} | {count:,} |" for text, count in listed[:MOST_ROWS]]
    more = listed[MOST_ROWS:]
    return lines + ([f"| and {len(more):,} more | {sum(n for _, n in more):,} |"] if more else [])


def _settings(table: dict[str, Any]) -> str:
    """Settings in one cell: key = value, ..."""
    return _cell(
        ", ".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if value != {}
        )
    )


def _cell(text: str) -> str:
    """Text of others as one cell of a table: no bars, no line breaks, no markup, no control characters."""
    text = " ".join(plain(text).split())
    for sign, shown in (
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("<", "&lt;"),
        ("[", "\\["),
        ("`", "\\`"),
        ("*", "\\*"),
    ):
        text = text.replace(sign, shown)
    return text
