"""Proofs on the rows themselves: each takes rows apart again and compares them with what the rule and a server say.

In: a Case. Out: findings, each about one property; a failed one names the first row that has it not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from r1distill.objectives.findings import Case, Finding, failed, ok
from r1distill.objectives.render import (
    IGNORED,
    Changed,
    completion_text,
    first_difference,
    served_ids,
    template_text,
)
from r1distill.thinking import CLOSE, OPEN, split_thinking

PROVED_ROWS = 200
"""Rows taken apart again, spread evenly over all lengths; render.py has decoded the target of every row."""


class _Row(NamedTuple):
    """One row taken apart again."""

    trace_id: str
    asked: list[str]
    """The words of system and user, which the prompt must hold."""
    prompt_ids: list[int]
    target_ids: list[int]
    prompt: str
    target: str
    """As the rule says it should be."""
    served: list[int]
    """What a server makes of the prompt's messages."""
    cut: bool
    """Cut at the limit, by the user's choice."""


def proofs(case: Case) -> list[Finding]:
    """Prompt, target, think tags and end of turn, each proven on up to PROVED_ROWS rows."""
    rows = list(_rows(case))
    return [_prompt(rows), _target(case, rows), _tags(rows), _end(case, rows)]


def _rows(case: Case) -> Iterator[_Row]:
    by_length = sorted(case.rows, key=lambda row: len(row.input_ids))
    step = max(1, len(by_length) // PROVED_ROWS)
    for row in {id(row): row for row in [*by_length[::step], by_length[-1]]}.values():
        example = case.examples[row.trace_id]
        split = split_thinking(example.completion[-1].content)
        prompt = template_text(case.tokenizer, example.prompt)
        target = completion_text(prompt, split.reasoning, split.answer) + case.form.end_text
        start = sum(label == IGNORED for label in row.labels)
        ids = row.input_ids
        cut = len(ids) == case.lengths.limit_tokens and row.labels[-1] != case.form.end_id
        asked = [message.content.strip() for message in example.prompt if message.role != "assistant"]
        served = served_ids(case.tokenizer, example.prompt)
        yield _Row(row.trace_id, asked, ids[:start], ids[start:], prompt, target, served, cut)


def _prompt(rows: list[_Row]) -> Finding:
    """Training and serving start from the same tokens."""
    for row in rows:
        lost = next((words for words in row.asked if words not in row.prompt), None)
        if lost is not None:
            return failed(
                "prompt",
                f"Trace {row.trace_id}: the student's chat template leaves out words of the prompt ({lost[:40]!r} ...): say "
                "them in the user's turn ([student] template), or choose another student.",
            )
        if row.prompt_ids != row.served:
            return failed(
                "prompt",
                f"Trace {row.trace_id}: the prompt that is trained on differs from the one that is served "
                f"({len(row.prompt_ids):,} and {len(row.served):,} tokens): the student's tokenizer and chat template don't "
                "fit together, choose another student.",
            )
    return ok("prompt", f"the prompt is token by token what a server sends ({len(rows):,} rows compared)")


def _target(case: Case, rows: list[_Row]) -> Finding:
    """The trained tokens decode to the reasoning, the answer and the end of turn, byte for byte."""
    unfit = case.rendering.unfit
    if unfit:
        return _changed(f"{len(unfit):,} of {len(case.rendering.rows):,} rows", unfit[0])
    for row in rows:
        text = case.tokenizer.decode(row.target_ids, clean_up_tokenization_spaces=False)
        if not (
            row.target.startswith(text.rstrip("\N{REPLACEMENT CHARACTER}")) if row.cut else text == row.target
        ):
            return _changed(f"trace {row.trace_id}", first_difference(row.trace_id, row.target, text))
    return ok(
        "target", f"what is trained on decodes to the trace, byte for byte ({len(case.rows):,} rows compared)"
    )


def _changed(where: str, first: Changed) -> Finding:
    return failed(
        "target",
        f"The student's tokenizer changes the text of {where} ({first}): choose another student, or repair its tokenizer.",
    )


def _tags(rows: list[_Row]) -> Finding:
    """One opening and one closing tag from the end of the prompt on; none of either where there is no reasoning."""
    for row in rows:
        opened = row.prompt.rstrip().endswith(OPEN)
        counts = (opened + row.target.count(OPEN), row.target.count(CLOSE))
        if counts not in ((1, 1), (0, 0)):
            return failed(
                "think tags",
                f"Trace {row.trace_id} would be trained with {counts[0]} opening and {counts[1]} closing think tags: remove it "
                "by the check 'format' (r1distill filter).",
            )
    place = (
        "the prompt opens it" if rows and rows[0].prompt.rstrip().endswith(OPEN) else "the student opens it"
    )
    return ok("think tags", f"one think block in every row; {place}")


def _end(case: Case, rows: list[_Row]) -> Finding:
    """The end of turn is the last token, trained on, and stands nowhere before."""
    end = case.form.end_id
    for row in rows:
        if row.target_ids.count(end) != (0 if row.cut else 1) or (not row.cut and row.target_ids[-1] != end):
            return failed(
                "end of turn",
                f"Trace {row.trace_id} does not end with {case.form.end_text} once, so the student would not learn when to stop: "
                "this is a fault of r1distill or of the student's tokenizer; please report it with the tokenizer's name.",
            )
    return ok("end of turn", f"{case.form.end_text} ends every row and is trained on")
