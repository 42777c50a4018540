"""Plain trace files as the filter takes them: the checks, the reader, and the log-probabilities of the runs they lie in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from r1distill.checks import Check, build_checks
from r1distill.filtering.funnel import NAME
from r1distill.filtering.logprobs_beside import folder_beside, logprobs_for
from r1distill.filtering.measure import Logprobs
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.prompts import Template, student_template
from r1distill.recipe import Recipe, apply_override, parse_recipe
from r1distill.recipe_sections import FilterSection
from r1distill.records import Trace, trace_id_of

FILE_CHECKS: dict[str, dict[str, Any]] = {
    "finish": {"unjudged": "keep"},
    "format": {},
    "length": {},
    "repetition": {},
    "duplicate": {},
    "correct": {"without_reference": "keep"},
}
"""For plain files without a recipe: most of them don't say how an answer ended."""


def changed_defaults(overrides: tuple[str, ...]) -> Recipe:
    """The recipe that plain files are filtered by without one, with `--set` changes. Raises RecipeError."""
    data: dict[str, Any] = {"name": "files", "filter": {"checks": copy.deepcopy(FILE_CHECKS)}}
    for override in overrides:
        apply_override(data, override)
    recipe = parse_recipe(data, where="--set")
    return recipe.model_copy(update={"name": NAME}) if recipe.name == "files" else recipe


class Plain(NamedTuple):
    """How plain files are filtered."""

    files: list[Path]
    section: FilterSection
    checks: dict[str, Check]
    template: Template | None
    """The student's prompt; None: the messages of the files."""
    kind: Any
    """Kind of the answers where a row does not tell."""
    logprobs: Logprobs | None
    """What lies beside the files, where a check wants it."""
    format: str | None = None
    """The name of their format; None: detected row by row."""
    columns: dict[str, str] | None = None
    """What --map says of their columns."""

    def reader(self, scratch: Path | None = None) -> TraceFiles:
        """A fresh reader of the files; with a folder for `scratch` its `lines_at` can be used."""
        return TraceFiles(
            self.files, self.kind, format=self.format, columns=self.columns, scratch=scratch,
            keep_lines=scratch is not None,
        )  # fmt: skip


def plain(
    files: list[Path],
    recipe: Recipe | None,
    format: str | None = None,
    columns: dict[str, str] | None = None,
) -> Plain:
    """The files with a recipe's checks, or the default ones. Raises RecipeError."""
    section = recipe.filter if recipe else FilterSection()
    checks = build_checks(section.checks or FILE_CHECKS, recipe.folder if recipe else None)
    template = student_template(recipe) if recipe and (recipe.prompts or recipe.student) else None
    kind = recipe.prompts.answer_kind if recipe and recipe.prompts else "math"
    return Plain(files, section, checks, template, kind, logprobs_of_files(files, checks), format, columns)


def logprobs_of_files(files: list[Path], checks: Mapping[str, Check]) -> Logprobs | None:
    """The log-probabilities beside the files that lie in a run's traces/; those rows keep their slot and ceiling."""
    folders = dict.fromkeys(folder for file in files if (folder := folder_beside(file)) is not None)
    return logprobs_for(checks, list(folders), own_id)


def own_id(trace: Trace) -> str:
    """The id that a run gave a trace; "" for a row that is no trace of ours."""
    return trace_id_of(trace.slot, trace.max_tokens) if trace.slot else ""
