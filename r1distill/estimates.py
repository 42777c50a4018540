"""What the answers that are still owed may cost: low, expected and high, before a request is sent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from r1distill.asking.account import is_paid
from r1distill.asking.owed import Plan, escalated
from r1distill.index import Index
from r1distill.ledger import read_at
from r1distill.recipe import Recipe
from r1distill.records import Trace
from r1distill.run import Run
from r1distill.teachers.money import Ceilings, Estimate, History, estimate
from r1distill.teachers.price_guess import guessed_usd
from r1distill.teachers.providers import provider

SOME = 64
"""So many traces tell how many characters a teacher's prompt tokens have."""


class TeacherEstimate(msgspec.Struct, frozen=True):
    """What one teacher's owed answers may use; each triple is low, expected, high."""

    teacher: str
    answers: int
    prompt_tokens: list[int]
    completion_tokens: list[int] | None
    usd: list[float] | None
    """By the recipe's price; None: there is none, or no ceiling."""
    measured: bool
    """From this teacher's answers; else from shares of the ceiling."""
    package_usd: list[float] | None = None
    """Where the recipe has no price: by the price table of a package. An estimate, never the base of a budget."""
    package: str = ""


def estimates(
    recipe: Recipe, run: Run, plan: Plan, index: Index, chosen: Collection[int] | None = None
) -> list[TeacherEstimate]:
    """An estimate for each teacher that has something to answer. Renders what is owed; asks nobody."""
    found = []
    for name, answers in plan.left(chosen).items():
        section = recipe.teacher[name]
        if not is_paid(recipe, name):
            continue
        chars, ceilings, bounded = 0, Ceilings(), True
        for item in plan.items(name, chosen):
            chars += sum(len(message.content) for message in item.messages)
            bounded = bounded and item.max_tokens is not None
            once_more = None if item.escalated else escalated(item.max_tokens, recipe.harvest.escalate)
            ceilings = Ceilings(ceilings.first + (item.max_tokens or 0), ceilings.again + (once_more or 0))
        past = history(run, index, name)
        most = ceilings if bounded else None
        found.append(_told(name, section, estimate(chars, answers, most, section.price, past)))
    return found


def history(run: Run, index: Index, teacher: str) -> History:
    """What the answers of a teacher were like so far."""
    count, mean, deviation = index.lengths("traces", teacher)
    decoder = msgspec.json.Decoder(Trace)
    chars = tokens = 0
    for name, offset, length in index.some("traces", teacher, SOME):
        (line,) = read_at(run.ledger_folder("traces") / name, [(offset, length)])
        trace = decoder.decode(line)
        chars += sum(len(message.content) for message in trace.messages)
        tokens += trace.usage.prompt_tokens or 0
    return History(count, mean, deviation, chars / tokens if chars and tokens else None)


def _told(name: str, section: Any, found: Estimate) -> TeacherEstimate:
    guess, package = None, ""
    if found.usd is None and found.completion_tokens is not None:
        base_url = section.base_url or provider(section.provider).base_url
        tokens = list(zip(found.prompt_tokens, found.completion_tokens, strict=True))
        guess, package = guessed_usd(str(section.model), base_url, tokens)
    return TeacherEstimate(
        name,
        found.answers,
        [round(x) for x in found.prompt_tokens],
        None if found.completion_tokens is None else [round(x) for x in found.completion_tokens],
        None if found.usd is None else list(found.usd),
        found.measured,
        guess,
        package,
    )
