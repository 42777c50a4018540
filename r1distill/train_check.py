"""VERB, without training: `train --check` proves what the student would learn, `train --emit` writes it for others to train.

In: what `train` reads. Out: a CheckSummary and nothing on disk; or a folder with tokenised rows and a YAML for `trl sft`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from r1distill.errors import InputError
from r1distill.objectives import settings
from r1distill.objectives.quiet import prepare_environment, quiet
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.show import Show
from r1distill.train_summary import CheckSummary, EmitSummary
from r1distill.training_inputs import need_student, read_rows, speaker, stage_of, student_of

__all__ = ["CheckSummary", "EmitSummary", "check", "emit"]


def check(recipe: Recipe, run: Run, *, show: Show | None = None) -> CheckSummary:
    """Prove, before any training, what the student would learn; writes nothing but the cache of a GGUF student.

    A failed proof is `failure` in the summary. Raises as `train` does where nothing can be proven: no filter result, no
    such student, no chat template, settings refused, no row left.
    """
    show = speaker(show)
    need_student(recipe)
    settings.check_values(recipe.train)
    rows = read_rows(run)
    student = student_of(recipe)
    assert student is not None
    stage = stage_of(recipe, student, rows)
    prepare_environment()
    with quiet():
        from r1distill.objectives import preflight, prepare

        ready = prepare.prepare(
            recipe.train, student, rows.train, rows.validation, run.stage("train", stage), show
        )
        prepare.tell(ready, show)
    failure = preflight.failure(ready.findings)
    if failure is None:
        show.note(f"The preflight passed: {len(ready.job.rows):,} rows are ready to train on.")
    return CheckSummary(
        stage_id=stage, base=student.base, method=recipe.train.method, passed=failure is None, failure=failure,
        rows=len(ready.job.rows), validation_rows=len(ready.job.validation),
        validation_rows_dropped=ready.validation.dropped, rows_too_long=ready.too_long,
        rows_dropped_no_target=ready.no_target, rows_dropped_control_tokens=ready.control_tokens,
        rows_dropped_changed=ready.changed, longest_row_tokens=ready.longest_tokens,
        findings=msgspec.to_builtins(ready.findings), shown=ready.shown, estimate=msgspec.to_builtins(ready.footprint),
    )  # fmt: skip


def emit(
    recipe: Recipe, run: Run, to: Path, *, dry_run: bool = False, show: Show | None = None
) -> EmitSummary:
    """Write the tokenised rows and a YAML for `trl sft` into `to`, for another machine to train.

    Raises as `check` does, InputError for a failed proof or a folder that holds anything else, StorageError.
    """
    show = speaker(show)
    need_student(recipe)
    settings.check_values(recipe.train)
    rows = read_rows(run)
    student = student_of(recipe)
    assert student is not None
    prepare_environment()
    with quiet():
        from r1distill.objectives import emit as writer
        from r1distill.objectives import preflight, prepare

        writer.refuse_other_folders(to)
        ready = prepare.prepare(recipe.train, student, rows.train, rows.validation, to, show)
        failure = preflight.failure(ready.findings)
        if failure:
            raise InputError(failure)
        files = [] if dry_run else writer.emit(ready, to)
        left = writer.not_handed_on(ready.job)
    show.note(
        f"{'Would write' if dry_run else 'Wrote'} {len(ready.job.rows):,} tokenised rows and {writer.YAML} to {to}; "
        f"there: trl sft --config {writer.YAML}"
    )
    if left:
        show.note(f"trl sft has no option for these keys of train.lora: {', '.join(left)}.")
    return EmitSummary(
        folder=str(to), files=[str(path.relative_to(to)) for path in files], base=student.base, rows=len(ready.job.rows),
        validation_rows=len(ready.job.validation), not_handed_on=left,
    )  # fmt: skip
