"""VERB: the student learns from the kept traces.

In: train.jsonl and val.jsonl of the run's current filter result, and [student] and [train] of the recipe. Out, in
train/<id>/: adapter/ (PEFT) or model/ (all weights), with a model card; adapter.gguf for a GGUF student, metrics.jsonl,
loss.svg, example.txt (three rows as the student sees them), preflight.json, summary.json. The same settings, base
and rows again: nothing to do; an interrupted training of the same id continues from its last checkpoint. torch and its
friends are imported only when training starts. Under `accelerate launch` every process calls the same; the first writes.
"""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from r1distill import plots
from r1distill.errors import LockedError
from r1distill.ledger import read_lines, storage_errors, write_atomic
from r1distill.model_card import Author, model_card
from r1distill.objectives import settings
from r1distill.objectives.quiet import prepare_environment, quiet
from r1distill.objectives.students import Student
from r1distill.recipe import Recipe
from r1distill.records import Example
from r1distill.run import Run, read_json
from r1distill.show import Show, counted, duration
from r1distill.train_summary import TrainSummary
from r1distill.training_inputs import Rows, need_student, read_rows, speaker, stage_of, student_of
from r1distill.weights import trained_weights

__all__ = ["TrainSummary", "train"]

CHARACTERS_PER_TOKEN = 3.5
"""English reasoning in today's tokenizers, roughly; only --dry-run estimates with it."""


def train(recipe: Recipe, run: Run, *, dry_run: bool = False, show: Show | None = None) -> TrainSummary:
    """Fine-tune the student on the run's kept traces and point train/latest to the result.

    Raises InputError (no filter result, no such student), NothingKeptError (no row is left to train on),
    RecipeError (no [student], settings refused), MissingPackageError, StorageError; KeyboardInterrupt after a
    checkpoint was saved.
    """
    show = speaker(show)
    need_student(recipe)
    settings.check_values(recipe.train)
    rows = read_rows(run)
    student = student_of(recipe, fetch=not dry_run)
    stage = stage_of(recipe, student, rows)
    done = read_json(run.stage("train", stage) / "summary.json")
    lost = _lost(run.stage("train", stage), done) if done is not None else None
    if done is not None and lost is None:
        return _up_to_date(recipe, run, done, dry_run, show)
    if lost is not None:
        show.note(f"{lost} is gone or empty, so the student {'would be' if dry_run else 'is'} trained again.")
    if dry_run or student is None:
        return _say_plan(recipe, run, stage, student, rows, show)
    if not settings.main_process():
        return _train(recipe, run, stage, student, rows, show)
    with _one_at_a_time(run):
        if lost is not None:  # else a kill on the way would leave it telling of weights that are not there
            with storage_errors(lost.parent):
                (lost.parent / "summary.json").unlink(missing_ok=True)
                shutil.rmtree(lost.parent / "merged", ignore_errors=True)  # made of the weights that are gone
        summary = _train(recipe, run, stage, student, rows, show)
        _write_card(recipe, summary, rows)
        run.save_recipe(recipe)
        run.finish_stage("train", stage, msgspec.to_builtins(summary))
        _drop_checkpoints(recipe, run.stage("train", stage))
    return summary


def _lost(folder: Path, done: dict[str, Any]) -> Path | None:
    """What a finished training left and is no longer there: its weights, or the adapter for llama.cpp."""
    if trained_weights(folder) is None:
        return folder / ("model" if done.get("method") == "full" else "adapter")
    gguf = folder / "adapter.gguf"
    return gguf if done.get("adapter_gguf") and not gguf.is_file() else None


def _drop_checkpoints(recipe: Recipe, folder: Path) -> None:
    """Only once the summary says that the training is done: a kill or a full disk before must not cost it."""
    if "save_strategy" not in recipe.train.sft:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _up_to_date(recipe: Recipe, run: Run, done: dict[str, Any], dry_run: bool, show: Show) -> TrainSummary:
    summary = msgspec.structs.replace(msgspec.convert(done, TrainSummary), up_to_date=True)
    if not dry_run:
        run.point_latest("train", summary.stage_id)
        if settings.main_process():
            _drop_checkpoints(recipe, run.stage("train", summary.stage_id))
    show.note(
        f"Training {summary.stage_id} is up to date: {counted(summary.rows, 'row')}, {counted(summary.steps, 'step')}."
    )
    return summary


