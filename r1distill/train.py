"""VERB: the student learns from the kept traces.

In: train.jsonl and val.jsonl of the run's current filter result, and [student] and [train] of the recipe. Out, in
train/<id>/: adapter/ (PEFT), adapter.gguf for a GGUF student, metrics.jsonl, example.txt (one row as the student
sees it), summary.json. The same settings, weights and rows again: nothing to do; an interrupted training of the
same id continues from its last checkpoint. torch and its friends are imported only when training starts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from filelock import FileLock, Timeout

from r1distill.errors import InputError, LockedError, MissingPackageError, NothingKeptError, RecipeError
from r1distill.ledger import read_lines, storage_errors
from r1distill.objectives.quiet import prepare_environment, quiet
from r1distill.objectives.students import INSTALL, Student, locate
from r1distill.recipe import Recipe
from r1distill.records import Example, digest
from r1distill.run import Run, read_json, stage_id
from r1distill.show import Show, duration

__all__ = ["TrainSummary", "train"]

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "trl", "gguf")
CHARACTERS_PER_TOKEN = 3.5
"""English reasoning in today's tokenizers, roughly; only --dry-run estimates with it."""


class TrainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a training came to; figures of the training are null or 0 after a dry run."""

    stage_id: str
    folder: str
    adapter: str | None
    """The PEFT folder."""
    adapter_gguf: str | None
    """The adapter for llama.cpp, written for GGUF students."""
    base: str
    base_digest: str | None
    """Null only for a hub student that a dry run did not fetch."""
    rows: int
    """Trained on (a dry run: rows there are)."""
    validation_rows: int = 0
    rows_dropped_too_long: int = 0
    """Longer than train.sft.max_length; dropped whole, never cut."""
    rows_dropped_no_target: int = 0
    """Without reasoning and answer."""
    rows_dropped_control_tokens: int = 0
    """Their text spells a control token of the student, or a stray think tag."""
    longest_row_tokens: int | None = None
    """Prompt and completion of the longest row trained on (a dry run: estimated from characters, over all rows)."""
    steps: int = 0
    epochs: float = 0.0
    trainable_parameters: int = 0
    parameters: int = 0
    first_loss: float | None = None
    """Nats per labelled token, mean of the first tenth of the logged steps."""
    last_loss: float | None = None
    """The same of the last tenth."""
    validation_loss: float | None = None
    """Nats per labelled token over val.jsonl, after the last epoch."""
    labelled_tokens: int = 0
    """Trained on, over all epochs."""
    tokens_per_s: float = 0.0
    """Labelled tokens per second of training."""
    elapsed_s: float = 0.0
    """Of the training itself, over all resumptions, without loading."""
    up_to_date: bool = False


class _Rows(NamedTuple):
    train: list[Example]
    validation: list[Example]


def train(recipe: Recipe, run: Run, *, dry_run: bool = False, show: Show | None = None) -> TrainSummary:
    """Fine-tune the student on the run's kept traces and point train/latest to the result.

    Raises InputError (no filter result, no such student), NothingKeptError (no row is left to train on),
    RecipeError (no [student], settings refused), MissingPackageError, StorageError; KeyboardInterrupt after a
    checkpoint was saved.
    """
    show = show or Show(0)
    if recipe.student is None:
        raise RecipeError("The recipe has no [student] table, so there is nobody to train.")
    rows = _read_rows(run)
    if not dry_run:
        _require_packages()
    student = locate(recipe.student.base, recipe.folder, fetch=not dry_run)
    stage = _stage_id(recipe, student, rows)
    done = read_json(run.stage("train", stage) / "summary.json")
    if done is not None:
        return _up_to_date(run, done, dry_run, show)
    if dry_run or student is None:
        return _say_plan(recipe, run, stage, student, rows, show)
    with _one_at_a_time(run):
        summary = _train(recipe, run, stage, student, rows, show)
    run.save_recipe(recipe)
    run.finish_stage("train", stage, msgspec.to_builtins(summary))
    return summary


def _read_rows(run: Run) -> _Rows:
    latest = run.latest("filter")
    if latest is None:
        raise InputError(f"{run.folder} has no filter result yet: run filter first.")
    decoder = msgspec.json.Decoder(Example)

    def rows(name: str) -> list[Example]:
        path = latest[0] / name
        return [decoder.decode(line) for _, line in read_lines(path)] if path.is_file() else []

    found = _Rows(rows("train.jsonl"), rows("val.jsonl"))
    if not found.train:
        raise NothingKeptError(
            f"The filter kept no trace to train on ({latest[0] / 'train.jsonl'} is empty); r1distill filter says which "
            "check removed how many."
        )
    return found


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Training needs {', '.join(missing)}, not installed here; get them with: {INSTALL}"
        )


def _stage_id(recipe: Recipe, student: Student | None, rows: _Rows) -> str:
    settings = {
        "train": recipe.train.model_dump(mode="json"),
        "base": student.digest if student else None,
    }
    inputs = [
        f"{part}:{example.trace_id}:{digest(msgspec.to_builtins(example))}"
        for part, examples in rows._asdict().items()
        for example in examples
    ]
    return stage_id(settings, inputs)


def _up_to_date(run: Run, done: dict[str, Any], dry_run: bool, show: Show) -> TrainSummary:
    summary = msgspec.structs.replace(msgspec.convert(done, TrainSummary), up_to_date=True)
    if not dry_run:
        run.point_latest("train", summary.stage_id)
    show.note(f"Training {summary.stage_id} is up to date: {summary.rows:,} rows, {summary.steps:,} steps.")
    return summary


def _say_plan(
    recipe: Recipe, run: Run, stage: str, student: Student | None, rows: _Rows, show: Show
) -> TrainSummary:
    longest = max(_characters(example) for example in rows.train) / CHARACTERS_PER_TOKEN
    base = recipe.student.base if recipe.student else ""
    show.note(
        f"Would train {base}{'' if student else ' (fetched from the hub first)'} on {len(rows.train):,} rows, "
        f"validate on {len(rows.validation):,}; the longest row has about {longest:,.0f} tokens, and rows over "
        f"{recipe.train.sft.get('max_length', 4096)} would be dropped."
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


def _train(recipe: Recipe, run: Run, stage: str, student: Student, rows: _Rows, show: Show) -> TrainSummary:
    prepare_environment()
    with quiet():
        from r1distill.objectives import sft
        from r1distill.objectives.prepare import prepare, write_gguf

        folder = run.stage("train", stage)
        ready = prepare(recipe.train, student, rows.train, rows.validation, folder, show)
        outcome = sft.train_sft(ready.job, show)
        gguf = write_gguf(student, folder, show)
    show.note(
        f"Trained {outcome.steps:,} steps in {duration(outcome.elapsed_s)}: loss {_figure(outcome.first_loss)} -> "
        f"{_figure(outcome.last_loss)}, {outcome.tokens_per_s:,.0f} labelled tokens/s. Adapter: {folder / 'adapter'}"
    )
    return TrainSummary(
        stage_id=stage,
        folder=str(folder),
        adapter=str(folder / "adapter"),
        adapter_gguf=str(gguf) if gguf else None,
        base=student.base,
        base_digest=student.digest,
        rows=len(ready.job.rows),
        validation_rows=len(ready.job.validation),
        rows_dropped_too_long=ready.too_long,
        rows_dropped_no_target=ready.no_target,
        rows_dropped_control_tokens=ready.control_tokens,
        longest_row_tokens=ready.longest_tokens,
        **msgspec.structs.asdict(outcome),
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
