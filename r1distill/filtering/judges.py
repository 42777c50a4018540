"""Who judges: the judge of a `judge` check as a teacher of its own small harvest, and where that harvest lies.

In: a recipe and its judge checks. Out: a recipe that the asking engine can harvest by (one teacher, the pace of [harvest], the
check's own budget), and the folder judge/, which is a run of its own with the files of a harvest: traces/part-1-of-1.jsonl
(replies; `prompt_id` is the id of the judged trace), failures.jsonl, spending-1-of-1.jsonl, index.sqlite, logs/.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from r1distill.asking.account import check_budget, spent
from r1distill.checks.judge import Judge
from r1distill.errors import RecipeError
from r1distill.index import Index
from r1distill.recipe import Recipe
from r1distill.recipe_sections import TeacherSection
from r1distill.records import CEILING_KEYS, split_ceiling
from r1distill.run import Run
from r1distill.teachers.endpoints import model_key

FOLDER = "judge"
"""In a run folder, or in the folder --to of a filter of plain files."""


def judges_run(folder: Path) -> Run:
    """The judges' own run folder inside `folder`."""
    return Run(folder / FOLDER)


def judge_section(recipe: Recipe, name: str, check: Judge) -> TeacherSection:
    """The table of a check's judge, with the check's own ceiling. Raises RecipeError when there is none."""
    section = recipe.judge.get(check.teacher) or recipe.teacher.get(check.teacher)
    if section is None:
        known = ", ".join([*recipe.judge, *recipe.teacher]) or "none"
        raise RecipeError(
            f"filter.checks.{name}.teacher: there is no [judge.{check.teacher}] and no [teacher.{check.teacher}] "
            f"(there are: {known})."
        )
    if check.max_tokens is None:
        return section
    key = next((key for key in CEILING_KEYS if key in section.sampling), CEILING_KEYS[0])
    sampling = {**split_ceiling(section.sampling)[0], key: check.max_tokens}
    return section.model_copy(update={"sampling": sampling})


def judges_recipe(recipe: Recipe, name: str, check: Judge) -> Recipe:
    """The recipe of the judge's harvest: its teacher alone, the pace of [harvest], the check's budget. Raises RecipeError."""
    mine = {
        "budget_usd": check.budget_usd, "escalate": None, "reasoning": "optional", "top_logprobs": 0, "assign": "all",
    }  # fmt: skip
    section = judge_section(recipe, name, check)
    harvest = recipe.harvest.model_copy(update=mine)
    return recipe.model_copy(update={"teacher": {check.teacher: section}, "harvest": harvest})


def equipped(recipe: Recipe, name: str, check: Judge) -> Judge:
    """The check that knows its judge. Raises RecipeError, InputError for a judge that can't be asked as the recipe says."""
    alone = judges_recipe(recipe, name, check)
    section = alone.teacher[check.teacher]
    try:
        check_budget(alone)
        return check.equipped(model_key(check.teacher, section, alone), section.sampling)
    except RecipeError as error:
        raise RecipeError(in_judges_words(str(error), recipe, name, check)) from None


def in_judges_words(text: str, recipe: Recipe, name: str, check: Judge) -> str:
    """A sentence of the harvest's, with the keys as they are called for this judge."""
    text = text.replace("harvest.budget_usd", f"filter.checks.{name}.budget_usd")
    here = f"judge.{check.teacher}" if check.teacher in recipe.judge else f"teacher.{check.teacher}"
    return text.replace(f"teacher.{check.teacher}", here)


def with_all_prices(recipe: Recipe) -> Recipe:
    """The recipe with every model that may have judged as a teacher, for adding up what judging cost."""
    return recipe.model_copy(update={"teacher": {**recipe.teacher, **recipe.judge}})


class JudgingSoFar(NamedTuple):
    """What the judges of a run have done."""

    replies: int
    usd: float | None
    """Lost attempts included; None when the cost of some reply is unknown."""


def judging_so_far(recipe: Recipe, folder: Path) -> JudgingSoFar:
    """What lies in the judges' folder inside `folder`; nothing when none was ever asked."""
    run = judges_run(folder)
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        known = spent(with_all_prices(recipe), run, index).total
        unknown = any(without_cost(recipe, index).values())
        return JudgingSoFar(index.holdings("traces").traces, None if unknown else known)


def without_cost(recipe: Recipe, index: Index) -> dict[str, int]:
    """Replies whose cost nobody knows, by judge: neither they nor the recipe name a price."""
    sections = with_all_prices(recipe).teacher
    priced = {name for name, section in sections.items() if section.price is not None}
    return {t["teacher"]: t["own_cost_unknown"] for t in index.totals("traces") if t["teacher"] not in priced}
