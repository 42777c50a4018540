"""VERB evaluate: teacher, base and student on held-out problems, asked and graded in the same way (exam.py).

In: a recipe and the adapter of the last training. Out: answers in evaluate/traces/ (a ledger like a harvest's), and
evaluate/<id>/ with answers.jsonl (one graded row per answer) and summary.json (scores, differences, sizes); the scores also
go into the card of the trained student.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from r1distill.evaluate_summary import EvaluateSummary, percent
from r1distill.exam import evaluate_section, examine, problem_sets, sampling_of
from r1distill.ledger import write_atomic
from r1distill.model_card import put_scores
from r1distill.recipe import Recipe
from r1distill.records import Prompt, digest
from r1distill.run import Run, stage_id
from r1distill.runtime import Contestant, contestants
from r1distill.scores import MODES, GradedAnswer, score_all
from r1distill.show import Show


def evaluate(recipe: Recipe, run: Run, *, dry_run: bool = False, show: Show | None = None) -> EvaluateSummary:
    """Score the recipe's models on its held-out problems. Raises R1DistillError."""
    show, started = show or Show(0), time.monotonic()
    section = evaluate_section(recipe)
    sets, sampling = problem_sets(recipe, section), sampling_of(recipe, section)
    models = contestants(recipe, run, section.models, sampling)
    exam = examine(recipe, run, models, sets, dry_run=dry_run, show=show)
    identity = _identity(models, sampling, section.samples, sets, exam.rows)
    done = run.latest("evaluate")
    up_to_date = done is not None and done[0].name == identity
    scores, differences = score_all(exam.rows)
    summary = EvaluateSummary(
        stage_id=identity, folder=str(run.stage("evaluate", identity)), scores=scores, differences=differences,
        models={m.party.name: m.facts for m in models}, sampling=sampling, in_flight=recipe.harvest.max_in_flight,
        asked=exam.asked, still_owed=exam.still_owed, unanswered=exam.unanswered,
        elapsed_s=round(time.monotonic() - started, 2), interrupted=exam.interrupted, up_to_date=up_to_date, dry_run=dry_run,
    )  # fmt: skip
    if not dry_run and not up_to_date and not exam.interrupted and exam.rows:
        _keep(recipe, run, summary, exam.rows)
    if not dry_run and not exam.interrupted and not exam.still_owed and "student" in section.models:
        _tell_the_card(run, summary)
    return summary


def _identity(
    models: list[Contestant],
    sampling: dict[str, Any],
    samples: int,
    sets: dict[str, list[Prompt]],
    rows: list[GradedAnswer],
) -> str:
    """The id of the stage: who was asked what and how, and how the answers were graded."""
    settings = {"models": [m.party.model for m in models], "sampling": sampling, "samples": samples}
    references = [
        digest([name, p.id, p.question, p.answer, p.answer_kind, *([] if p.tests is None else [p.tests])])
        for name, prompts in sets.items()
        for p in prompts
    ]
    graded = [digest([row.trace_id, row.outcome, row.how, row.extracted]) for row in rows]
    return stage_id(settings, [*references, *graded])


def _keep(recipe: Recipe, run: Run, summary: EvaluateSummary, rows: list[GradedAnswer]) -> None:
    """Write evaluate/<id>/ and point `latest` there."""
    run.save_recipe(recipe)
    write_atomic(
        run.stage("evaluate", summary.stage_id) / "answers.jsonl",
        b"".join(msgspec.json.encode(r) + b"\n" for r in rows),
    )
    run.finish_stage("evaluate", summary.stage_id, msgspec.to_builtins(summary))


def _tell_the_card(run: Run, summary: EvaluateSummary) -> None:
    """Put the scores into the card beside the trained weights, those of this very student."""
    trained = run.latest("train")
    if trained is None:
        return
    lines = [
        (
            f"{s.who} on {s.problems}, pass@1 {mode} ({s.n_problems:,} problems, 95%)",
            percent(getattr(s, mode)),
        )
        for s in summary.scores
        for mode in MODES
    ]
    lines += [("compared", difference.sentence()) for difference in summary.differences]
    for weights in ("adapter", "model"):
        put_scores(trained[0] / weights / "README.md", lines)
