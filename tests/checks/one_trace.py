"""A good trace to change, its problem, and what a check says of it."""

from __future__ import annotations

from typing import Any

from r1distill.checks import Check
from r1distill.records import Message, Prompt, Trace, Usage

PROMPT = Prompt("p", "What is 9 * 2?", "18")


def trace(**changes: Any) -> Trace:
    """The trace with some fields changed."""
    fields: dict[str, Any] = {
        "id": "t", "slot": "s", "prompt_id": "p", "sample": 0, "teacher": "r1", "model": "m", "messages": [Message("user", "q")],
        "reasoning": "9 * 2 = 18.", "answer": "The answer is 18.", "finish": "stop", "usage": Usage(9, 40),
    }  # fmt: skip
    return Trace(**{**fields, **changes})


def said(check: Check, one: Trace, prompt: Prompt = PROMPT) -> tuple[str, str]:
    """(outcome, reason) of a check on one trace."""
    found = check.judge(check.measure(prompt, one))
    return found.outcome, found.reason
