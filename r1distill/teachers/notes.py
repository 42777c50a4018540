"""What people should know of their teachers before the first request: ignored settings, hidden reasoning, terms, plain http."""

from __future__ import annotations

from urllib.parse import urlsplit

from r1distill.recipe import Recipe
from r1distill.recipe_sections import HarvestSection, TeacherSection
from r1distill.teachers.addresses import plain_http
from r1distill.teachers.endpoints import checked_for
from r1distill.teachers.provider_row import Provider, matches
from r1distill.teachers.providers import MODEL_NOTES, by_host, logprobs_body, terms
from r1distill.teachers.request_rules import ignored_fields, sent_fields


def recipe_notes(recipe: Recipe, for_traces: bool = True) -> list[str]:
    """The notes on all teachers, each sentence once. Raises RecipeError for what would be refused.

    `for_traces`: False leaves out what matters only to those who learn from the answers.
    """
    every = [
        note
        for name, teacher in recipe.teacher.items()
        for note in notes(name, teacher, recipe.harvest, for_traces)
    ]
    return list(dict.fromkeys(every))


def notes(name: str, teacher: TeacherSection, harvest: HarvestSection, for_traces: bool = True) -> list[str]:
    """Warnings and notes on one teacher. Terms and peculiarities of models don't name the teacher, so that the caller can
    show each sentence once. Raises RecipeError (see `checked_for`).
    """
    row, where, model = checked_for(name, teacher, harvest), f"teacher.{name}", str(teacher.model)
    sent = {**sent_fields(row, teacher), **logprobs_body(row, harvest.top_logprobs)}
    found = [f"{where}: {text}" for text in ignored_fields(row, teacher.provider, model, sent)]
    found += [f"{where}: {text}" for text in _reasoning(row, teacher) if for_traces]
    if harvest.top_logprobs and row.logprobs == "unknown":
        found.append(f"{where}: nobody has checked whether {teacher.provider} gives log-probabilities.")
    warning = plain_http(name, teacher)
    found += [warning] if warning else []
    if row.kind == "http":
        base_url = str(teacher.base_url or row.base_url)
        found += [text for text in (_known_host(where, teacher, base_url), terms(base_url, model)) if text]
    return found + [note.text for note in (*row.notes, *MODEL_NOTES) if matches(model, note.models)]


def _reasoning(row: Provider, teacher: TeacherSection) -> list[str]:
    said = []
    if row.wire_for(str(teacher.model)) == "none":
        said.append(
            f"{teacher.provider} gives no usable reasoning, only answers (source: {row.source}): its traces will hold none "
            "but what the model writes into its answer."
        )
    elif row.wire_for(str(teacher.model)) == "summary":
        said.append(
            f"{teacher.provider} gives at most summaries of the reasoning, which are no traces (source: {row.source})."
        )
    return said


def _known_host(where: str, teacher: TeacherSection, base_url: str) -> str | None:
    """A hint for an endpoint that has a row of its own."""
    name = by_host(base_url)
    if name is None or teacher.provider != "openai-compatible":
        return None
    does = " and asks only models whose authors allow distillation" if name == "openrouter" else ""
    return f'{where}: provider = "{name}" knows what {urlsplit(base_url).hostname} refuses or ignores{does}.'
