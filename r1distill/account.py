"""The account of a harvest: what the run has spent so far, and what this process may still spend of the budget."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from r1distill.errors import RecipeError
from r1distill.index import Index
from r1distill.ledger import Ledger
from r1distill.recipe import Recipe
from r1distill.records import Usage, split_ceiling
from r1distill.run import Run
from r1distill.spending import Spending, parts_of, read_book, spending_file, spending_files
from r1distill.teachers.money import cost_usd
from r1distill.teachers.providers import provider

OURS = re.compile(r"part-(\d+-of-\d+|batch)\.jsonl")
"""Traces that this run paid for; imported ones are another run's money."""


class Spent(NamedTuple):
    """What the files of a run add up to, in USD."""

    own: float
    """By the part of the harvest that asks."""
    same_split: float
    """By the other parts of the same split: they have a share of their own."""
    others: float
    """By everything else."""

    @property
    def total(self) -> float:
        """By the whole run."""
        return self.own + self.same_split + self.others


def is_paid(recipe: Recipe, teacher: str) -> bool:
    """True for a teacher whose answers cost money: not a server of our own."""
    section = recipe.teacher.get(teacher)
    return section is None or provider(section.provider).kind == "http"


def check_budget(recipe: Recipe) -> None:
    """Raises RecipeError when harvest.budget_usd is set and some request could cost nobody knows how much."""
    if recipe.harvest.budget_usd is None:
        return
    for name, teacher in recipe.teacher.items():
        if not is_paid(recipe, name):
            continue
        if teacher.price is None:
            raise RecipeError(
                f"harvest.budget_usd needs the price of teacher.{name}: price = {{ input = ..., output = ... }}, in USD per "
                "million tokens at the dearest hour. (A cost in the replies comes too late to keep a budget.)"
            )
        if split_ceiling(teacher.sampling)[1] is None:
            raise RecipeError(
                f"harvest.budget_usd needs a ceiling for teacher.{name}: sampling = {{ max_tokens = ... }}; without one "
                "nobody knows what a request can cost."
            )
        if provider(teacher.provider).reasoning_apart:
            raise RecipeError(
                f"harvest.budget_usd can't be kept with teacher.{name}: {teacher.provider} bills reasoning tokens beside the "
                "completion tokens, and max_tokens does not bound them."
            )


def spent(recipe: Recipe, run: Run, index: Index, shard: tuple[int, int] = (1, 1)) -> Spent:
    """What the run has spent so far, open reservations of a kill included. The index must be caught up."""
    mine = f"{shard[0]}-of-{shard[1]}"
    sums = {"own": 0.0, "same": 0.0, "others": 0.0}
    for name, usd in _parts(recipe, run, index):
        whose = "own" if f"-{mine}." in name else "same" if parts_of(Path(name)) == shard[1] else "others"
        sums[whose] += usd
    return Spent(sums["own"], sums["same"], sums["others"])


def _parts(recipe: Recipe, run: Run, index: Index) -> Iterator[tuple[str, float]]:
    """(file name, USD) of each traces and spending file."""
    for name, teacher, known, prompt, completion in index.costs("traces"):
        if OURS.fullmatch(name):
            section = recipe.teacher.get(teacher)
            usage = Usage(prompt_tokens=prompt, completion_tokens=completion)
            yield name, known + (cost_usd(usage, section.price) or 0.0 if section else 0.0)
    for path in spending_files(run.folder):
        book = read_book(path)
        still_open = set(book.open) - index.has_traces("traces", book.open)
        yield path.name, book.lost_usd + sum(book.open[trace_id] for trace_id in still_open)


@contextmanager
def opened(recipe: Recipe, run: Run, shard: tuple[int, int]) -> Iterator[Spending]:
    """The account of this part, with its ledger open. Raises LockedError, StorageError.

    What a kill left reserved is settled here. Part i of n may spend the n-th part of what the rest of the run left.
    """
    path = spending_file(run.folder, shard)
    with Ledger(path) as ledger:
        with run.index() as index:
            index.catch_up("traces", run.ledger_folder("traces"))
            before = spent(recipe, run, index, shard)
            book = read_book(path)
            answered = index.has_traces("traces", book.open)
        budget = recipe.harvest.budget_usd
        limit = None if budget is None else (budget - before.others) / shard[1]
        spending = Spending(ledger, limit)
        spending.close_left_over(book.open, answered)
        spending.spent_usd = before.own
        yield spending
