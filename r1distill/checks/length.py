"""Is the trace neither trivially short nor longer than the student can learn from?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from r1distill.checks.base import Check, Judgement, Row, Value, failed, passed
from r1distill.records import Prompt, Trace

BYTES_PER_TOKEN = 3.6
"""UTF-8 bytes of reasoning text per token, for traces whose teacher sent no usage: an estimate, measured values lie
between 3 and 4.5 for English mathematics with the tokenizers of Qwen and Llama."""
USAGE, ESTIMATE = "usage", "estimate"
PAIRS = (
    ("min_tokens", "max_tokens"),
    ("min_reasoning_tokens", "max_reasoning_tokens"),
    ("min_answer_tokens", "max_answer_tokens"),
    ("min_reasoning_tokens", "max_tokens"),
    ("min_answer_tokens", "max_tokens"),
    ("min_quantile", "max_quantile"),
)
"""Bounds that must be in order."""


class Length(Check):
    """Keeps traces of a fitting length: both parts together, each part, and among those of the same teacher."""

    min_tokens: int = Field(default=1, ge=0)
    """Fewest completion tokens."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most completion tokens; default: no limit."""
    min_reasoning_tokens: int = Field(default=0, ge=0)
    """Fewest tokens of reasoning."""
    max_reasoning_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of reasoning; default: no limit."""
    min_answer_tokens: int = Field(default=0, ge=0)
    """Fewest tokens of the answer after the reasoning."""
    max_answer_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of the answer after the reasoning; default: no limit."""
    min_quantile: float | None = Field(default=None, gt=0, lt=1)
    """Rejects a teacher's shortest traces: 0.05 those that are shorter than 95% of its traces."""
    max_quantile: float | None = Field(default=None, gt=0, lt=1)
    """Rejects a teacher's longest traces: 0.95 those that are longer than 95% of its traces."""

    anywhere: ClassVar[bool] = True
    version: ClassVar[int] = 2
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        for least, most in PAIRS:
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"{least} is greater than {most}, so that no trace could stay")
        return self

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"tokens", "unit", "reasoning", "answer", "parts"} in tokens; unit (of "tokens") and parts (of the other two) are
        "usage" as the teacher counted or "estimate" from the bytes of the text.
        """
        thought, said = _size(trace.reasoning), _size(trace.answer)
        total, part = trace.usage.completion_tokens, trace.usage.reasoning_tokens
        unit = USAGE if total is not None else ESTIMATE
        if total is None:
            total = round((thought + said) / BYTES_PER_TOKEN)
        counted = unit == USAGE and part is not None and (part > 0 or not thought)
        if not counted or part is None:
            part = round(total * thought / (thought + said)) if thought else 0
        part = min(part, total)
        parts = USAGE if counted else ESTIMATE
        return {"tokens": total, "unit": unit, "reasoning": part, "answer": total - part, "parts": parts}

    def judge(self, value: Value) -> Judgement:
        """Compare with the bounds; the score is the number of completion tokens, the reason says how they were counted."""
        unit, parts = value["unit"], value["parts"]
        fault = (
            _fault(value["tokens"], self.min_tokens, self.max_tokens, "tokens", unit)
            or _fault(value["reasoning"], self.min_reasoning_tokens, self.max_reasoning_tokens, "reasoning tokens", parts)
            or _fault(value["answer"], self.min_answer_tokens, self.max_answer_tokens, "answer tokens", parts)
        )  # fmt: skip
        return failed(fault, value["tokens"]) if fault else passed(unit, value["tokens"])

    def compares(self) -> bool:
        """Only for quantiles the whole set is needed."""
        return self.min_quantile is not None or self.max_quantile is not None

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """As `judge`, then against the quantiles of all traces of the same teacher."""
        found = [self.judge(row.values[name]) for row in rows]
        if not self.compares():
            return found
        tokens: defaultdict[str, list[int]] = defaultdict(list)
        for row in rows:
            tokens[row.teacher].append(row.values[name]["tokens"])
        bounds = {teacher: self._bounds(sorted(counts)) for teacher, counts in tokens.items()}
        return [
            self._among(judgement, row.values[name]["tokens"], *bounds[row.teacher])
            for judgement, row in zip(found, rows, strict=True)
        ]

    def _bounds(self, counts: list[int]) -> tuple[int, int]:
        """The least and the largest number of tokens that the quantiles allow."""
        low = 0 if self.min_quantile is None else math.floor(self.min_quantile * len(counts))
        high = len(counts) if self.max_quantile is None else math.ceil(self.max_quantile * len(counts))
        return counts[low], counts[high - 1]

    def _among(self, judgement: Judgement, tokens: int, low: int, high: int) -> Judgement:
        if judgement.outcome == "PASS" and tokens < low:
            return failed(f"under quantile {self.min_quantile} of its teacher", tokens)
        if judgement.outcome == "PASS" and tokens > high:
            return failed(f"over quantile {self.max_quantile} of its teacher", tokens)
        return judgement


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _fault(tokens: int, least: int, most: int | None, what: str, unit: str) -> str:
    """What is wrong with a count, saying so when it is an estimate; "" when nothing is."""
    note = " (estimate)" if unit == ESTIMATE else ""
    if tokens < least:
        return f"under {least} {what}{note}"
    return f"over {most} {what}{note}" if most is not None and tokens > most else ""
