"""On what terms a harvest asks its teachers: that their keys are there, price and pace, what each has answered before.

In: a recipe, a run folder, the parties of the plan. Out: Terms by teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1distill.asking.account import is_paid
from r1distill.asking.desk import Terms
from r1distill.asking.parties import Party
from r1distill.asking.recent import recent_answers
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.teachers.keys import api_key
from r1distill.teachers.providers import logprobs_body, provider


def check_keys(recipe: Recipe, names: list[str]) -> None:
    """Raises RecipeError for a key that is missing, before anything is opened or asked."""
    for name in names:
        section = recipe.teacher[name]
        if is_paid(recipe, name):
            variable = section.api_key_env or provider(section.provider).key_variable
            api_key(variable, f"teacher.{name}", recipe)


def terms_of(recipe: Recipe, run: Run, parties: Sequence[Party], names: list[str]) -> dict[str, Terms]:
    """The terms of the named teachers, by name."""
    found = {}
    for name in names:
        section = recipe.teacher[name]
        row = provider(section.provider)
        party = next(party for party in parties if party.name == name)
        found[name] = Terms(
            section.price, section.max_in_flight, section.requests_per_min, section.tokens_per_min,
            row.requests_window_s, logprobs_body(row, recipe.harvest.top_logprobs),
            recent_answers(run, party.name, party.model, party.sampling),
        )  # fmt: skip
    return found
