"""Grading multiple choice: one letter from A to J. No symbolic tier: everything is settled at once.

A reference may name the option's text too, as in "(B) 12": an answer that gives only that text is then right.
"""

from __future__ import annotations

import re
from typing import Any

from r1distill.answers.extract import WHOLE_CHARS, Found, find_marked, last_match
from r1distill.answers.normalise import folded, latex, squeezed, unicode_digits, without_name
from r1distill.answers.numbers import read_number, same_number
from r1distill.answers.outcome import Grade, shown
from r1distill.answers.words import label

LETTER = r"\(?([A-J])(?:\)|(?![\w'])\.?:?)"
LEADING = re.compile(rf"(?:(?:option|choice|answer)[ :]{{1,2}})?{LETTER}", re.IGNORECASE)
NAMED = re.compile(r"\b(?:option|choice|letter)[ :]{1,2}[*(\[]{0,3}([A-J])\b", re.IGNORECASE)
BRACKETED = re.compile(r"[(\[]([A-J])[)\]]|\*\*([A-J])[.):]?\*\*")
STANDALONE = re.compile(r"(?<![\w'])([B-HJ])(?![\w'])")


def grade_exact(reference: str, answer_text: str, tests: Any = None) -> Grade:
    """Compare the letter that an answer chooses with the reference's letter."""
    wanted = read_letter(latex(_marked(reference) or reference))
    if wanted is None:
        return Grade("unreadable_reference", note="reference is no letter A-J")
    option = label(latex(_marked(reference) or reference))
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
    named = read_letter(content) or _named(found.text) or _last(STANDALONE, content)
    return None if named else (found, content)


def _same_content(wanted: str, given: str) -> bool:
    left, right = read_number(without_name(wanted)), read_number(without_name(given))
    if left is not None and right is not None:
        return same_number(left, right)
    return folded(wanted) == folded(given) or squeezed(wanted) == squeezed(given)


def find_choice(text: str) -> Found | None:
    """The chosen letter: marked as final, the whole of a short text, or the last letter that stands alone (a guess)."""
    marked = find_marked(text)
    if marked is not None:
        letter = read_letter(latex(marked.text)) or _named(marked.text)
        if letter is not None:
            return Found(letter, marked.how)
    start = read_letter(latex(text[:WHOLE_CHARS]))
    if start is not None and (len(text) <= WHOLE_CHARS or "\n" not in text.strip()):
        return Found(start, "whole")
    guess = _last(BRACKETED, text) or _last(STANDALONE, text)
    return None if guess is None else Found(guess, "last_letter")


def read_letter(text: str) -> str | None:
    """The letter that `text` begins with, as in "C", "(c)", "C. text", "option C"; None when it begins otherwise.

    A lower-case letter or an "A" in front of a word counts only with a bracket, a stop or nothing behind it.
    """
    found = LEADING.match(text.strip())
    if found is None:
        return None
    rest = text.strip()[found.end() :]
    clear = (
        not rest
        or found.group().endswith((")", ".", ":"))
        or found.group().lower().startswith(("option", "choice"))
    )
    if not clear and (found.group(1).islower() or found.group(1) in "AI"):
        return None
    return found.group(1).upper()


def _marked(text: str) -> str | None:
    found = find_marked(text)
    return found.text if found else None


def _named(text: str) -> str | None:
    """A letter inside a clause: "the second one, (C)", "clearly option B"."""
    return _last(NAMED, text) or _last(BRACKETED, text)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    last = last_match(pattern, text)
    return None if last is None else next(group for group in last.groups() if group).upper()
