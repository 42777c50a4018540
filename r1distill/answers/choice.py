"""Grading multiple choice: letters from A to J, as a rule one. No symbolic tier: everything is settled at once.

A reference may name the option's text too, as in "(B) 12": an answer that gives only that text is then right. Several
letters ("B or C") answer only a reference that names the same ones.
"""

from __future__ import annotations

from typing import Any

from r1distill.answers.extract import WHOLE_CHARS, Found, find_marked
from r1distill.answers.letters import last_letter, named_letters, read_letters, read_whole
from r1distill.answers.normalise import folded, latex, squeezed, unicode_digits, without_name
from r1distill.answers.numbers import read_number, same_number
from r1distill.answers.outcome import Grade, shown
from r1distill.answers.words import label


def grade_exact(reference: str, answer_text: str, tests: Any = None) -> Grade:
    """Compare the letters that an answer chooses with the reference's."""
    stated = latex(_marked(reference) or reference)
    wanted = read_letters(stated)
    if wanted is None:
        return Grade("unreadable_reference", note="reference is no letter A-J")
    option = label(stated) if len(wanted) == 1 else None
    if option is not None and option[1] and (given := _content(answer_text)) is not None:
        (where, content) = given
        same = _same_content(option[1], content)
        return Grade("right" if same else "wrong", shown(where.text.strip()), where.how, "exact")
    found = find_choice(unicode_digits(answer_text))
    if found is None:
        return Grade("no_answer")
    return Grade("right" if found.text == wanted else "wrong", shown(found.text), found.how, "exact")


def _content(answer_text: str) -> tuple[Found, str] | None:
    """The marked answer, or a whole short text, when it names no letter but says something."""
    text = unicode_digits(answer_text)
    whole = Found(text, "whole") if len(text) <= WHOLE_CHARS and "\n" not in text.strip() else None
    found = find_marked(text) or whole
    if found is None or not (content := latex(found.text)):
        return None
    named = read_letters(content) or named_letters(found.text) or last_letter(content)
    return None if named else (found, content)


def _same_content(wanted: str, given: str) -> bool:
    if given.endswith("?") and not wanted.endswith("?"):
        return False
    left, right = read_number(without_name(wanted)), read_number(without_name(given))
    if left is not None and right is not None:
        return same_number(left, right)
    return folded(wanted) == folded(given) or squeezed(wanted) == squeezed(given)


def find_choice(text: str) -> Found | None:
    """The chosen letters ("B", or "B, C"): marked as final, the whole of a short text, or the last letter that stands alone
    (a guess).
    """
    marked = find_marked(text)
    if marked is not None:
        letters = read_letters(latex(marked.text)) or named_letters(marked.text)
        if letters is not None:
            return Found(letters, marked.how)
    elif len(text) <= WHOLE_CHARS or "\n" not in text.strip():
        letters = read_whole(latex(text))
        if letters is not None:
            return Found(letters, "whole")
    guess = last_letter(text)
    return None if guess is None else Found(guess, "last_letter")


def _marked(text: str) -> str | None:
    found = find_marked(text)
    return found.text if found else None
