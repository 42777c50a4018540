"""Does a teacher hide its reasoning, or only summarise it? Decided within its first answers, before much is paid.

In: of each answer the reasoning, where it stood, the reasoning tokens that the teacher counted, the summary.
Out: one Finding, or none when any of the first answers carries usable reasoning: DeepSeek-R1 may pass over its thinking
with an empty block now and then (https://github.com/deepseek-ai/DeepSeek-R1, usage recommendations).
"""

from __future__ import annotations

import string
from typing import Literal, NamedTuple

FIRST_ANSWERS = 4
"""So many answers without usable reasoning decide."""
LETTERS_PER_TOKEN = 2.0
"""The least number of Latin letters that a token of running text holds on average; each other byte counts as a token.
English reasoning has about 4 characters a token, Chinese about 1.5 (4.5 bytes), but maths is dense: a tokenizer that
parts digits (SmolLM2's, measured) gives 1.0 characters a token on numbers, 1.4 on sums and LaTeX, 0.6 (1.8 bytes) on
Chinese. So no flat number of characters would do: this bound holds for all of them, and asks 1.6 characters a token of
English prose, of which a summary has well under one.
"""
FEWEST_TOKENS = 64
"""A smaller count says nothing: tags, line ends and rounding weigh too much."""

EMPTY_BLOCK_TOKENS = 4
"""An empty think block, tags and line ends, may be counted as so many reasoning tokens."""

Kind = Literal["hidden", "summarised", "absent"]

_LETTERS = string.ascii_letters.encode()
SEEN: dict[Kind, str] = {
    "hidden": "hides its reasoning: its first {answers} answers count {tokens:,} reasoning tokens and hold none of the text",
    "summarised": "only summarises its reasoning: its first {answers} answers count {tokens:,} reasoning tokens and hold"
    " {characters:,} characters of it",
    "absent": "sends no reasoning: its first {answers} answers hold none and count only {tokens:,} reasoning tokens",
}
SEEN_UNCOUNTED: dict[Kind, str] = {
    "hidden": "hides its reasoning: its first {answers} answers hold it encrypted",
    "summarised": "only summarises its reasoning: its first {answers} answers hold {characters:,} characters of summaries",
    "absent": "sends no reasoning: its first {answers} answers hold none and count no reasoning tokens",
}
ADVICE: dict[Kind, str] = {
    "hidden": 'Ask for the text (Groq: reasoning_format = "parsed"; OpenRouter: reasoning = { exclude = false }; a server of'
    " your own: its reasoning parser, as vLLM's and SGLang's --reasoning-parser), or use a host or model that sends it.",
    "summarised": "A summary leaves out the steps that a student should learn: use a host or model that sends the whole"
    " reasoning, such as one with open weights.",
    "absent": "If the model can reason, switch it on (enable_thinking, reasoning_effort, or a prompt that asks for <think>"
    " tags); if it does, start its server with a reasoning parser (vLLM and SGLang: --reasoning-parser); else use another"
    " model.",
}


class Finding(NamedTuple):
    """What the first answers of a teacher show."""

    kind: Kind
    answers: int
    reasoning_tokens: int
    """As counted by the teacher, over these answers."""
    characters: int
    """Of reasoning and summaries that came, over these answers."""

    def sentence(self, teacher: str) -> str:
        """What was seen and what to do, for people."""
        seen = (SEEN if self.reasoning_tokens else SEEN_UNCOUNTED)[self.kind]
        said = seen.format(answers=self.answers, tokens=self.reasoning_tokens, characters=self.characters)
        return f"Teacher {teacher} {said}. {ADVICE[self.kind]}"


class ReasoningWatch:
    """Watches the first answers of one teacher."""

    def __init__(self, first_answers: int = FIRST_ANSWERS) -> None:
        self.settled = False
        """True when the question is decided: usable reasoning was seen, or the finding was given."""
        self._first_answers = first_answers
        self._kinds: list[Kind] = []
        self._tokens = 0
        self._characters = 0

    def see(self, reasoning: str, source: str, reasoning_tokens: int | None, summary: str) -> Finding | None:
        """Take in one answer; the finding, once, with the answer that decides it.

        `source` and `summary` are those of reasoning.normalise and summary_of; `reasoning_tokens` None when not counted.
        """
        if self.settled:
            return None
        kind = kind_of(reasoning, source, reasoning_tokens, summary)
        if kind is None:
            self.settled = True
            return None
        self._kinds.append(kind)
        self._tokens += reasoning_tokens or 0
        self._characters += len(reasoning) + len(summary)
        if len(self._kinds) < self._first_answers:
            return None
        self.settled = True
        return Finding(self._worst(), len(self._kinds), self._tokens, self._characters)

    def _worst(self) -> Kind:
        """Summaries prove most: the teacher reasons and shows something else; then hidden text."""
        order: tuple[Kind, ...] = ("summarised", "hidden", "absent")
        return next(kind for kind in order if kind in self._kinds)


def kind_of(reasoning: str, source: str, reasoning_tokens: int | None, summary: str) -> Kind | None:
    """What one answer shows of its teacher; None when its reasoning is usable."""
    tokens = reasoning_tokens or 0
    if source == "summary" or (summary.strip() and not reasoning.strip()):
        return "summarised"
    if reasoning.strip():
        return "summarised" if tokens >= FEWEST_TOKENS and most_tokens(reasoning) < tokens else None
    return "hidden" if tokens > EMPTY_BLOCK_TOKENS or source == "encrypted" else "absent"


def most_tokens(text: str) -> float:
    """More tokens than `text` can have, see LETTERS_PER_TOKEN."""
    raw = text.encode("utf-8", "replace")
    others = len(raw.translate(None, _LETTERS))
    return (len(raw) - others) / LETTERS_PER_TOKEN + others
