"""Rows of a filter result + settings -> what a training needs, proven, with every row that is left out counted.

In: train.jsonl and val.jsonl as Examples, the recipe's [train], a Student. Out: a Job for sft.py, the findings of the
preflight, and the rows that were shown. Settings are checked first, since loading a student takes long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from r1distill.errors import InputError, NothingKeptError
from r1distill.ledger import storage_errors
from r1distill.objectives import preflight, settings
from r1distill.objectives.adapter_gguf import write_gguf_adapter
from r1distill.objectives.findings import Case, Finding, Lengths, Validation
from r1distill.objectives.footprint import Footprint, Plan, footprint
from r1distill.objectives.render import IGNORED, Rendered, Rendering, format_of, render
from r1distill.objectives.sft import Job
from r1distill.objectives.students import Student, load_tokenizer, materialise, position_limit
from r1distill.recipe_sections import TrainSection
from r1distill.records import Example
from r1distill.show import Show

MARKS = {"ok": "ok", "note": "note", "failed": "FAILED"}


class Ready(NamedTuple):
    """A job, what was proven of it, and what was left out on the way: numbers of rows, of train.jsonl but for `validation`."""

    job: Job
    findings: list[Finding]
    shown: list[str]
    """Three rows, the trained part marked, shortened for a screen."""
    footprint: Footprint
    too_long: int
    """Over the limit: left out, or cut where train.overlong says so."""
    emptied: int
    """Of those, cut within the prompt, so that nothing was left to train on."""
    no_target: int
    control_tokens: int
    changed: int
    """Their text comes back from the student's tokens as another one."""
    longest_tokens: int
    """Length of the longest row that is trained on."""
    validation: Validation


def prepare(
    section: TrainSection, student: Student, train: Sequence[Example], validation: Sequence[Example], folder: Path, show: Show
) -> Ready:  # fmt: skip
    """Check the settings, load the tokenizer, render the rows, prove them. Writes nothing but the cache of a GGUF student.

    A failed proof is a finding, not an error. Raises RecipeError, InputError (student or template can't be used),
    MissingPackageError, StorageError, NothingKeptError (no row can be trained on).
    """
    settings.check(section)
    settings.check_validation(section, len(validation))
    source = materialise(student, show)
    tokenizer = load_tokenizer(source)
    form = format_of(tokenizer)
    rendered = render(tokenizer, train)
    rows, lengths = fitted(rendered.rows, *_limit(section, source), section.overlong)
    validated, kept = _validation(section, source, tokenizer, validation)
    if not rows:
        raise NothingKeptError(_nothing(len(train), rendered, lengths))
    job = Job(
        student=source,
        base=student.base if student.kind == "hub" else str(source),
        tokenizer=tokenizer,
        end_id=form.end_id,
        rows=rows,
        validation=validated,
        section=section,
        folder=folder,
    )
    estimate = footprint(_plan(job), [len(row.input_ids) for row in rows])
    examples = {example.trace_id: example for example in train}
    case = Case(
        tokenizer, source, form, examples, rows, rendered, lengths, estimate, kept if validation else None
    )
    return Ready(
        job=job,
        findings=preflight.findings(case),
        shown=preflight.shown(tokenizer, rows),
        footprint=estimate,
        too_long=lengths.over_rows,
        emptied=lengths.emptied,
        no_target=rendered.no_target,
        control_tokens=rendered.control_tokens,
        changed=len(rendered.changed),
        longest_tokens=max(len(row.input_ids) for row in rows),
        validation=kept,
    )


def _validation(
    section: TrainSection, source: Path, tokenizer: Any, validation: Sequence[Example]
) -> tuple[list[Rendered], Validation]:
    """The validation rows that fit, and what became of the others."""
    held_out = render(tokenizer, validation)
    rows, over = fitted(held_out.rows, *_limit(section, source), section.overlong)
    decides = section.keep == "best" or section.patience is not None
    return rows, Validation(len(rows), held_out, over, decides)


