"""The whole job in one go: harvest, filter, train, evaluate, report. What is up to date is skipped, and said so.

During the harvest the first trace that would be kept and the first that would be rejected are shown, so that a wrong
prompt or template is seen while it is still cheap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from r1distill.checks import Check, Job, build_checks
from r1distill.errors import InputError
from r1distill.evaluate import evaluate
from r1distill.evaluate_summary import tell as tell_scores
from r1distill.filter import filter as filter_traces
from r1distill.filtering.judging import check_judges
from r1distill.harvest import harvest
from r1distill.harvest_summary import HarvestSummary
from r1distill.harvest_summary import tell as tell_harvest
from r1distill.problems import load_problems
from r1distill.prompts import load_template, student_template
from r1distill.recipe import Recipe
from r1distill.records import Prompt, Trace
from r1distill.report import report
from r1distill.run import Run
from r1distill.show import Show, duration
from r1distill.teachers.endpoints import checked_for
from r1distill.thinking import OPEN, join_thinking
from r1distill.train import train

SHOWN_CHARS = 600
"""So much of an example trace is printed."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the stages reported, by verb, and how long each took."""

    stages: dict[str, Any]
    elapsed_s: dict[str, float]
    still_owed: int = 0
    interrupted: bool = False


def run_all(recipe: Recipe, run: Run, *, dry_run: bool = False, show: Show | None = None) -> RunSummary:
    """Run every stage that the recipe has settings for. Raises R1DistillError; what is done stays done."""
    show = show or Show(0)
    check_recipe(recipe)
    stages: dict[str, Any] = {}
    elapsed_s: dict[str, float] = {}
    for name, stage in _stages(recipe, run, dry_run, show):
        started = time.monotonic()
        show.note(f"\n== {name}")
        try:
            stages[name] = stage()
        except InputError as error:
            if not dry_run or not stages:
                raise
            show.note("Can't be told before the stages in front of it have run.")
            show.note(str(error), 2)
            continue
        elapsed_s[name] = round(time.monotonic() - started, 2)
        if getattr(stages[name], "interrupted", False):
            show.note("Interrupted; everything received is kept. The same command goes on from here.", 0)
            break
    show.note("\n" + ", ".join(f"{name} {duration(seconds)}" for name, seconds in elapsed_s.items()))
    return RunSummary(
        stages={name: msgspec.to_builtins(summary) for name, summary in stages.items()},
        elapsed_s=elapsed_s,
        still_owed=sum(getattr(summary, "still_owed", 0) for summary in stages.values()),
        interrupted=any(getattr(summary, "interrupted", False) for summary in stages.values()),
    )


def check_recipe(recipe: Recipe) -> None:
    """Find now what a later stage would stumble over: teachers, checks, templates. Raises RecipeError."""
    check_judges(recipe, build_checks(recipe.filter.checks, recipe.folder))
    for name, section in recipe.teacher.items():
        checked_for(name, section, recipe.harvest)
        if section.template is not None:
            load_template(section.template, recipe)
    if recipe.prompts is not None or recipe.student is not None:
        student_template(recipe)


def _stages(recipe: Recipe, run: Run, dry_run: bool, show: Show) -> list[tuple[str, Callable[[], Any]]]:
    def scored() -> Any:
        summary = evaluate(recipe, run, dry_run=dry_run, show=show)
        if summary.up_to_date:
            show.note(f"Evaluate: up to date ({summary.folder}).")
        tell_scores(summary, show)
        return summary

    stages: list[tuple[str, Callable[[], Any]]] = [
        ("harvest", lambda: _harvest(recipe, run, dry_run, show)),
        ("filter", lambda: filter_traces(recipe, run, dry_run=dry_run, show=show)),
    ]
    if recipe.student is not None:
        stages.append(("train", lambda: train(recipe, run, dry_run=dry_run, show=show)))
    if recipe.evaluate is not None:
        stages.append(("evaluate", scored))
    stages.append(("report", lambda: report(recipe, run, dry_run=dry_run, show=show)))
    return stages


def _harvest(recipe: Recipe, run: Run, dry_run: bool, show: Show) -> HarvestSummary:
    preview = Preview(recipe, load_problems(recipe)[0], show)
    summary = harvest(recipe, run, dry_run=dry_run, show=show, on_trace=preview)
    tell_harvest(summary, show)
    return summary


class Preview:
    """Called with every new trace: shows the first that today's checks would keep and the first they would reject.

    Only shipped checks that look at one trace alone are asked (a user's own may fail, and must not stop a harvest), and
    answers that need computer algebra are passed over.
    """

    def __init__(self, recipe: Recipe, prompts: list[Prompt], show: Show) -> None:
        checks = build_checks(recipe.filter.checks, recipe.folder)
        self.checks = {name: check for name, check in checks.items() if _is_quick(check)}
        self.prompts = {prompt.id: prompt for prompt in prompts}
        self.show = show
        self.open = {True, False}

    def __call__(self, trace: Trace) -> None:
        """Show the trace if it is the first of its kind."""
        if not self.open:
            return
        found = [self._reason(name, check, trace) for name, check in self.checks.items()]
        if None in found:
            return
        reasons = [reason for reason in found if reason]
        kept = not reasons
        if kept in self.open:
            self.open.remove(kept)
            self.show.note(_example(self.prompts[trace.prompt_id], trace, reasons))

    def _reason(self, name: str, check: Check, trace: Trace) -> str | None:
        """Why the check would reject the trace; "" when it would not; None when that can't be told cheaply."""
        value = check.begin(self.prompts[trace.prompt_id], trace)
        if isinstance(value, Job):
            return None
        judgement = check.judge(value)
        return "" if check.keeps(judgement) else f"{name}: {judgement.reason}"


def _is_quick(check: Check) -> bool:
    shipped = type(check).__module__.startswith("r1distill.checks.")
    return shipped and not check.compares() and not check.in_worker


def _example(prompt: Prompt, trace: Trace, reasons: list[str]) -> str:
    title = f"rejected ({'; '.join(reasons)})" if reasons else "kept"
    said = join_thinking(trace.reasoning, trace.answer)
    if trace.reasoning_source == "unclosed":  # shown as it came: the closing tag is what is missing
        said = f"{OPEN}\n{trace.reasoning}"
    text = f"{prompt.question.strip()}\n{said}"
    shown = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + " ..."
    body = "\n".join(f"    {line}" for line in shown.splitlines() if line.strip())
    return f"  first trace {title}, the reference is {prompt.answer}:\n{body}"
