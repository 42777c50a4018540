"""VERB harvest: ask the teachers for what the recipe wants and the run folder does not have yet.

In: a recipe. Out: traces/part-i-of-n.jsonl (append-only), failures, spending, logprobs/, prompts.jsonl, a summary in
manifest.json, and while it runs its progress in logs/.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack

import msgspec

from r1distill.ask import Asker
from r1distill.asking.account import Account, check_budget, spent
from r1distill.asking.live import LiveFile
from r1distill.asking.owed import harvest_plan
from r1distill.asking.tally import Tally
from r1distill.batches.ledger import slots_out
from r1distill.errors import StopRunError
from r1distill.estimates import estimates
from r1distill.harvest_files import Files, open_files
from r1distill.harvest_summary import HarvestSummary, started, summarise
from r1distill.harvest_terms import check_keys, terms_of
from r1distill.index import Index
from r1distill.problems import ProblemSet
from r1distill.recipe import Recipe
from r1distill.records import Trace
from r1distill.run import Run
from r1distill.shards import Shard, in_shard
from r1distill.show import Show
from r1distill.teachers.endpoints import open_endpoint
from r1distill.teachers.notes import recipe_notes


def harvest(
    recipe: Recipe,
    run: Run,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    pilot: int | None = None,
    shard: Shard = (1, 1),
    retry_failed: bool = False,
    show: Show | None = None,
    on_trace: Callable[[Trace], None] | None = None,
) -> HarvestSummary:
    """Ask for all owed answers: `limit` at most, or `pilot` ones spread over all; those of `shard` (i of n) only.

    Raises R1DistillError; what was received before is kept. A StopRunError carries the summary, as the manifest does.
    """
    job = Harvest(recipe, run, shard, retry_failed, show or Show(0), on_trace)
    if dry_run:
        return job.look_only(limit, pilot)
    return job.ask(limit, pilot)


class Harvest:
    """One call of the verb."""

    def __init__(
        self, recipe: Recipe, run: Run, shard: Shard, retry_failed: bool, show: Show,
        on_trace: Callable[[Trace], None] | None,
    ) -> None:  # fmt: skip
        self.recipe, self.run, self.shard, self._retry_failed_now = recipe, run, shard, retry_failed
        self.show, self.on_trace = show, on_trace
        self.problems = ProblemSet(recipe)
        self.plan = harvest_plan(recipe, self.problems)
        check_budget(recipe)
        self.warnings = [*self.problems.warnings, *recipe_notes(recipe)]
        self._left_alone: set[str] = set()
        """With a fallback: slots that a teacher gave up, to be asked of the next one."""
        self._gone: set[str] = set()
        """With a fallback: teachers that can't be asked any more in this call."""

    def look_only(self, limit: int | None, pilot: int | None) -> HarvestSummary:
        """What a harvest would ask for and cost; nothing is written."""
        with self.run.index(write=False) as index:
            self._look(index)
            chosen = self._chosen(limit, pilot)
            found = estimates(self.recipe, self.run, self.plan, index, chosen)
            so_far = spent(self.recipe, self.run, index, self.shard)
        budget = self.recipe.harvest.budget_usd
        before = started(self.plan, len(self.problems), self.warnings, so_far.total, budget)
        return msgspec.structs.replace(
            before,
            dry_run=True,
            would_ask=self.plan.left(chosen).total(),
            estimates=found,
            shard=self.shard,
            maybe_usd=so_far.maybe,
            share_usd=None if budget is None else so_far.share_usd(budget, self.shard[1]),
        )

    def ask(self, limit: int | None, pilot: int | None) -> HarvestSummary:
        """Do it. A StopRunError carries the summary of what was done before."""
        if not self.run.folder.exists():
            check_keys(self.recipe, list(self.recipe.teacher))  # before there is anything on the disk
        with open_files(self.recipe, self.run, self.shard) as files:
            self.warnings += files.torn
            self.run.save_recipe(self.recipe)
            self.plan.prompts = self.run.save_prompts(self.problems)
            with self.run.index() as index:
                self._look(index)
            before = started(
                self.plan,
                len(self.problems),
                self.warnings,
                files.account.total_usd,
                self.recipe.harvest.budget_usd,
            )
            for text in before.warnings:  # before anything is paid
                self.show.note_once(text)
            self._retry_failed_now = False  # what fails from now on is not asked again in this call
            tally, stop = self._rounds(files, limit, pilot)
            summary = summarise(before, tally, self._still_owed(before, tally), stop)
            summary = self._finish(summary, files.account, pilot)
        if stop is not None:
            stop.summary = summary
            raise stop
        return summary

    def _still_owed(self, before: HarvestSummary, tally: Tally) -> int:
        """Counted where that is exact; where answers settle in more than one step, by a fresh look."""
        if self.recipe.harvest.assign != "fallback" and self.recipe.harvest.escalate is None:
            return max(0, before.still_owed - tally.settled)
        with self.run.index() as index:
            self._look(index)
        return self.plan.still_owed

    def _finish(self, summary: HarvestSummary, account: Account, pilot: int | None) -> HarvestSummary:
        """Add what only the files tell, and note the summary in the manifest (if anything was asked)."""
        with self.run.index() as index:
            index.catch_up("traces", self.run.ledger_folder("traces"))
            if pilot:
                self._look(index)
            rest = estimates(self.recipe, self.run, self.plan, index) if pilot else []
            teachers = index.totals("traces")
        summary = msgspec.structs.replace(
            summary,
            spent_usd=account.total_usd,
            maybe_usd=account.maybe_usd,
            share_usd=account.spending.limit_usd,
            shard=self.shard,
            estimates=rest,
            teachers=teachers,
            pilot=bool(pilot),
        )
        key = "harvest" if self.shard == (1, 1) else f"harvest {self.shard[0]}/{self.shard[1]}"
        if summary.asked or key not in self.run.manifest():
            self.run.update_manifest(key, msgspec.to_builtins(summary))
        return summary

    def _look(self, index: Index) -> None:
        index.catch_up("traces", self.run.ledger_folder("traces"))
        self.warnings += [
            text
            for place in index.unreadable
            if (text := f"{place}: an unreadable row was passed over.") not in self.warnings
        ]
        self.plan.look(
            index,
            "traces",
            retry_failed=self._retry_failed_now,
            mine=lambda slot: in_shard(slot, self.shard),
            out=slots_out(self.run),
            passed=self._left_alone,
            gone=self._gone,
        )

    def _chosen(self, limit: int | None, pilot: int | None) -> Collection[int] | None:
        """The positions of the plan to ask for; None: all. With a fallback they name answers, whoever gives them."""
        if pilot is not None:
            return self.plan.with_others(self.plan.spread(pilot))
        return None if limit is None else self.plan.with_others(self.plan.first(limit))

    def _rounds(
        self, files: Files, limit: int | None, pilot: int | None
    ) -> tuple[Tally, StopRunError | None]:
        """Ask, with a fallback as often as it takes to have tried every teacher: (what was done, why it stopped)."""
        tally, stop = Tally(budget_usd=files.account.spending.limit_usd), None
        chosen = self._chosen(limit, pilot)
        for _ in range(len(self.plan.parties) if self.recipe.harvest.assign == "fallback" else 1):
            counts = self.plan.left(chosen)
            if not counts:
                break
            stop = self._asked(files, counts, chosen, tally)
            if self.recipe.harvest.assign != "fallback" or tally.interrupted or tally.over_budget:
                break
            self._left_alone |= tally.given_up
            self._gone |= set(tally.stopped)
            with self.run.index() as index:
                self._look(index)
            if stop is not None and self.plan.left(chosen):
                self.show.note(f"{stop} The next teacher goes on.")
                tally.warnings.append(str(stop))
                stop = None
        return tally, stop

    def _asked(
        self, files: Files, counts: dict[str, int], chosen: Collection[int] | None, tally: Tally
    ) -> StopRunError | None:
        """One round, counted on in `tally`; returns why a teacher stopped."""
        recipe = self.recipe
        check_keys(recipe, list(counts))
        tally.given_up, tally.stopped, tally.settled_before = set(), {}, tally.settled
        with ExitStack() as stack:
            endpoints = {
                name: stack.enter_context(
                    open_endpoint(name, recipe.teacher[name], recipe, self.run.log_file(f"teacher-{name}"))
                )
                for name in counts
            }
            live = LiveFile(self.run, self.shard, sum(counts.values()))
            asker = Asker(
                endpoints, recipe.harvest, files.traces, files.failures, tally=tally,
                terms=terms_of(recipe, self.run, self.plan.parties, list(counts)),
                spending=files.account.spending, store=files.store, escalate=recipe.harvest.escalate,
                reasoning_required=recipe.harvest.reasoning == "required", top_logprobs=recipe.harvest.top_logprobs,
                show=self.show, on_trace=self.on_trace, on_tick=live.write,
            )  # fmt: skip
            stack.callback(live.remove)
            try:
                asker.run({name: self.plan.items(name, chosen) for name in counts}, "harvest", counts)
            except StopRunError as stop:
                return stop
        return None