def approved(ready: Ready, show: Show) -> None:
    """Say what the preflight noted, show one row and keep three in example.txt. Raises InputError for a failed proof."""
    failed = preflight.failure(ready.findings)
    if failed:
        raise InputError(failed)
    for finding in ready.findings:
        if finding.outcome == "note":
            show.note(finding.text)
    folder = ready.job.folder
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(preflight.shown(ready.job.tokenizer, ready.job.rows, whole=True))
        if settings.main_process():
            (folder / "example.txt").write_text(text, encoding="utf-8", errors="replace")
            proven = {"findings": ready.findings, "estimate": ready.footprint}
            (folder / "preflight.json").write_bytes(msgspec.json.format(msgspec.json.encode(proven)) + b"\n")
    show.note(ready.shown[0])


def tell(ready: Ready, show: Show) -> None:
    """The whole preflight for a person: three rows, then every finding."""
    for text in ready.shown:
        show.note(text)
    rows = [(finding.check, MARKS[finding.outcome], finding.text) for finding in ready.findings]
    show.table("Preflight", ("check", "outcome", "what was found"), rows)


def fitted(
    rows: Sequence[Rendered], limit_tokens: int, reason: str, overlong: Literal["drop", "truncate", "raise"]
) -> tuple[list[Rendered], Lengths]:
    """The rows as `train.overlong` wants them under the limit, and what it did; with "raise" the caller stops on it."""
    over = [row for row in rows if len(row.input_ids) > limit_tokens]
    kept = [row for row in rows if len(row.input_ids) <= limit_tokens]
    emptied = 0
    if overlong == "truncate":
        cut = [_cut(row, limit_tokens) if len(row.input_ids) > limit_tokens else row for row in rows]
        kept = [row for row in cut if any(label != IGNORED for label in row.labels)]
        emptied = len(cut) - len(kept)
    sizes = [len(row.input_ids) for row in rows]
    over_tokens = sum(len(row.input_ids) for row in over)
    longest = max(sizes, default=0)
    lengths = Lengths(
        limit_tokens, reason, len(over), over_tokens, len(rows), sum(sizes), longest, overlong, emptied
    )
    return kept, lengths


def write_gguf(student: Student, folder: Path, show: Show) -> Path | None:
    """adapter.gguf beside the adapter of a GGUF student; None (and a note) where llama.cpp can't hold it."""
    if student.kind != "gguf":
        return None
    try:
        with storage_errors(folder):
            return write_gguf_adapter(folder / "adapter", student.path, folder / "adapter.gguf")
    except ValueError as error:
        show.note(f"The adapter can't be served by llama.cpp: {error}")
        return None


def _limit(section: TrainSection, folder: Path) -> tuple[int, str]:
    """Tokens a row may have, and which setting says so."""
    own, positions = settings.max_length(section.sft), position_limit(folder)
    return (
        (own, "train.sft.max_length") if own < positions else (positions, "the student has no more positions")
    )


def _cut(row: Rendered, limit_tokens: int) -> Rendered:
    return Rendered(row.trace_id, row.input_ids[:limit_tokens], row.labels[:limit_tokens])


def _plan(job: Job) -> Plan:
    section = job.section
    args = settings.sft_config(section, job.folder / "checkpoints", bool(job.validation))
    lora = None if section.method == "full" else settings.lora_config(section.lora)
    return Plan(job.student, lora, settings.bytes_per_weight(section.method), args)


def _nothing(count: int, rendered: Rendering, lengths: Lengths) -> str:
    return (
        f"None of the {count:,} rows can be trained on: {lengths.over_rows:,} are longer than {lengths.limit_tokens:,} "
        f"tokens ({lengths.reason}), {rendered.control_tokens:,} hold control tokens, {len(rendered.changed):,} would be "
        f"changed by the tokenizer, {rendered.no_target:,} have no target."
    )
