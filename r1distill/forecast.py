"""What people should know before they pay: what the budget covers, which keys are missing, settings that do nothing.

In: estimates (estimates.py), a plan, a recipe. Out: sentences and the cells of a table.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1distill.asking.account import is_paid
from r1distill.asking.owed import Plan
from r1distill.errors import R1DistillError
from r1distill.estimates import TeacherEstimate
from r1distill.recipe import Recipe
from r1distill.show import counted, dollars
from r1distill.teachers.keys import api_key
from r1distill.teachers.providers import provider

COLUMNS = ("teacher", "what", "low", "expected", "high", "from")


def table(found: Sequence[TeacherEstimate]) -> list[tuple[str, ...]]:
    """The estimates as cells under `COLUMNS`: three rows for each teacher."""
    rows = []
    for e in found:
        source = "its answers so far" if e.measured else "1/16, 1/4, all of the ceiling"
        rows.append(
            (f"{e.teacher}, {counted(e.answers, 'answer')}", "prompt tokens", *_cells(e.prompt_tokens), "")
        )
        rows.append(("", "completion tokens", *_cells(e.completion_tokens), source))
        rows.append(("", "cost", *_money(e)))
    return rows


def _cells(values: Sequence[int] | None) -> tuple[str, ...]:
    return ("unknown",) * 3 if values is None else tuple(f"{value:,}" for value in values)


def _money(e: TeacherEstimate) -> tuple[str, ...]:
    if e.usd is not None:
        return (*(dollars(usd) for usd in e.usd), "price of the recipe")
    if e.package_usd is not None:
        return (*(dollars(usd) for usd in e.package_usd), f"estimate of {e.package}")
    missing = "teacher.NAME.price" + ("" if e.completion_tokens else " and sampling.max_tokens")
    return ("unknown",) * 3 + (f"give {missing}",)


def covered(found: Sequence[TeacherEstimate], budget_usd: float | None, spent_usd: float) -> str:
    """How many of the estimated answers the rest of the budget pays for, in a sentence; "" when nobody knows."""
    if budget_usd is None or not found or any(e.usd is None for e in found):
        return ""
    answers = sum(e.answers for e in found)
    _, expected, high = (sum(e.usd[n] for e in found if e.usd is not None) for n in range(3))
    left = max(0.0, budget_usd - spent_usd)
    what = f"What is left of the budget of {dollars(budget_usd)} ({dollars(left)})"
    if expected > left:
        return f"{what} covers about {int(answers * left / expected):,} of {counted(answers, 'answer')}."
    if high > left:
        return (
            f"{what} covers {_all(answers)} at the expected cost ({dollars(expected)}), but not at the high estimate "
            f"({dollars(high)})."
        )
    return f"{what} covers {_all(answers)}, even at the high estimate ({dollars(high)})."


def _all(answers: int) -> str:
    return "the one answer" if answers == 1 else f"all {answers:,} answers"


def missing_keys(recipe: Recipe) -> list[str]:
    """A sentence for each key that a harvest would want and not find; nothing is raised."""
    told = []
    for name, section in recipe.teacher.items():
        if is_paid(recipe, name):
            try:
                api_key(
                    section.api_key_env or provider(section.provider).key_variable, f"teacher.{name}", recipe
                )
            except R1DistillError as missing:
                told.append(str(missing))
    return told


def plan_notes(plan: Plan) -> list[str]:
    """Warnings about settings that change nothing."""
    told = []
    tagged = [party.name for party in plan.parties if party.tags]
    if plan.assign == "tag" and not tagged:
        first = plan.parties[0].name
        told.append(
            f'harvest.assign = "tag", but no teacher has tags: {first} is asked for all; set teacher.NAME.tags.'
        )
    elif plan.assign != "tag" and tagged:
        told.append(
            f'teacher.{tagged[0]}.tags changes nothing without harvest.assign = "tag" (it is "{plan.assign}").'
        )
    if plan.escalate is not None:
        told += [
            f"harvest.escalate.max_tokens = {plan.escalate.max_tokens:,} is not above the ceiling of teacher.{party.name} "
            f"({party.max_tokens:,} tokens), so that its cut answers are not asked once more."
            for party in plan.parties
            if party.max_tokens is not None and plan.escalate.max_tokens <= party.max_tokens
        ]
    return told
