r"""Inequalities in one variable as intervals: 0 < x \le 1 is (0,1], x < 2 or x > 3 is (-\infty,2) \cup (3,\infty).

In: a normalised text. Out: intervals as text, or None when a bound holds a variable or the text is something else.
"""

from __future__ import annotations

import re

from r1distill.answers.numbers import read_number

MAX_CHARS = 200
"""Longer texts are no inequality that one could read."""
SIGN = re.compile(r" ?(<|>|\\(?:leq?|geq?|lt|gt)(?![A-Za-z])) ?")
UNEQUAL = re.compile(r"[A-Za-z] ?\\neq?(?![A-Za-z]) ?(-?[^=<>,]{1,40})")
HOLED = re.compile(
    r"([^,=]{1,80}?)(?:,? and |, ?| \\(?:land|wedge) )[A-Za-z] ?\\neq?(?![A-Za-z]) ?(-?[^=<>,]{1,40})"
)
"""An inequality, and a value that is left out."""
VARIABLE = re.compile(r"[A-Za-z](?:_\{?\w\}?)?")
LOOSE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
ALTERNATIVES = re.compile(r",? or |\\(?:lor|vee)(?![A-Za-z])")
MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def read_intervals(text: str) -> list[str] | None:
    """The intervals that an inequality, or several joined by "or", or x != 2 describe."""
    if len(text) > MAX_CHARS:
        return None
    if (unequal := UNEQUAL.fullmatch(text)) and "\\pm" not in text:
        return _both_sides(unequal[1].strip())
    if not SIGN.search(text):
        return None
    if (holed := HOLED.fullmatch(text)) is not None:
        return _with_hole(holed[1].strip(), holed[2].strip())
    found = [_interval(part.strip()) for part in ALTERNATIVES.split(text)]
    known = [interval for interval in found if interval is not None]
    return known if len(known) == len(found) else None


def _interval(text: str) -> str | None:
    pieces = SIGN.split(text)
    terms, signs = pieces[::2], [_plain(sign) for sign in pieces[1::2]]
    if len(terms) == 2:
        return _half_line(terms[0], signs[0], terms[1])
    if len(terms) != 3 or not VARIABLE.fullmatch(terms[1]) or signs[0][0] != signs[1][0]:
        return None
    low, high = (terms[0], terms[2]) if signs[0][0] == "<" else (terms[2], terms[0])
    first, last = signs if signs[0][0] == "<" else signs[::-1]
    return _written(low, high, "=" in first, "=" in last)


def _with_hole(inequality: str, hole: str) -> list[str] | None:
    r"""(-1,0) and (0,\infty) of k > -1 and k != 0; None unless the bounds are plain numbers around the hole."""
    interval, at = _interval(inequality), read_number(hole)
    if interval is None or at is None:
        return None
    low, high = interval[1:-1].split(",")
    ends = [None if "infty" in end else read_number(end) for end in (low, high)]
    known = all("infty" in end or read_number(end) for end in (low, high))
    if not known or (ends[0] and ends[0].value >= at.value) or (ends[1] and ends[1].value <= at.value):
        return None
    return [f"{interval[0]}{low},{hole})", f"({hole},{high}{interval[-1]}"]


def _both_sides(hole: str) -> list[str] | None:
    below, above = _written("-\\infty", hole, False, False), _written(hole, "\\infty", False, False)
    return [below, above] if below and above else None


def _half_line(left: str, sign: str, right: str) -> str | None:
    if VARIABLE.fullmatch(right) and not VARIABLE.fullmatch(left):
        left, sign, right = right, MIRROR[sign], left
    if not VARIABLE.fullmatch(left):
        return None
    if sign[0] == "<":
        return _written("-\\infty", right, False, "=" in sign)
    return _written(right, "\\infty", "=" in sign, False)


def _written(low: str, high: str, low_in: bool, high_in: bool) -> str | None:
    if not low or not high or LOOSE_LETTER.search(low + " " + high) or "," in low + high:
        return None
    return f"{'[' if low_in else '('}{low},{high}{']' if high_in else ')'}"


def _plain(sign: str) -> str:
    return {"\\lt": "<", "\\gt": ">"}.get(sign) or {"\\l": "<=", "\\g": ">="}.get(sign[:2]) or sign
