"""The chain of thought inside a text: taking it out, and putting it in. One convention for the whole toolkit.

Canonical form, as DeepSeek-R1 writes it and Qwen3's template renders it:
`<think>` newline reasoning newline `</think>` blank line answer. Splitting is done by index scans, since a lazy
regular expression is quadratic on hostile text. White space around the parts is not theirs.
"""

from __future__ import annotations

from typing import NamedTuple

OPEN = "<think>"
CLOSE = "</think>"


class Split(NamedTuple):
    """A text taken apart."""

    reasoning: str
    answer: str
    source: str
    """"inline"; "inline-no-opener" (the opening tag stood in the prompt); "unclosed" (cut inside the reasoning); "none"."""


def split_thinking(text: str) -> Split:
    """Take the leading think block out of `text`; both parts come back stripped of white space."""
    start, end = text.find(OPEN), text.find(CLOSE)
    if start < 0 and end < 0:
        return Split("", text.strip(), "none")
    if start < 0 or 0 <= end < start:
        return Split(text[:end].strip(), text[end + len(CLOSE) :].strip(), "inline-no-opener")
    before = text[:start].strip()
    if end < 0:
        return Split(text[start + len(OPEN) :].strip(), before, "unclosed")
    answer = text[end + len(CLOSE) :].strip()
    return Split(
        text[start + len(OPEN) : end].strip(), f"{before}\n\n{answer}".strip() if before else answer, "inline"
    )


def join_thinking(reasoning: str, answer: str) -> str:
    """The canonical text of a trace: think block, blank line, answer; without reasoning just the answer."""
    if not reasoning:
        return answer
    return f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{answer}"
