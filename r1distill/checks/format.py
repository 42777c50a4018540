"""Has the trace a reasoning and an answer, and nothing left in them of tags or chat templates?"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from r1distill.answers.extract import last_boxed
from r1distill.checks.base import Check, Judgement, Value, failed, passed
from r1distill.records import Prompt, Trace
from r1distill.thinking import SOLUTION, SPELLINGS

CONTROL_TOKENS = (
    # ChatML: Qwen, InternLM, Yi, Kimi
    "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>",
    "<|im_middle|>", "[BOS]", "[EOS]", "[EOT]",
    # Llama 2, 3, 4
    "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "</s>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>", "<|header_start|>", "<|header_end|>", "<|eot|>", "<|eom|>",
    # Mistral
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    # Phi, GLM, OLMo
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|observation|>", "[gMASK]", "<|begin_of_box|>", "<|end_of_box|>",
    # gpt-oss (harmony)
    "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|call|>", "<|constrain|>",
    # Gemma
    "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>",
    # DeepSeek
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜▁pad▁｜>",
    # Granite, Command, EXAONE, Seed
    "<|start_of_role|>", "<|end_of_role|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>",
    "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "[|endofturn|]", "[|assistant|]",
    "[|user|]", "<seed:bos>", "<seed:eos>",
)  # fmt: skip
"""What the chat templates of these families put between messages, as their tokenizer_config.json files spell it."""


def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))


TAGS = tuple(tag for s in SPELLINGS if s.own for tag in (s.closer, s.opener)) + SOLUTION
"""Tags of think blocks that no ordinary text uses (thinking.py), and of the solution after them."""
TAG, CONTROL = _pattern(TAGS), _pattern(CONTROL_TOKENS)
TAG_SIGNS = ("<|", "think>", "think▷", "THINK]")
CONTROL_SIGNS = (
    "<|", "｜>", "</s>", "_turn>", "os>", "SYS>>", "[|", "INST]", "_PROMPT]", "TOOL", "OS]", "EOT]", "gMASK",
)  # fmt: skip
"""Every token holds one of these: where all are missing, as nearly always, the slow search is not needed."""
OPENERS = ("<", "[", "◁")
"""Every token begins with one of these: a single character is looked for ten times as fast as a sign."""


class Format(Check):
    """Keeps traces whose reasoning and answer are both there and clean."""

    require_reasoning: bool = True
    """Reject traces without a chain of thought."""
    require_boxed: bool | Literal["auto"] = False
    """Reject answers without a \\boxed{...}; "auto": only where the messages ask for one."""

    anywhere: ClassVar[bool] = True
    version: ClassVar[int] = 2
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """Which parts are there, which think tag or control token is left over, is there a box, and was it asked for."""
        return {
            "reasoning": bool(trace.reasoning.strip()),
            "answer": bool(trace.answer.strip()),
            "tag": _first(TAG, TAG_SIGNS, trace),
            "control": _first(CONTROL, CONTROL_SIGNS, trace),
            "boxed": last_boxed(trace.answer) is not None,
            "asked_boxed": any("\\boxed" in message.content for message in trace.messages),
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
        required = value["asked_boxed"] if self.require_boxed == "auto" else self.require_boxed
        if required and not value["boxed"]:
            return failed("no \\boxed{}")
        return passed()


def _first(pattern: re.Pattern[str], signs: tuple[str, ...], trace: Trace) -> str | None:
    """The first token of the kind in reasoning or answer; None when there is none."""
    for text in (trace.reasoning, trace.answer):
        if any(opener in text for opener in OPENERS) and any(sign in text for sign in signs):
            found = pattern.search(text)
            if found:
                return found.group()
    return None
