"""Plain numbers, exactly: an integer, a decimal, a fraction, a mixed number, a percentage, a power of ten.

`read_number` understands normalised text only (see normalise.latex) and gives an exact Fraction, never a float.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
DECIMAL = rf"(?:{DIGITS}(?:\.\d*)?|\.\d+)"
UNIT = r"(?: ?%| ?(?:percent|[A-Za-z][A-Za-z.]*)(?:[ /-][A-Za-z][A-Za-z.]*){0,4}(?: ?\^ ?\{?[23]\}?)?(?: ?/ ?[A-Za-z]+)?)?"
PLAIN = re.compile(rf"([+-]?) ?\$? ?({DECIMAL})({UNIT})")
RATIO = re.compile(rf"([+-]?) ?(?:(\d+) )?({DIGITS}) ?/ ?({DIGITS})({UNIT})")
FRAC = re.compile(
    rf"([+-]?) ?(?:(\d+) ?)?\\frac ?\{{ ?([+-]?) ?({DECIMAL}) ?\}} ?\{{ ?([+-]?) ?({DECIMAL}) ?\}}({UNIT})"
)
POWER = re.compile(
    rf"([+-]?) ?({DECIMAL}) ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{{? ?([+-]?\d{{1,3}}) ?\}}?({UNIT})"
)
EXPONENT = re.compile(rf"([+-]?)({DECIMAL})[eE]([+-]?\d{{1,2}})")
NOT_UNITS = frozenset(
    ["sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp", "factorial", "choose", "mod", "and", "or", "to"]
)
"""Words behind a number that make it an expression or several answers, not a number with a unit."""
SHORT_UNITS = frozenset(
    [
        "cm",
        "mm",
        "km",
        "dm",
        "kg",
        "mg",
        "ml",
        "ft",
        "in",
        "yd",
        "mi",
        "lb",
        "lbs",
        "oz",
        "hr",
        "hrs",
        "min",
        "mins",
        "sec",
        "ms",
        "am",
        "pm",
        "mph",
        "kph",
        "usd",
        "units",
        "deg",
        "rad",
        "hz",
        "kw",
        "cc",
        "sq",
        "cu",
    ]
)
"""Read as a unit even right behind the number; other short words there are products of variables (2xy)."""
UNIT_LETTERS = "msglht"
"""Single letters that are read as a unit when a space parts them from the number; others are variables."""
FLOAT_PLACES = 12
"""A decimal with so many places was printed from a binary float."""
MAX_DIGITS = 4000
"""Longer numbers are left to comparison as text (Python reads at most 4,300 digits)."""


class Number(NamedTuple):
    """A plain number as written."""

    value: Fraction
    percent: bool
    decimals: int | None
    """Digits behind the decimal point; None for integers and fractions."""


def read_number(text: str) -> Number | None:
    """The number that `text` is, units ignored; None when it is anything else."""
    if not text or len(text) > MAX_DIGITS:
        return None
    found = PLAIN.fullmatch(text)
    if found and unit_ok(found[3]):
        return _number(_signed(found[1], _decimal(found[2])), found[3], _decimals(found[2]))
    if "/" in text and (found := RATIO.fullmatch(text)) and unit_ok(found[5]):
        return _fraction(found[1], found[2], "", found[3], "", found[4], found[5])
    if "\\frac" in text and (found := FRAC.fullmatch(text)) and unit_ok(found[7]):
        return _fraction(found[1], found[2], found[3], found[4], found[5], found[6], found[7])
    found = POWER.fullmatch(text)
    if found and unit_ok(found[4]):
        return _number(_signed(found[1], _decimal(found[2])) * Fraction(10) ** int(found[3]), found[4], None)
    if found := EXPONENT.fullmatch(text):
        return _number(_signed(found[1], _decimal(found[2])) * Fraction(10) ** int(found[3]), "", None)
    return None


def unit_ok(unit: str) -> bool:
    """True when what stands behind a number is a unit or nothing, and not a variable, a function or a second answer."""
    text = unit.strip()
    if not text or text == "%":
        return True
    words = re.findall(r"[A-Za-z]+", text)
    if any(word.lower() in NOT_UNITS or (len(word) == 1 and word not in UNIT_LETTERS) for word in words):
        return False
    first, spaced = words[0], unit[0] == " "
    if len(first) == 1:
        return spaced
    return first.lower() in SHORT_UNITS or len(first) >= (3 if spaced else 5)


def same_number(reference: Number, answer: Number) -> bool:
    """Exact equality; a percent sign may be left out (50% = 50 = 0.5), and a decimal of five or more places may be rounded.

    A sign that the reference does not have is passed over for values from 1 up only: 50% answers "what percent?", but
    0.5% is not 1/2.
    """
    if reference.value == answer.value and (
        abs(answer.value) >= 1 or reference.percent or not answer.percent
    ):
        return True
    if reference.percent != answer.percent:
        marked, bare = (reference, answer) if reference.percent else (answer, reference)
        return marked.value / 100 == bare.value
    return _rounded(reference, answer) or _rounded(answer, reference)


def _rounded(short: Number, exact: Number) -> bool:
    """True when `short` is `exact` rounded to short's own places, of which there are at least five.

    From FLOAT_PLACES on the last digit may be off: that is how a binary float is printed.
    """
    if short.decimals is None or short.decimals < 5 or (exact.decimals or 99) <= short.decimals:
        return False
    slack = 20 if short.decimals >= FLOAT_PLACES else 1
    return abs(short.value - exact.value) * 2 <= Fraction(slack, 10**short.decimals)


def _number(value: Fraction, unit: str, decimals: int | None) -> Number:
    return Number(value, "%" in unit or "percent" in unit.lower(), decimals)


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip(".") or "0")


def _decimals(text: str) -> int | None:
    return len(text.partition(".")[2]) or None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def _fraction(
    sign: str, whole: str | None, top_sign: str, top: str, bottom_sign: str, bottom: str, unit: str
) -> Number | None:
    below = _signed(bottom_sign, _decimal(bottom))
    if below == 0:
        return None
    value = _signed(top_sign, _decimal(top)) / below
    if whole is not None:
        if not 0 <= value < 1:
            return None  # 3 \frac{5}{2} is a product or a slip, not a mixed number
        value += int(whole)
    return _number(_signed(sign, value), unit, None)
