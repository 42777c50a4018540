"""Grading short texts: equal after folding case, white space and the punctuation around them."""

from __future__ import annotations

from r1distill.answers.extract import Found, find_marked
from r1distill.answers.normalise import folded, latex
from r1distill.answers.outcome import Grade, shown


def grade_exact(reference: str, answer_text: str) -> Grade:
    """Compare the marked answer, or the whole text, with the reference."""
    wanted = _spellings(_answer(reference).text)
    if not any(wanted):
        return Grade("unreadable_reference", note="empty reference")
    found = _answer(answer_text)
    given = _spellings(found.text)
    if not any(given):
        return Grade("no_answer")
    same = bool({w for w in wanted if w} & given)
    return Grade("right" if same else "wrong", shown(found.text.strip()), found.how, "exact")


def _answer(text: str) -> Found:
    return find_marked(text) or Found(text, "whole")


def _spellings(text: str) -> set[str]:
    """The text as it is and with LaTeX wrappers taken off, both folded."""
    return {folded(text), folded(latex(text))}
