"""VERB: the trained student as files that others can serve.

In: the last training of a run and its base. Out: a folder with the student merged (transformers, vLLM), as one GGUF file
(llama.cpp, Ollama), or as an adapter; export.json says what it is, README.md is its card. The folder appears complete or
not at all. Nothing is exported whose prompts would not be tokenised as they were in training.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from r1distill.errors import InputError, LockedError, MissingPackageError, UsageError
from r1distill.exports.gguf_model import Quant, size_of
from r1distill.exports.intact import damage
from r1distill.exports.summary import ExportSummary, Format
from r1distill.exports.writing import Plan, summary_in, weights_name, write_about, write_folder
from r1distill.ledger import storage_errors
from r1distill.model_card import base_name
from r1distill.objectives.disk import disk_errors
from r1distill.objectives.students import INSTALL, locate
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.runtime import trained_student, weights_of
from r1distill.show import Show
from r1distill.weights import size_bytes, tensor_shapes

__all__ = ["ExportSummary", "export"]

PACKAGES = ("torch", "transformers", "peft", "gguf")


def export(
    recipe: Recipe,
    run: Run,
    to: Path,
    *,
    format: Format = "merged",
    quant: Quant | None = None,
    evaluate: bool = False,
    dry_run: bool = False,
    show: Show | None = None,
) -> ExportSummary:
    """Write the run's trained student into the folder `to`, which must be new or empty, or hold this very export; a damaged
    one is written again.

    `quant` is for GGUF only (default f16). With `evaluate`, it is scored on the recipe's held-out problems, a quantised one
    against itself unquantised. Raises UsageError, RecipeError, InputError (no training, a student or tokenizer that the
    format can't hold, folder not empty), MissingPackageError, StorageError, LockedError.
    """
    show, started = show or Show(0), time.monotonic()
    plan = _plan(recipe, run, to, format, quant, dry_run)
    if evaluate and recipe.evaluate is None:
        raise UsageError("--evaluate needs held-out problems, and the recipe has no [evaluate] table.")
    there = _there(plan, show)
    if dry_run:
        return _say_plan(plan, there, show)
    _require_packages()
    with _one_at_a_time(to):
        summary = there or write_folder(plan, recipe, run, show)
        if evaluate:
            summary = _evaluated(plan, summary, recipe, run, show)
    if there is not None and not evaluate:
        show.note(f"{to} holds this export already.")
    else:
        _tell(summary, show)
    return msgspec.structs.replace(
        summary, up_to_date=there is not None, elapsed_s=round(time.monotonic() - started, 2)
    )


def _plan(recipe: Recipe, run: Run, to: Path, format: Format, quant: Quant | None, dry_run: bool) -> Plan:
    if quant is not None and format != "gguf":
        raise UsageError(f"--quant goes with --format gguf, not with {format}.")
    folder, done = trained_student(recipe, run)
    assert recipe.student is not None
    trained = weights_of(folder)
    if format == "adapter" and trained.name != "adapter":
        raise UsageError("Full fine-tuning leaves no adapter: take --format merged or gguf.")
    student = locate(recipe.student.base, recipe.folder, fetch=not dry_run)
    if student is not None and done.get("base_digest") not in (None, student.digest):
        raise InputError(
            f"The base {student.base} is no longer the one that {folder} was trained on: train again, or bring it back."
        )
    summary = ExportSummary(
        name=recipe.name, format=format, quant=(quant or "f16") if format == "gguf" else None, folder=str(to),
        train_stage=folder.name, base=base_name(recipe.student.base), base_digest=student.digest if student else None,
    )  # fmt: skip
    return Plan(summary, trained, student, to)


def _there(plan: Plan, show: Show) -> ExportSummary | None:
    """The export that the folder holds already, if it is this one and whole. Raises InputError when it holds anything else."""
    if not plan.to.exists():
        return None
    if not plan.to.is_dir():
        raise InputError(f"{plan.to} is a file; name a new folder for the export.")
    summary = summary_in(plan.to)
    if summary is not None and summary.same_as(plan.summary):
        broken = damage(plan.to, summary.files)
        if broken is None:
            return msgspec.structs.replace(summary, folder=str(plan.to))
        show.note(f"The export is damaged ({broken}), so it is written again.")
    elif summary is not None:
        raise InputError(
            f"{plan.to} holds another export: {summary.sentence()}, not {plan.summary.sentence()}; name a new folder, or "
            "remove it."
        )
    elif any(plan.to.iterdir()):
        raise InputError(f"{plan.to} is not empty; name a new folder for the export.")
    return None


def _say_plan(plan: Plan, there: ExportSummary | None, show: Show) -> ExportSummary:
    s = plan.summary
    if there is not None:
        show.note(f"{plan.to} holds this export already.")
        return msgspec.structs.replace(there, up_to_date=True, dry_run=True)
    weights = _estimated_bytes(plan)
    size = (
        "unknown size (the base is fetched from the hub first)"
        if weights is None
        else f"about {weights / 1e6:,.0f} MB"
    )
    form = s.format + (f", {s.quant}" if s.quant else "")
    show.note(
        f"Would write the student of training {s.train_stage} as {form} into {plan.to}: {size}, and its card."
    )
    return msgspec.structs.replace(
        s, dry_run=True, bytes=weights, files={} if weights is None else {weights_name(s): weights}
    )


def _estimated_bytes(plan: Plan) -> int | None:
    if plan.summary.format == "adapter":
        return size_bytes(plan.trained)
    if plan.student is None:
        return None
    shapes = tensor_shapes(plan.student.path)
    # Merged weights are float32 without a GPU, twice the numbers of f16.
    return size_of(shapes, plan.summary.quant) if plan.summary.quant else 2 * size_of(shapes, "f16")


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Exporting needs {', '.join(missing)}, not installed here; get them with: {INSTALL}"
        )


@contextmanager
def _one_at_a_time(to: Path) -> Iterator[None]:
    lock = FileLock(str(to.absolute().with_name(f".{to.absolute().name}.lock")))
    with storage_errors(to):
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"Another process is exporting into {to}; wait for it or stop it, then run again."
            ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _evaluated(plan: Plan, summary: ExportSummary, recipe: Recipe, run: Run, show: Show) -> ExportSummary:
    from r1distill.export_scores import scored
    from r1distill.exports.merged import write_merged_gguf
    from r1distill.objectives.quiet import prepare_environment, quiet
    from r1distill.objectives.students import materialise

    def write_f16(file: Path) -> Path:
        assert plan.student is not None
        prepare_environment()
        with quiet(), disk_errors(file):
            base = materialise(plan.student, show)
            return write_merged_gguf(base, plan.trained, file, "f16", summary.name)

    places = {"merged": plan.to, "gguf": plan.to / weights_name(summary)}
    found = scored(summary, recipe, run, places.get(summary.format), write_f16, show)
    if not found.interrupted:
        write_about(plan, found, plan.to, recipe, run)
    return found


def _tell(summary: ExportSummary, show: Show) -> None:
    from r1distill.evaluate_summary import percent

    form = summary.format + (f", {summary.quant}" if summary.quant else "")
    checked = (
        f", {summary.prompts_checked} prompts tokenised as in training" if summary.prompts_checked else ""
    )
    show.note(f"Exported {summary.folder} ({form}): {(summary.bytes or 0) / 1e6:,.1f} MB{checked}.")
    rows = [
        (s.who, s.problems, s.n_problems, percent(s.lenient), percent(s.strict),
         f"{summary.models[s.who]['bytes'] / 1e6:,.1f}", summary.models[s.who].get("tokens_per_s") or "-")
        for s in summary.scores
    ]  # fmt: skip
    show.table("pass@1", ("model", "problems", "n", "lenient (95%)", "strict (95%)", "MB", "tokens/s"), rows)
    for difference in summary.differences:
        show.note(difference.sentence())
    if summary.still_owed:
        show.note(f"{summary.still_owed:,} answers are missing; run the same command again to ask for them.")
    elif summary.format != "adapter" and not summary.interrupted:
        show.note(f"Serve it with: r1distill serve {summary.folder}")
