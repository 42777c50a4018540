"""Models on held-out problems, through one asking path and one grading path.

In: what a recipe's [evaluate] says, and models that can be served. Out: answers in evaluate/traces/ (a ledger like a
harvest's), and a graded row for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from r1distill.ask import Asker
from r1distill.asking.desk import Terms
from r1distill.asking.owed import Wanted, owed, want
from r1distill.checks import build_checks
from r1distill.checks.correct import Correct
from r1distill.checks.grading import grade_many
from r1distill.checks.running import CodeRun
from r1distill.errors import RecipeError
from r1distill.ledger import Ledger
from r1distill.problems import load_problems
from r1distill.recipe import Recipe
from r1distill.recipe_sections import EvaluateSection, PromptsSection
from r1distill.records import Prompt, Trace
from r1distill.run import Run
from r1distill.runtime import Contestant
from r1distill.scores import GradedAnswer
from r1distill.show import Show


class Exam(NamedTuple):
    """Held-out problems asked and graded."""

    rows: list[GradedAnswer]
    """In the order of models, sets, problems, samples."""
    asked: int
    still_owed: int
    unanswered: int
    interrupted: bool


def evaluate_section(recipe: Recipe) -> EvaluateSection:
    """The recipe's [evaluate] table. Raises RecipeError when it has none."""
    if recipe.evaluate is None:
        raise RecipeError(
            "The recipe has no [evaluate] table; name held-out problems there: evaluate.problems."
        )
    return recipe.evaluate


def sampling_of(recipe: Recipe, section: EvaluateSection) -> dict[str, Any]:
    """How models are sampled: evaluate.sampling, else as the first teacher is."""
    if section.sampling is not None:
        return section.sampling
    return next((teacher.sampling for teacher in recipe.teacher.values()), {})


def problem_sets(recipe: Recipe, section: EvaluateSection) -> dict[str, list[Prompt]]:
    """The held-out problems by the name of their set. Raises InputError, RecipeError."""
    files = section.problems if isinstance(section.problems, dict) else {"heldout": section.problems}
    kind = section.answer_kind or (recipe.prompts.answer_kind if recipe.prompts else "math")
    columns = section.columns or (recipe.prompts.columns if recipe.prompts else {})
    return {
        name: load_problems(
            recipe, PromptsSection(problems=file, columns=columns, answer_kind=kind, limit=section.limit)
        )[0]
        for name, file in files.items()
    }  # fmt: skip


def examine(
    recipe: Recipe,
    run: Run,
    models: list[Contestant],
    sets: dict[str, list[Prompt]],
    *,
    dry_run: bool,
    show: Show,
) -> Exam:
    """Ask each model for the answers still owed, then grade all there are; a dry run only counts. Raises R1DistillError."""
    samples = evaluate_section(recipe).samples
    asked, interrupted = 0, False
    for model in models:
        count, interrupted = _ask(recipe, run, model, sets, samples, dry_run, show)
        asked += count
        if interrupted:
            break
    if dry_run:
        return Exam([], asked, asked, 0, interrupted)
    code = _code_run(recipe, sets)
    if code is not None:
        show.note(code.box.sentence())
    rows, still_owed, unanswered = _graded(run, models, sets, samples, code)
    return Exam(rows, asked, still_owed, unanswered, interrupted)


def _wanted(
    model: Contestant, sets: dict[str, list[Prompt]], samples: int
) -> Iterator[tuple[str, Prompt, Wanted]]:
    for name, prompts in sets.items():
        for prompt in prompts:
            messages = model.party.template.messages(prompt)
            for sample in range(samples):
                yield name, prompt, want(model.party, prompt, messages, sample)


