"""VERB status: what a run folder holds now; reads only, also beside a running harvest."""

from __future__ import annotations

from typing import Any

import msgspec

from r1distill.account import spent
from r1distill.batch_ledger import slots_out
from r1distill.errors import R1DistillError
from r1distill.live import live
from r1distill.owed import Plan, harvest_plan
from r1distill.recipe import Recipe
from r1distill.run import PromptFile, Run
from r1distill.show import Show, dollars, duration

STAGES = ("filter", "train", "evaluate")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run."""

    folder: str
    prompts: int
    wanted: int | None
    """Answers that the recipe wants; None when that can't be told (a file of the recipe is gone)."""
    owed: int | None
    out_in_batches: int
    """Of the owed ones, those that wait in batches."""
    teachers: list[dict[str, Any]]
    failures: dict[str, int]
    """Requests that were given up, by error class."""
    spent_usd: float
    """By the harvest so far, lost attempts included, as far as it is known."""
    budget_usd: float | None
    harvesting: dict[str, dict[str, Any]]
    """Harvests that are going on, by part: what they did in this call."""
    stages: dict[str, str]
    """The id of the current result of each stage that has one."""
    unreadable: list[str]


def status(recipe: Recipe, run: Run) -> Status:
    """Count what is there and what is owed. Raises InputError when there is no run yet."""
    prompts = run.prompts_file()
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        plan = _plan(recipe, run, prompts, index)
        return Status(
            folder=str(run.folder), prompts=sum(1 for _ in prompts), wanted=plan.wanted if plan else None,
            owed=plan.still_owed + plan.out if plan else None, out_in_batches=plan.out if plan else 0,
            teachers=index.totals("traces"), failures=index.failure_counts("traces"),
            spent_usd=spent(recipe, run, index).total, budget_usd=recipe.harvest.budget_usd, harvesting=live(run),
            unreadable=index.unreadable,
            stages={verb: found[0].name for verb in STAGES if (found := run.latest(verb))},
        )  # fmt: skip


def _plan(recipe: Recipe, run: Run, prompts: PromptFile, index: Any) -> Plan | None:
    try:
        return harvest_plan(recipe, prompts).look(index, "traces", out=slots_out(run))
    except R1DistillError:
        return None


def tell(state: Status, show: Show) -> None:
    """Print a status for people."""
    wanted = "unknown" if state.wanted is None else f"{state.wanted:,}"
    left = "unknown" if state.owed is None else f"{state.owed:,}"
    show.note(f"{state.folder}: {state.prompts:,} problems, {wanted} answers wanted, {left} still owed.")
    rows = [
        (t["teacher"], f"{t['traces']:,}", f"{t['truncated']:,}", _tokens(t["prompt_tokens"]), _tokens(t["completion_tokens"]),
         dollars(None if t["cost_unknown"] else t["cost_usd"]))
        for t in state.teachers
    ]  # fmt: skip
    if state.out_in_batches:
        show.note(f"{state.out_in_batches:,} of them are out in batches.")
    if state.spent_usd or state.budget_usd:
        budget = f" of the budget of {dollars(state.budget_usd)}" if state.budget_usd is not None else ""
        show.note(f"Spent{budget}: {dollars(state.spent_usd)}, lost attempts included.")
    for part, now in state.harvesting.items():
        show.note(
            f"harvesting now ({part}, pid {now['pid']}): {now['done']:,}/{now['total']:,}, {now['line']}{_left(now)}"
        )
    show.table("Traces", ("teacher", "traces", "cut", "prompt tokens", "completion tokens", "cost"), rows)
    show.table("Failed requests", ("class", "count"), list(state.failures.items()))
    for verb, stage in state.stages.items():
        show.note(f"{verb}: {state.folder}/{verb}/{stage}")
    for place in state.unreadable:
        show.note(f"{place}: an unreadable row was passed over.")


def _tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _left(now: dict[str, Any]) -> str:
    done, total = now["done"], now["total"]
    return f", {duration(now['elapsed_s'] / done * (total - done))} left" if done and done < total else ""
