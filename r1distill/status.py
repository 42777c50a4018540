"""VERB status: what a run folder holds now; reads only, also beside a running harvest."""

from __future__ import annotations

from typing import Any

import msgspec

from r1distill.errors import R1DistillError
from r1distill.owed import harvest_wanted, owed
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.show import Show, dollars

STAGES = ("filter", "train", "evaluate")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run."""

    folder: str
    prompts: int
    wanted: int | None
    """Answers that the recipe wants; None when that can't be told (a file of the recipe is gone)."""
    owed: int | None
    teachers: list[dict[str, Any]]
    failures: dict[str, int]
    stages: dict[str, str]
    """The id of the current result of each stage that has one."""
    unreadable: list[str]


def status(recipe: Recipe, run: Run) -> Status:
    """Count what is there and what is owed. Raises InputError when there is no run yet."""
    prompts = run.prompts()
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        try:
            left, settled = owed(harvest_wanted(recipe, prompts), index, "traces")
            wanted: int | None = settled + len(left)
            open_slots: int | None = len(left)
        except R1DistillError:
            wanted = open_slots = None
        return Status(
            folder=str(run.folder), prompts=len(prompts), wanted=wanted, owed=open_slots, teachers=index.totals("traces"),
            failures=index.failure_counts("traces"), unreadable=index.unreadable,
            stages={verb: found[0].name for verb in STAGES if (found := run.latest(verb))},
        )  # fmt: skip


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
    show.table("Traces", ("teacher", "traces", "cut", "prompt tokens", "completion tokens", "cost"), rows)
    show.table("Failed requests", ("class", "count"), list(state.failures.items()))
    for verb, stage in state.stages.items():
        show.note(f"{verb}: {state.folder}/{verb}/{stage}")
    for place in state.unreadable:
        show.note(f"{place}: an unreadable row was passed over.")


def _tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