def _ask(
    recipe: Recipe,
    run: Run,
    model: Contestant,
    sets: dict[str, list[Prompt]],
    samples: int,
    dry_run: bool,
    show: Show,
) -> tuple[int, bool]:
    """Ask one model for what is owed: (answers asked for, interrupted)."""
    wanted = [item for _, _, item in _wanted(model, sets, samples)]
    left = _owed(run, wanted)
    if dry_run or not left:
        return len(left), False
    name = model.party.name
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(run.ledger_folder("evaluate") / "part-1-of-1.jsonl"))
        failures = stack.enter_context(Ledger(run.failures_file("evaluate")))
        left = _owed(run, wanted)  # again with the writer lock: now nobody else is getting the same answers
        endpoint = stack.enter_context(model.open(run.log_file(f"evaluate-{name}")))
        asker = Asker(
            {name: endpoint},
            recipe.harvest,
            ledger,
            failures,
            terms={name: Terms(model.price, for_traces=False)},
            show=show,
        )
        tally = asker.run({name: left}, f"evaluate {name}")
    return tally.asked, tally.interrupted


def _owed(run: Run, wanted: list[Wanted]) -> list[Wanted]:
    with run.index() as index:
        index.catch_up("evaluate", run.ledger_folder("evaluate"))
        return owed(wanted, index, "evaluate")


def _code_run(recipe: Recipe, sets: dict[str, list[Prompt]]) -> CodeRun | None:
    """How code answers are run: as the filter's check `correct` says; None when none are asked for, or none may be run."""
    table = recipe.filter.checks.get("correct")
    if table is None or not any(p.answer_kind == "code" for prompts in sets.values() for p in prompts):
        return None
    check = build_checks({"correct": table}, recipe.folder)["correct"]
    return check.code if isinstance(check, Correct) else None


def _graded(
    run: Run, models: list[Contestant], sets: dict[str, list[Prompt]], samples: int, code: CodeRun | None
) -> tuple[list[GradedAnswer], int, int]:
    """(graded rows in order of models, sets, problems, samples; answers still owed; answers that failed for good)."""
    wanted = [(name, prompt, item) for m in models for name, prompt, item in _wanted(m, sets, samples)]
    with run.index() as index:
        index.catch_up("evaluate", run.ledger_folder("evaluate"))
        newest = index.newest("evaluate")
        left = owed((item for _, _, item in wanted), index, "evaluate")
        failed = index.final_failures("evaluate")
    found = [(name, prompt, newest[item.slot]) for name, prompt, item in wanted if item.slot in newest]
    lost = [
        _failed_row(*place) for place in wanted if place[2].slot in failed and place[2].slot not in newest
    ]
    traces = [trace for _, trace in run.read_traces("evaluate", [ref for _, _, ref in found])]
    kinds = [
        (prompt.answer_kind, prompt.answer, trace.answer, prompt.tests)
        for (_, prompt, _), trace in zip(found, traces, strict=True)
    ]
    rows = [
        _row(name, prompt, trace, grade)
        for (name, prompt, _), trace, grade in zip(found, traces, grade_many(kinds, code=code), strict=True)
    ]
    return [*rows, *lost], len(left), len(lost)


def _failed_row(name: str, prompt: Prompt, item: Wanted) -> GradedAnswer:
    """A request that failed for good counts as wrong: leaving it out would make the model look better."""
    return GradedAnswer(
        trace_id=f"failed:{item.slot}", who=item.teacher, problems=name, prompt_id=prompt.id, sample=item.sample,
        lenient=False, strict=False, in_form=False, outcome="failed", extracted=None, how=None, finish="unknown",
        completion_tokens=None, latency_s=None,
    )  # fmt: skip


def _row(name: str, prompt: Prompt, trace: Trace, grade: Any) -> GradedAnswer:
    marked = grade.how is not None and not grade.how.startswith("last_")
    return GradedAnswer(
        trace_id=trace.id, who=trace.teacher, problems=name, prompt_id=prompt.id, sample=trace.sample,
        lenient=grade.right(strict=False), strict=grade.right(strict=True), in_form=bool(trace.reasoning) and marked,
        outcome=grade.outcome, extracted=grade.extracted, how=grade.how, finish=trace.finish,
        completion_tokens=trace.usage.completion_tokens, latency_s=trace.latency_s,
    )  # fmt: skip
