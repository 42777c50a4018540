"""Has the trace a reasoning and an answer, and nothing left in them of tags or chat templates?"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from r1distill.answers.extract import last_boxed
from r1distill.checks.base import Check, Judgement, Value, failed, passed
from r1distill.records import Prompt, Trace
from r1distill.thinking import CLOSE, OPEN

CONTROL = re.compile(
    "|".join(
        re.escape(token)
        for token in (
            "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>",
            "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>", "<|return|>",
            "<|assistant|>", "<|user|>", "<|system|>", "</s>", "<end_of_turn>", "<start_of_turn>", "[/INST]", "<|eom_id|>",
            "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<|end_of_role|>",
        )
    )
)  # fmt: skip
"""Control tokens of the chat templates of Qwen, Llama, Phi, gpt-oss, Mistral, Gemma, DeepSeek and Granite."""


class Format(Check):
    """Keeps traces whose reasoning and answer are both there and clean."""

    require_reasoning: bool = True
    """Reject traces without a chain of thought."""
    require_boxed: bool = False
    """Reject answers without a \\boxed{...}."""

    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """Which parts are there, which think tag or control token is left over (the first one), is there a box."""
        return {
            "reasoning": bool(trace.reasoning.strip()),
            "answer": bool(trace.answer.strip()),
            "tag": _tag(trace.reasoning) or _tag(trace.answer),
            "control": _control(trace.reasoning) or _control(trace.answer),
            "boxed": last_boxed(trace.answer) is not None,
            "unclosed": trace.reasoning_source == "unclosed",
        }

    def judge(self, value: Value) -> Judgement:
        """The first fault that is found, in the order of a reader: parts, tags, control tokens, box."""
        if self.require_reasoning and not value["reasoning"]:
            return failed("no reasoning")
        if value["unclosed"]:
            return failed("reasoning never closed")
        if not value["answer"]:
            return failed("no answer after the reasoning")
        if value["tag"]:
            return failed(f"stray {value['tag']}")
        if value["control"]:
            return failed(f"control token {value['control']}")
        if self.require_boxed and not value["boxed"]:
            return failed("no \\boxed{}")
        return passed()


def _tag(text: str) -> str | None:
    return CLOSE if CLOSE in text else OPEN if OPEN in text else None


def _control(text: str) -> str | None:
    if "<" not in text and "[/" not in text:
        return None
    found = CONTROL.search(text)
    return found.group() if found else None