def _say_plan(
    recipe: Recipe, run: Run, stage: str, student: Student | None, rows: Rows, show: Show
) -> TrainSummary:
    longest = max(_characters(example) for example in rows.train) / CHARACTERS_PER_TOKEN
    base = recipe.student.base if recipe.student else ""
    show.note(
        f"Would train {base}{'' if student else ' (fetched from the hub first)'} on {len(rows.train):,} rows, "
        f"validate on {len(rows.validation):,}; the longest row has about {longest:,.0f} tokens, the limit is "
        f"{recipe.train.sft.get('max_length', settings.DEFAULT_MAX_LENGTH_TOKENS):,} (over it: {recipe.train.overlong}). "
        "--check proves and counts exactly."
    )
    return TrainSummary(
        stage_id=stage, folder=str(run.stage("train", stage)), adapter=None, adapter_gguf=None, base=base,
        base_digest=student.digest if student else None, rows=len(rows.train),
        validation_rows=len(rows.validation), longest_row_tokens=round(longest),
    )  # fmt: skip


def _characters(example: Example) -> int:
    return sum(len(message.content) for message in [*example.prompt, *example.completion])


@contextmanager
def _one_at_a_time(run: Run) -> Iterator[None]:
    lock = FileLock(str(run.folder / "train" / ".lock"))
    with storage_errors(run.folder / "train"):
        (run.folder / "train").mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"Another process is training in {run.folder}; wait for it or stop it, then run again."
            ) from None
    try:
        yield
    finally:
        lock.release()


def _train(recipe: Recipe, run: Run, stage: str, student: Student, rows: Rows, show: Show) -> TrainSummary:
    prepare_environment()
    if settings.alone_under_accelerate():
        show.note(
            "accelerate launch started one process here, as it does without GPUs whatever --num_processes says; for several "
            "on CPUs: python -m torch.distributed.run --nproc_per_node N -m r1distill train ..."
        )
    with quiet():
        from r1distill.objectives import prepare, sft

        folder = run.stage("train", stage)
        ready = prepare.prepare(recipe.train, student, rows.train, rows.validation, folder, show)
        prepare.approved(ready, show)
        outcome = sft.train_sft(ready.job, show)
        adapter = recipe.train.method != "full"
        gguf = prepare.write_gguf(student, folder, show) if adapter and settings.main_process() else None
    show.note(
        f"Trained {counted(outcome.steps, 'step')} in {duration(outcome.elapsed_s)}: loss {_figure(outcome.first_loss)} -> "
        f"{_figure(outcome.last_loss)}, {outcome.tokens_per_s:,.0f} labelled tokens/s. "
        f"{'Adapter' if adapter else 'Model'}: {ready.job.result}"
    )
    cut = recipe.train.overlong == "truncate"
    return TrainSummary(
        stage_id=stage,
        folder=str(folder),
        method=recipe.train.method,
        adapter=str(ready.job.result) if adapter else None,
        model=None if adapter else str(ready.job.result),
        adapter_gguf=str(gguf) if gguf else None,
        base=student.base,
        base_digest=student.digest,
        rows=len(ready.job.rows),
        validation_rows=len(ready.job.validation),
        validation_rows_dropped=ready.validation.dropped,
        validation_rows_cut=ready.validation.cut,
        rows_dropped_too_long=ready.emptied if cut else ready.too_long,
        rows_cut=ready.too_long - ready.emptied if cut else 0,
        rows_dropped_no_target=ready.no_target,
        rows_dropped_control_tokens=ready.control_tokens,
        rows_dropped_changed=ready.changed,
        longest_row_tokens=ready.longest_tokens,
        **msgspec.structs.asdict(outcome),
    )


def _write_card(recipe: Recipe, summary: TrainSummary, rows: Rows) -> None:
    """README.md beside the weights, and the loss as a picture where matplotlib is installed."""
    folder = Path(summary.folder)
    authors = _authors(rows.folder, {row.trace_id for row in rows.train})
    used = settings.resolved(recipe.train, validate=bool(summary.validation_rows))
    text = model_card(recipe, summary, authors, _checks(rows.folder), used)
    write_atomic(Path(summary.adapter or summary.model or folder) / "README.md", text.encode())
    metrics = [msgspec.json.decode(line) for _, line in read_lines(folder / "metrics.jsonl")]
    if plots.available() and any(row["loss"] is not None for row in metrics):
        address = plots.loss_plot(metrics)
        write_atomic(folder / "loss.svg", base64.b64decode(address.partition(",")[2]))


def _authors(filtered: Path, trained: set[str]) -> Counter[Author]:
    """Rows by who wrote them, as kept.jsonl of the filter result says; empty where it says nothing."""
    path = filtered / "kept.jsonl"
    if not path.is_file():
        return Counter()
    rows = (msgspec.json.decode(line) for _, line in read_lines(path))
    return Counter(
        Author(*(str(row.get(key) or "") for key in ("teacher", "model", "model_answered")))
        for row in rows
        if row.get("id") in trained and row.get("teacher")
    )


def _checks(filtered: Path) -> list[str]:
    """The checks that the rows passed, as the filter result's own summary says; empty where it says nothing."""
    funnel = (read_json(filtered / "summary.json") or {}).get("funnel") or []
    return [str(row["check"]) for row in funnel if isinstance(row, dict) and row.get("check")]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
