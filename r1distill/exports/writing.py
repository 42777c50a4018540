"""An export on its way to disk: the files of one format, the proof, the card, and the move into place.

In: what is to be exported, and where to. Out: the finished folder. Everything is written beside it first, so that a kill at
any instant leaves no half of an export; what it left is removed by the next one into the same folder.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from r1distill.errors import InputError
from r1distill.exports.card import card
from r1distill.exports.summary import ExportSummary
from r1distill.ledger import read_lines, storage_errors, write_atomic
from r1distill.objectives.disk import disk_errors
from r1distill.objectives.students import Student
from r1distill.recipe import Recipe
from r1distill.records import Example, Message
from r1distill.run import Run, read_json
from r1distill.runtime import embedded_like
from r1distill.show import Show
from r1distill.weights import parameter_count, weights_digest

CHECKED_ROWS = 3
"""So many prompts of the training set are compared, besides our own."""
SUMMARY = "export.json"


class Plan(NamedTuple):
    """What is to be exported."""

    summary: ExportSummary
    trained: Path
    """The adapter of a training, or, after full fine-tuning, all weights."""
    student: Student | None
    """None only in a dry run, for a hub student that is not here."""
    to: Path


def write_folder(plan: Plan, recipe: Recipe, run: Run, show: Show) -> ExportSummary:
    """Write everything beside the folder, then move it there in one step.

    Raises InputError (what the format can't hold, prompts that become other tokens), StorageError.
    """
    from r1distill.objectives.quiet import prepare_environment, quiet
    from r1distill.objectives.students import materialise

    to = plan.to.absolute()
    scratch = to.with_name(f".{to.name}.part")
    part = scratch / to.name
    assert plan.student is not None
    prepare_environment()
    with storage_errors(to), quiet(), disk_errors(to):
        shutil.rmtree(scratch, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            found = _write(
                plan,
                materialise(plan.student, show),
                part,
                _prompts(run),
                embedded_like(recipe).threads,
                show,
            )
            found = _with_scores(_measured(found, part), summary_in(to))
            write_about(plan, found, part, recipe, run)
            for path in part.iterdir():  # safetensors makes files that only their owner may read
                path.chmod((part / "README.md").stat().st_mode)
            _move(part, to)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return found


def _move(part: Path, to: Path) -> None:
    """Put a finished export into its place: in one step, or, where a damaged one lies, file by file with export.json last."""
    if not (to / SUMMARY).is_file():
        part.rename(to)
        return
    for path in sorted(part.rglob("*"), key=lambda path: path.name == SUMMARY):
        if path.is_file():
            target = to / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def _write(
    plan: Plan, base: Path, part: Path, prompts: Sequence[Sequence[Message]], threads: int | None, show: Show
) -> ExportSummary:
    """Write the files of one format and prove that prompts become the training's tokens."""
    from r1distill.exports import adapter as adapters
    from r1distill.exports import merged
    from r1distill.exports.gguf_vocab import normaliser_note
    from r1distill.exports.template import check_folder, shipped_tokenizer

    trained, summary = plan.trained, plan.summary
    if summary.format == "merged":
        merged.write_merged(base, trained, part)
        return msgspec.structs.replace(summary, prompts_checked=check_folder(part, trained, prompts))
    if summary.format == "gguf":
        assert summary.quant is not None
        file = part / weights_name(summary)
        merged.write_merged_gguf(base, trained, file, summary.quant, summary.name)
        found = _checked_gguf(summary, file, trained, prompts, threads, show)
        return _noted(found, normaliser_note(shipped_tokenizer(trained)), show)
    assert plan.student is not None
    adapters.write_adapter(trained, part, summary.base)
    gguf = plan.student.path if plan.student.kind == "gguf" else None
    try:
        adapters.write_adapter_gguf(trained, base, gguf, part / "adapter.gguf")
    except (ValueError, InputError) as error:
        return _noted(summary, f"No adapter.gguf: {error}", show)
    return summary


def _noted(summary: ExportSummary, note: str | None, show: Show) -> ExportSummary:
    """The summary with a note that people are told."""
    if note is None:
        return summary
    show.note(note)
    return msgspec.structs.replace(summary, notes=[*summary.notes, note])


def _checked_gguf(
    summary: ExportSummary,
    file: Path,
    trained: Path,
    prompts: Sequence[Sequence[Message]],
    threads: int | None,
    show: Show,
) -> ExportSummary:
    """Load the file with the embedded server, if that is installed: prompts must become the training's tokens."""
    if importlib.util.find_spec("xllamacpp") is None:
        note = (
            "Not checked with llama.cpp, since xllamacpp is not installed: pip install 'r1distill[embedded]'"
        )
        return _noted(summary, note, show)
    from r1distill.exports.served import check_prompts, tokens_per_s
    from r1distill.exports.template import shipped_tokenizer
    from r1distill.teachers.embedded import embedded_server

    with tempfile.TemporaryDirectory(prefix="r1distill-") as scratch:
        log = Path(scratch) / "server.log"
        with embedded_server(
            file, adapter=None, threads=threads, parallel=1, context_tokens=1024, log=log
        ) as endpoint:
            checked = check_prompts(endpoint, shipped_tokenizer(trained), prompts)
            return msgspec.structs.replace(
                summary, prompts_checked=checked, tokens_per_s=tokens_per_s(endpoint)
            )


def _prompts(run: Run) -> list[list[Message]]:
    """The prompts of the first rows of the training set."""
    found = run.latest("filter")
    path = found[0] / "train.jsonl" if found else Path()
    if not path.is_file():
        return []
    decoder = msgspec.json.Decoder(Example)
    return [decoder.decode(line).prompt for _, line in islice(read_lines(path), CHECKED_ROWS)]


def _measured(summary: ExportSummary, part: Path) -> ExportSummary:
    files = {
        str(path.relative_to(part)): path.stat().st_size for path in sorted(part.rglob("*")) if path.is_file()
    }
    weights = part if summary.format == "merged" else part / weights_name(summary)
    return msgspec.structs.replace(
        summary, files=files, bytes=sum(files.values()), parameters=parameter_count(weights),
        weights_digest=weights_digest(weights),
    )  # fmt: skip


def summary_in(folder: Path) -> ExportSummary | None:
    """What export.json in a folder says; None when there is none of ours."""
    found = read_json(folder / SUMMARY)
    try:
        return None if found is None else msgspec.convert(found, ExportSummary)
    except msgspec.ValidationError:
        return None


def _with_scores(summary: ExportSummary, before: ExportSummary | None) -> ExportSummary:
    """The summary with the scores of the same export that lies there damaged, if these are the very weights and files."""
    same = before is not None and before.same_as(summary) and before.weights_digest == summary.weights_digest
    if before is None or not same or before.files != summary.files:
        return summary
    return msgspec.structs.replace(
        summary, scores=before.scores, differences=before.differences, models=before.models,
        tokens_per_s=before.tokens_per_s, still_owed=before.still_owed,
    )  # fmt: skip


def write_about(plan: Plan, summary: ExportSummary, folder: Path, recipe: Recipe, run: Run) -> None:
    """Write the card, then export.json, each atomically. Raises StorageError."""
    write_atomic(folder / "README.md", card(summary, recipe, run, plan.trained / "README.md").encode())
    kept = msgspec.structs.replace(summary, folder=plan.to.absolute().name)  # no path of this machine
    write_atomic(folder / SUMMARY, msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")


def weights_name(summary: ExportSummary) -> str:
    """The file that holds the weights of an export in its folder."""
    names = {"merged": "model.safetensors", "adapter": "adapter_model.safetensors"}
    return names.get(summary.format, f"{summary.name}-{summary.quant}.gguf")
