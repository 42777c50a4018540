"""Grading short texts: equal after folding case, white space and the punctuation around them.

The problem's `tests` may ask for something else: {"tolerance": 0.01} compares numbers (absolute, or with
"relative": true as a share of the reference), {"regex": "..."} wants the whole answer to match. A regex may take for
ever, so it is left Pending: `settle` belongs in a worker that can be killed.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from r1distill.answers.compare import read_value
from r1distill.answers.extract import Found, find_marked
from r1distill.answers.math import find_answer
from r1distill.answers.normalise import folded, latex, unwrap
from r1distill.answers.numbers import Number
from r1distill.answers.options import read_options
from r1distill.answers.outcome import Grade, How, Pending, shown

OPTIONS = ("tolerance", "relative", "regex")


def grade_exact(reference: str, answer_text: str, tests: Any = None) -> Grade | Pending:
    """Compare the marked answer, or the whole text, with the reference, as `tests` asks for."""
    options, fault = read_options(tests, OPTIONS)
    fault = fault or _fault(options)
    if fault:
        return Grade("error", note=fault)
    if "regex" in options:
        found = _answer(answer_text)
        return Pending(options["regex"], found.text, found.how) if found.text.strip() else Grade("no_answer")
    if "tolerance" in options:
        return _grade_number(
            reference, answer_text, Fraction(str(options["tolerance"])), options.get("relative", False)
        )
    return _grade_words(reference, answer_text)


def wants_regex(tests: Any) -> bool:
    """True when a regex decides, so that no reference is needed."""
    return tests is not None and "regex" in read_options(tests, OPTIONS)[0]


def _fault(options: dict[str, Any]) -> str:
    """What is wrong with the options; "" for nothing."""
    tolerance, relative, regex = (options.get(name) for name in OPTIONS)
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 <= tolerance < float("inf")):
        return "tests: tolerance must be a number from 0 up"
    if relative is not None and (tolerance is None or not isinstance(relative, bool)):
        return "tests: relative must be true or false, beside a tolerance"
    if regex is not None and (tolerance is not None or not isinstance(regex, str) or not regex):
        return "tests: regex must be a text, without a tolerance"
    return ""


def _grade_words(reference: str, answer_text: str) -> Grade:
    wanted = _spellings(_answer(reference).text)
    if not any(wanted):
        return Grade("unreadable_reference", note="empty reference")
    found = _answer(answer_text)
    given = _spellings(found.text)
    if not any(given):
        return Grade("no_answer")
    asks = found.text.rstrip().endswith("?") and not reference.rstrip().endswith("?")
    same = bool({w for w in wanted if w} & given) and not asks
    return Grade("right" if same else "wrong", shown(found.text.strip()), found.how, "exact")


def _grade_number(reference: str, answer_text: str, tolerance: Fraction, relative: bool) -> Grade:
    """Right when the answer's number is at most `tolerance` away from the reference's."""
    wanted = _number(_answer(reference).text)
    if wanted is None:
        return Grade("unreadable_reference", note="reference is no number")
    found = find_answer(answer_text)
    if found is None:
        return Grade("no_answer")
    given = _number(found.text)
    if given is None:
        return Grade("wrong", shown(found.text), found.how, "exact", "answer is no number")
    allowed = tolerance * abs(wanted.value) if relative else tolerance
    near = any(abs(wanted.value - value) <= allowed for value in _readings(wanted, given))
    return Grade("right" if near else "wrong", shown(found.text.strip()), found.how, "exact")


def _readings(wanted: Number, given: Number) -> list[Fraction]:
    """The answer's value as written and, when only one side has a percent sign, in the reference's terms."""
    if wanted.percent == given.percent:
        return [given.value]
    return [given.value, given.value * 100 if wanted.percent else given.value / 100]


def _number(text: str) -> Number | None:
    return read_value(latex(text))


def settle(pattern: str, extracted: str, how: How) -> Grade:
    """Whether the whole answer matches the user's regex; may take for ever: call it in a killable process."""
    try:
        same = any(re.fullmatch(pattern, text) for text in (extracted.strip(), unwrap(extracted)))
    except (re.error, OverflowError, RecursionError):
        return Grade("unreadable_reference", shown(extracted), how, None, "the regex can't be read")
    return Grade("right" if same else "wrong", shown(extracted.strip()), how, "exact")


def _answer(text: str) -> Found:
    return find_marked(text) or Found(text, "whole")


def _spellings(text: str) -> set[str]:
    """The text as it is and with LaTeX wrappers taken off, both folded."""
    return {folded(text), folded(latex(text))}
