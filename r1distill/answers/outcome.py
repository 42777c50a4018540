"""What grading one answer comes to, and the question that only symbolic algebra can settle."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

AnswerOutcome = Literal["right", "wrong", "no_answer", "unreadable_reference", "timeout", "error"]
How = Literal[
    "boxed", "hash", "phrase", "fenced", "whole", "closing", "last_number", "last_letter", "last_json"
]  # fmt: skip
FALLBACKS = ("last_number", "last_letter", "last_json")
"""Places where an answer is only guessed to stand: strict grading does not count them."""
SHOWN_CHARS = 200
"""So much of an extracted answer is kept in a Grade."""


class Grade(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer compared with its reference."""

    outcome: AnswerOutcome
    """"timeout", "error" and "unreadable_reference" mean: can't tell. They are neither right nor wrong."""
    extracted: str | None = None
    """The final answer as found in the text, cut at SHOWN_CHARS."""
    how: How | None = None
    """Where it was found: \\boxed{}, after ####, after "the answer is" or a JSON key "answer", a fenced block, the whole text,
    in the sentence that closes the text, or guessed (FALLBACKS)."""
    tier: Literal["exact", "symbolic"] | None = None
    """Which tier settled it: normalised text and exact fractions, or computer algebra."""
    note: str = ""
    """Why, in few countable words, where the outcome alone does not say it."""

    def right(self, strict: bool = True) -> bool:
        """True for a right answer; `strict` wants it marked as the final answer, not guessed from the text."""
        return self.outcome == "right" and not (strict and self.how in FALLBACKS)

    @property
    def judged(self) -> bool:
        """False when nobody can tell whether the answer is right."""
        return self.outcome in ("right", "wrong", "no_answer")


class Pending(NamedTuple):
    """A comparison that the exact tier leaves to `answers.settle`, which may take long: run it in a worker."""

    reference: str
    extracted: str
    how: How


def shown(text: str) -> str:
    """`text` cut to what a Grade keeps."""
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
