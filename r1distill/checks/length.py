"""Is the trace neither trivially short nor longer than the student can learn from?"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from r1distill.checks.base import Check, Judgement, Value, failed, passed
from r1distill.records import Prompt, Trace

BYTES_PER_TOKEN = 3.6
"""UTF-8 bytes of reasoning text per token, for traces whose teacher sent no usage: an estimate, measured values lie
between 3 and 4.5 for English mathematics with the tokenizers of Qwen and Llama."""


class Length(Check):
    """Keeps traces of a fitting length, reasoning and answer together."""

    min_tokens: int = Field(default=1, ge=0)
    """Fewest completion tokens."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most completion tokens; default: no limit."""

    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"tokens": n, "unit": "usage" as the teacher counted or "estimate" from the bytes of the text}."""
        counted = trace.usage.completion_tokens
        if counted is not None:
            return {"tokens": counted, "unit": "usage"}
        size = len(trace.reasoning.encode("utf-8", "replace")) + len(trace.answer.encode("utf-8", "replace"))
        return {"tokens": round(size / BYTES_PER_TOKEN), "unit": "estimate"}

    def judge(self, value: Value) -> Judgement:
        """Compare with the bounds; the score is the number of tokens."""
        tokens = value["tokens"]
        if tokens < self.min_tokens:
            return failed(f"under {self.min_tokens} tokens", tokens)
        if self.max_tokens is not None and tokens > self.max_tokens:
            return failed(f"over {self.max_tokens} tokens", tokens)
        return passed(value["unit"], tokens)
