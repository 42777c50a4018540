"""The account of a harvest: what the run has spent so far, and what this process may still spend of the budget."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from r1distill.asking.spending import Book, Spending, parts_of, read_book, spending_file, spending_files
from r1distill.errors import RecipeError
from r1distill.index import Index
from r1distill.ledger import Ledger
from r1distill.recipe import Recipe
from r1distill.records import Usage, split_ceiling
from r1distill.run import Run
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
    maybe: float
    """Of all that: for requests of which nobody here knows whether they were billed, at their worst case."""

    @property
    def total(self) -> float:
        """By the whole run."""
        return self.own + self.same_split + self.others

    def share_usd(self, budget_usd: float, parts: int) -> float:
        """What this part may have spent in the end: its share of what files of another split left, and never more than
        all of them leave together.
        """
        left = budget_usd - self.others
        return min(left / parts, left - self.same_split)


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
    unsure = 0.0
    for name, usd, maybe in _parts(recipe, run, index):
        whose = "own" if f"-{mine}." in name else "same" if parts_of(Path(name)) == shard[1] else "others"
        sums[whose] += usd
        unsure += maybe
    return Spent(sums["own"], sums["same"], sums["others"], unsure)


def _parts(recipe: Recipe, run: Run, index: Index) -> Iterator[tuple[str, float, float]]:
    """(file name, USD, of that maybe) of each traces and spending file."""
    for name, teacher, known, prompt, completion in index.costs("traces"):
        if OURS.fullmatch(name):
            section = recipe.teacher.get(teacher)
            usage = Usage(prompt_tokens=prompt, completion_tokens=completion)
            yield name, known + (cost_usd(usage, section.price) or 0.0 if section else 0.0), 0.0
    for path in spending_files(run.folder):
        book = _book(path, index)
        still_open = sum(book.open.values())
        yield path.name, book.lost_usd + still_open, book.maybe_usd + still_open


def _book(path: Path, index: Index) -> Book:
    return read_book(path, lambda ids: index.has_traces("traces", ids))


class Account(NamedTuple):
    """The account of a harvest that is going on."""

    spending: Spending
    before: Spent
    """What was spent when it began, what a kill left included."""

    @property
    def total_usd(self) -> float:
        """By the whole run so far."""
        return self.before.same_split + self.before.others + self.spending.spent_usd

    @property
    def maybe_usd(self) -> float:
        """Of that: for requests of which nobody here knows whether they were billed."""
        return self.before.maybe + self.spending.maybe_usd


@contextmanager
def opened(recipe: Recipe, run: Run, shard: tuple[int, int]) -> Iterator[Account]:
    """The account of this part, with its ledger open. Raises LockedError, StorageError.

    What a kill left reserved is settled here.
    """
    path = spending_file(run.folder, shard)
    with Ledger(path) as ledger:
        with run.index() as index:
            index.catch_up("traces", run.ledger_folder("traces"))
            before = spent(recipe, run, index, shard)
            left_over = _book(path, index).open
        budget = recipe.harvest.budget_usd
        spending = Spending(
            ledger, None if budget is None else before.share_usd(budget, shard[1]), before.own
        )
        spending.close_left_over(left_over)
        yield Account(spending, before)
