"""Proofs before the first step: what the student learns is exactly what it will be asked.

In: the student's tokenizer and folder, the rows as they were rendered, and what was left out. Out: findings (the rows'
own proofs are in proofs.py), each with the sentence that says what to do when it failed. Pure but for reading the student's
configuration; who calls decides whether a failed finding stops anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from r1distill.objectives.findings import Case, Finding, Lengths, Validation, failed, ok
from r1distill.objectives.footprint import Footprint
from r1distill.objectives.proofs import proofs
from r1distill.objectives.render import Rendered, Rendering, marked
from r1distill.objectives.students import read_config
from r1distill.objectives.templates import fixed_template
from r1distill.show import duration

SHOWN_ROWS = 3
SHOWN_CHARACTERS = 1500
"""Of a row on the screen: a longer one is shown with its middle left out."""


def findings(case: Case) -> list[Finding]:
    """All proofs, in the order in which a reader needs them."""
    found = [_template(case), *proofs(case)]
    found += [_stop(case), _vocabulary(case), _padding(case), length(case.lengths)]
    found += [*_left_out(case.rendering), *_validation(case.validation), *_footprint(case.footprint)]
    return found


def failure(found: Iterable[Finding]) -> str | None:
    """The sentence of the first failed finding."""
    return next((finding.text for finding in found if finding.outcome == "failed"), None)


def shown(tokenizer: Any, rows: Sequence[Rendered], whole: bool = False) -> list[str]:
    """The shortest, the middle and the longest row as the student sees them, the trained part between ⟦ and ⟧."""
    by_length = sorted(rows, key=lambda row: len(row.input_ids))
    picked = {0, len(rows) // 2, len(rows) - 1}
    texts = []
    for row in [by_length[i] for i in sorted(picked)][:SHOWN_ROWS]:
        head = f"Trace {row.trace_id}, {len(row.input_ids):,} tokens; trained on what stands between ⟦ and ⟧:"
        texts.append(f"{head}\n{_shortened(marked(tokenizer, row), whole)}\n")
    return texts


def length(lengths: Lengths, part: Literal["", "validation "] = "") -> Finding:
    """What is over the limit, and what becomes of it; `part` says whose rows they are."""
    check = f"{part}length"
    limit = f"{lengths.limit_tokens:,} tokens ({lengths.reason})"
    if not lengths.over_rows:
        return ok(check, f"no {part}row is over {limit}; the longest has {lengths.longest_tokens:,}")
    share = (
        f"{lengths.over_rows:,} of {lengths.all_rows:,} {part}rows "
        f"({lengths.over_rows / lengths.all_rows:.1%}), with {lengths.over_tokens / lengths.all_tokens:.1%} of all tokens, "
        f"are longer than {limit}"
    )
    if lengths.overlong == "raise":
        return failed(
            check,
            f'{share} (the longest has {lengths.longest_tokens:,}), and train.overlong is "raise": raise '
            'train.sft.max_length, or set train.overlong = "drop".',
        )
    if lengths.overlong == "drop":
        return Finding(
            check,
            "note",
            f"{share}, the longest {lengths.longest_tokens:,}; they are left out whole, not cut.",
        )
    left_out = (
        f" {lengths.emptied:,} are left out since their prompt alone is as long." if lengths.emptied else ""
    )
    lacking = "teach" if not part else "test"
    return Finding(
        check,
        "note",
        f"{share}; they are cut there, so that they {lacking} no answer and no end of turn.{left_out}",
    )


def _template(case: Case) -> Finding:
    applied = fixed_template(case.tokenizer).applied
    if not applied:
        return ok("template", "the student's own chat template is used as it is")
    said = "; ".join(f"{row.name}: {row.why}" for row in applied)
    return Finding(
        "template",
        "note",
        f"The student's chat template needs a line before it ({said}); it is saved with the student.",
    )


def _stop(case: Case) -> Finding:
    """Generation stops at the token that is trained as the end."""
    ends = generation_ends(case.folder)
    if case.form.end_id in ends:
        return ok("stop", f"generation stops at {case.form.end_text}")
    known = ", ".join(str(case.tokenizer.convert_ids_to_tokens(i)) for i in ends) or "no token"
    return Finding(
        "stop",
        "note",
        f"The base's generation stops at {known}; {case.form.end_text} is added to the student's stop tokens.",
    )


def _vocabulary(case: Case) -> Finding:
    """No id lies outside the embedding."""
    config = read_config(case.folder)
    rows = (config.get("text_config") or config).get("vocab_size")
    highest = max(max(row.input_ids) for row in case.rows)
    if rows is not None and max(highest, case.form.end_id) >= rows:
        worst = case.tokenizer.convert_ids_to_tokens(max(highest, case.form.end_id))
        return failed(
            "vocabulary",
            f"The student's tokenizer gives ids up to {highest:,} ({worst}), but its model has only {rows:,} embeddings: "
            "tokenizer and weights don't belong together; take both from the same place, or resize the embedding.",
        )
    return ok("vocabulary", f"ids up to {highest:,} of {rows or 'an unknown number of'} embeddings")


def _padding(case: Case) -> Finding:
    """Padding can't hide the end of turn: labels are masked by position, never by the token's id."""
    pad = case.tokenizer.pad_token_id
    if pad is None or pad == case.form.end_id:
        name = "no padding token" if pad is None else f"{case.form.end_text} for padding too"
        return ok(
            "padding", f"{name}, which is harmless: padding is masked by place, so the end is trained on"
        )
    return ok("padding", f"{case.tokenizer.pad_token}, another token than the end of turn")


def _left_out(rendering: Rendering) -> Iterator[Finding]:
    if rendering.control_tokens:
        seen = ", ".join(f"{text} in {count:,}" for text, count in rendering.control_seen.items())
        yield Finding(
            "control tokens",
            "note",
            f"{rendering.control_tokens:,} rows spell control tokens of the student and are left out: {seen}.",
        )
    else:
        yield ok("control tokens", "no row spells a control token or a second think tag")
    if rendering.changed:
        yield Finding(
            "changed text",
            "note",
            f"{len(rendering.changed):,} rows are left out, since the student's tokenizer changes their text: "
            f"{rendering.changed[0]}.",
        )
    if rendering.no_target:
        yield Finding(
            "nothing to learn", "note", f"{rendering.no_target:,} rows have no target and are left out."
        )
    else:
        yield ok("nothing to learn", "every row has tokens that are trained on")


def _validation(found: Validation | None) -> Iterator[Finding]:
    """The rows of val.jsonl are held to the same rules, since their loss is shown, and may choose the weights."""
    if found is None:
        return
    yield length(found.lengths, "validation ")
    yield _validation_left_out(found)


def _validation_left_out(found: Validation) -> Finding:
    check, seen = "validation left out", found.rendering
    reasons = {
        "over the limit": found.dropped - found.unfit,
        "spell control tokens of the student": seen.control_tokens,
        "changed by its tokenizer": len(seen.changed),
        "have no target": seen.no_target,
    }
    if not found.dropped:
        return ok(check, "no validation row is left out")
    why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
    text = f"{found.dropped:,} of {found.given:,} validation rows are left out ({why})"
    if found.rows:
        return Finding(check, "note", f"{text}.")
    if found.decides:
        return failed(
            check,
            f'{text}, and train.keep = "best" and train.patience need some: raise filter.select.val_fraction or '
            "train.sft.max_length, or remove them.",
        )
    return Finding(check, "note", f"{text}, so there is no validation loss.")


def _footprint(estimate: Footprint | None) -> Iterator[Finding]:
    if estimate is None:
        return
    needed, there = (value / 1e9 for value in (estimate.total_bytes, estimate.available_bytes))
    text = f"about {needed:.1f} GB, {there:.1f} GB are free"
    if needed > there:
        yield Finding(
            "memory",
            "note",
            f"This training takes {text}: lower train.sft.per_device_train_batch_size (and raise "
            "gradient_accumulation_steps by as much) or train.sft.max_length.",
        )
    else:
        yield ok("memory", text)
    yield ok(
        "time",
        f"about {duration(estimate.total_s)} if nothing else runs, {duration(estimate.epoch_s)} an epoch",
    )


def generation_ends(folder: Path) -> list[int]:
    """The token ids at which generation with the model in `folder` stops. Raises InputError for a broken configuration."""
    for name in ("generation_config.json", "config.json"):
        ends = read_config(folder, name).get("eos_token_id") if (folder / name).is_file() else None
        if ends is not None:
            return list(ends) if isinstance(ends, list) else [ends]
    return []


def _shortened(text: str, whole: bool) -> str:
    if whole or len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"
