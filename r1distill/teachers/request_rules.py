"""What a provider's row says of the fields that a recipe sends: an error before the first request, or a warning.

In: a row and a teacher's table. Out: RecipeError for what is refused, sentences for what is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1distill.errors import RecipeError
from r1distill.recipe_sections import TeacherSection
from r1distill.records import CEILING_KEYS
from r1distill.teachers.provider_row import Provider, Rule

OURS = ("messages", "model", "n", "stream", "stream_options", "logprobs", "top_logprobs")
"""Request fields that this tool sets itself: set by the recipe they would be ignored, or paid for and thrown away."""
HINTS = {
    "n": "harvest.samples says how many answers to ask for",
    "logprobs": "use harvest.top_logprobs",
    "top_logprobs": "use harvest.top_logprobs",
}


def sent_fields(row: Provider, teacher: TeacherSection) -> dict[str, Any]:
    """The top-level request fields that the recipe and the row's defaults make up, messages and model apart."""
    return {**teacher.sampling, **merged(row.extra_body, teacher.extra_body)}


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on top of `under`, table by table, so that one key of a table can be changed alone."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], Mapping) and isinstance(over[key], Mapping):
            both[key] = merged(under[key], over[key])
    return both


def check_sampling(sampling: dict[str, Any], where: str) -> None:
    """Raises RecipeError for sampling keys that are ours to set, and for a ceiling that is no number of tokens."""
    check_ours(sampling, where)
    if all(sampling.get(key) is not None for key in CEILING_KEYS):
        raise RecipeError(f"{where} has two ceilings, {' and '.join(CEILING_KEYS)}: leave one of them out.")
    for key in CEILING_KEYS:
        ceiling = sampling.get(key)
        if ceiling is not None and (not isinstance(ceiling, int) or isinstance(ceiling, bool) or ceiling < 1):
            raise RecipeError(f"{where}.{key} must be a whole number of tokens, at least 1, not {ceiling!r}.")


def check_ours(fields: dict[str, Any], where: str) -> None:
    """Raises RecipeError for request fields that this tool sets itself."""
    ours = [key for key in OURS if key in fields]
    hints = "".join(f"; {hint}" for hint in dict.fromkeys(HINTS[key] for key in ours if key in HINTS))
    if ours:
        raise RecipeError(f"{where} can't set {', '.join(ours)}: r1distill sets it itself{hints}.")


def check_extra(fields: dict[str, Any], where: str) -> None:
    """Raises RecipeError for extra_body fields that are ours to set, or that would overrule the ceiling of the sampling."""
    check_ours(fields, where)
    ceilings = [key for key in CEILING_KEYS if key in fields]
    if ceilings:
        raise RecipeError(f"{where} can't set {', '.join(ceilings)}: a ceiling belongs into sampling.")


def check_fields(row: Provider, provider: str, model: str, sent: Mapping[str, Any], where: str) -> None:
    """Raises RecipeError that names the fields which this provider refuses, and how that is known.

    A ceiling that it would ignore is refused too: the recipe's author believes that it bounds time and money.
    """
    for rule in row.rules:
        fields = rule.hits(model, sent)
        if rule.does == "ignored":
            fields = [field for field in fields if field in CEILING_KEYS]
        if fields:
            raise RecipeError(f"{where}: {_said(rule, provider, model, fields)}.")
    for pair in row.exclusive:
        both = [field for field in pair.fields if field in sent]
        if len(both) > 1:
            raise RecipeError(
                f"{where}: {provider} takes only one of {' and '.join(both)} (source: {pair.known})."
            )


def ignored_fields(row: Provider, provider: str, model: str, sent: Mapping[str, Any]) -> list[str]:
    """A sentence for each rule by which fields that are sent have no effect."""
    rules = [rule for rule in row.rules if rule.does == "ignored"]
    return [
        f"{_said(rule, provider, model, fields)}." for rule in rules if (fields := rule.hits(model, sent))
    ]


def _said(rule: Rule, provider: str, model: str, fields: list[str]) -> str:
    for_model = "" if rule.models == ("*",) else f" for {model}"
    values = f" other than {' or '.join(map(str, rule.but))}" if rule.but else ""
    hint = f"; {rule.hint}" if rule.hint else ""
    verb = {"refused": "refuses", "ignored": "ignores"}[rule.does]
    return f"{provider} {verb} {', '.join(fields)}{values}{for_model} (source: {rule.known}){hint}"
