"""Judged rows without a run: what a selection looks at, and nothing else."""

from __future__ import annotations

from typing import Any

from r1distill.checks import Judgement
from r1distill.filtering.judged import Judged, Place, Source
from r1distill.recipe_sections import SelectSection
from r1distill.records import Prompt, Trace, Usage


def judged(
    prompt: Prompt,
    order: int,
    sample: int,
    text: str = "x",
    tokens: int | None = None,
    judgements: dict[str, Judgement] | None = None,
    values: dict[str, dict[str, Any]] | None = None,
    teacher: str = "t",
) -> Judged:
    """The row of one trace with `text` as its answer."""
    trace = Trace(
        id=f"{prompt.id}-{sample}", slot="s", prompt_id=prompt.id, sample=sample, teacher=teacher, model="m", messages=[],
        reasoning="", answer=text, finish="stop", usage=Usage(completion_tokens=tokens),
    )  # fmt: skip
    row = Judged(Source(order, prompt, trace, Place(0, 0, 0), "0"), teacher)
    row.judgements, row.values = judgements or {}, values or {}
    return row


def problems(count: int, **tags: Any) -> dict[int, Prompt]:
    """Problems by number; a tag given as a function is called with the number."""
    return {
        n: Prompt(f"p{n}", f"q{n}", "1", tags={k: v(n) if callable(v) else v for k, v in tags.items()})
        for n in range(count)
    }


def settings(**keys: Any) -> SelectSection:
    """Settings of a selection, validated as from a recipe."""
    return SelectSection.model_validate(keys)
