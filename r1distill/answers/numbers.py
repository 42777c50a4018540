"""Plain numbers, exactly: an integer, a decimal, a fraction, a mixed number, a percentage, a power of ten.

`read_number` understands normalised text only (see normalise.latex) and gives an exact Fraction, never a float.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from r1distill.answers.units import read_unit

DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
DECIMAL = rf"(?:{DIGITS}(?:\.\d*)?|\.\d+)"
UNIT = r"(?: ?%| ?(?:percent|[A-Za-z][A-Za-z.]*)(?:[ /-][A-Za-z][A-Za-z.]*){0,4}(?: ?\^ ?\{?[23]\}?)?(?: ?/ ?[A-Za-z]+)?)?"
PLAIN = re.compile(rf"([+-]?) ?\$? ?({DECIMAL})({UNIT})")
RATIO = re.compile(rf"([+-]?) ?(?:(\d+) )?({DIGITS}) ?/ ?({DIGITS})({UNIT})")
FRAC = re.compile(
    rf"([+-]?) ?(?:(\d+) ?)?\\frac ?\{{ ?([+-]?) ?({DECIMAL}) ?\}} ?\{{ ?([+-]?) ?({DECIMAL}) ?\}}({UNIT})"
)
POWER = re.compile(
    rf"([+-]?) ?(?:({DECIMAL}) ?(?:\\times|\\cdot|\*|x) ?)?10 ?\^ ?\{{? ?([+-]?\d{{1,3}}) ?\}}?({UNIT})"
)
EXPONENT = re.compile(rf"([+-]?)({DECIMAL})[eE]([+-]?\d{{1,2}})")
REPEATING = re.compile(r"([+-]?) ?(\d*)\.(\d{0,20})\\overline ?\{ ?(\d{1,20}) ?\}")
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE = re.compile(r" ?(hundred|thousand|million|billion|trillion)s?\b", re.IGNORECASE)
COLONS = re.compile(r"(\d{1,9}(?: ?: ?\d{1,9})+)(?: ?([ap])\.? ?m\.?)?", re.IGNORECASE)
BASED = re.compile(
    r"\(?([0-9A-Fa-f.]+)\)?(?: ?_ ?\{? ?(\d{1,2}|[a-z]+) ?\}?| \(?(?:in )?base[ -](\d{1,2}|[a-z]+)\)?)?"
)
BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip
CLOCK = re.compile(r"[ap]\.? ?m\.?", re.IGNORECASE)
NOT_UNITS = frozenset([
    "sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp", "factorial", "choose", "mod", "and", "or", "to", "not", "wrong",
    "incorrect", "false", "maybe", "perhaps", "possibly", "if", "unless", "otherwise", "but", "except", "alpha", "beta", "theta",
    "lambda", "omega", "sigma", "infinity",
])  # fmt: skip
"""Words behind a number that make it an expression or several answers, not a number with a unit."""
SHORT_UNITS = frozenset([
    "cm", "mm", "km", "dm", "kg", "mg", "ml", "ft", "in", "yd", "mi", "lb", "lbs", "oz", "hr", "hrs", "min", "mins", "sec",
    "ms", "am", "pm", "mph", "kph", "usd", "units", "deg", "rad", "hz", "kw", "cc", "sq", "cu",
])  # fmt: skip
"""Read as a unit even right behind the number; other short words there are products of variables (2xy)."""
UNIT_LETTERS = "msglht"
"""Single letters that are read as a unit when a space parts them from the number; others are variables."""
FLOAT_PLACES = 12
"""A decimal with so many places was printed from a binary float."""
MAX_DIGITS = 4000
"""Longer numbers are left to comparison as text (Python reads at most 4,300 digits)."""


NUMBER_STARTS = frozenset("0123456789+-.$\\ ")
"""What any number begins with."""


class Number(NamedTuple):
    """A plain number as written."""

    value: Fraction
    percent: bool
    decimals: int | None
    """Digits behind the decimal point; None for integers and fractions."""
    unit: str = ""
    """What stands behind the number, as written."""


def read_number(text: str) -> Number | None:
    """The number that `text` is, units ignored; None when it is anything else."""
    if not text or len(text) > MAX_DIGITS or text[0] not in NUMBER_STARTS:
        return None
    found = PLAIN.fullmatch(text)
    if found and unit_ok(found[3]):
        return _number(_signed(found[1], _decimal(found[2])), found[3], _decimals(found[2]))
    if "/" in text and (found := RATIO.fullmatch(text)) and unit_ok(found[5]):
        return _fraction(found[1], found[2], "", found[3], "", found[4], found[5])
    if "\\frac" in text and (found := FRAC.fullmatch(text)) and unit_ok(found[7]):
        return _fraction(found[1], found[2], found[3], found[4], found[5], found[6], found[7])
    if "overline" in text and (found := REPEATING.fullmatch(text)):
        return _number(_signed(found[1], _repeating(found[2], found[3], found[4])), "", None)
    found = POWER.fullmatch(text)
    if found and unit_ok(found[4]):
        return _number(
            _signed(found[1], _decimal(found[2] or "1")) * Fraction(10) ** int(found[3]), found[4], None
        )
    if found := EXPONENT.fullmatch(text):
        return _number(_signed(found[1], _decimal(found[2])) * Fraction(10) ** int(found[3]), "", None)
    return None


def based_digits(text: str) -> tuple[str, str] | None:
    """(digits, base or "") of 1010_2, 1010_{two} or "1010 base 2"; None for what is no run of digits."""
    if len(text) > MAX_DIGITS or (found := BASED.fullmatch(text)) is None:
        return None
    base = found[2] or found[3] or ""
    base = BASES.get(base, base)
    return (found[1].upper(), base) if base.isdigit() or not base else None


def read_colons(text: str) -> tuple[list[int], str] | None:
    """(numbers, "a", "p" or "") of a ratio or a time of day, as 2:3 or 5:15 pm; None for what is neither."""
    found = COLONS.fullmatch(text)
    return None if found is None else ([int(part) for part in found[1].split(":")], (found[2] or "").lower())


def unit_ok(unit: str) -> bool:
    """True when what stands behind a number is a unit or nothing, and not a variable, a function or a second answer."""
    text = unit.strip()
    if not text or text == "%":
        return True
    if CLOCK.fullmatch(text):
        return True
    words = re.findall(r"[A-Za-z]+", text)
    if any(word.lower() in NOT_UNITS or (len(word) == 1 and word not in UNIT_LETTERS) for word in words):
        return False
    first, spaced = words[0], unit[0] == " "
    if len(first) == 1:
        return spaced
    return first.lower() in SHORT_UNITS or len(first) >= (3 if spaced else 5)


LEAST_DIGITS = 10_000
"""Of a rounded decimal, read as a whole number: five digits."""


def same_number(reference: Number, answer: Number) -> bool:
    """Exact equality; a percent sign may be left out (50% = 50 = 0.5), and a decimal of five or more places may be rounded.

    Two known units must agree or be converted (10 cm = 0.1 m); a unit that only one side has is passed over.

    A sign that the reference does not have is passed over for values from 1 up only: 50% answers "what percent?", but
    0.5% is not 1/2.
    """
    if reference.unit and answer.unit and not (reference.percent or answer.percent):
        wanted, given = read_unit(reference.unit), read_unit(answer.unit)
        if wanted is not None and given is not None and ("/" in wanted[0]) == ("/" in given[0]):
            return wanted[:2] == given[:2] and reference.value * wanted.factor == answer.value * given.factor
    if reference.value == answer.value and (
        abs(answer.value) >= 1 or reference.percent or not answer.percent
    ):
        return True
    if reference.percent != answer.percent:
        marked, bare = (reference, answer) if reference.percent else (answer, reference)
        return marked.value / 100 == bare.value
    return _rounded(reference, answer) or _rounded(answer, reference)


def same_unit(reference: Number, answer: Number) -> bool:
    """False when both numbers count things and say different words for them."""
    names = [number.unit.strip().casefold().removesuffix("s") for number in (reference, answer)]
    return not all(names) or names[0] == names[1] or all(read_unit(name) for name in names)


def _rounded(short: Number, exact: Number) -> bool:
    """True when `short` is `exact` rounded to short's own places: at least five, with five digits that count.

    From FLOAT_PLACES on the last digit may be off: that is how a binary float is printed.
    """
    if short.decimals is None or short.decimals < 5 or (exact.decimals or 99) <= short.decimals:
        return False
    if abs(short.value) * 10**short.decimals < LEAST_DIGITS:
        return False  # 0.00199 has three: many values are close to it
    slack = 20 if short.decimals >= FLOAT_PLACES else 1
    return abs(short.value - exact.value) * 2 <= Fraction(slack, 10**short.decimals)


def _number(value: Fraction, unit: str, decimals: int | None) -> Number:
    if not unit:
        return Number(value, False, decimals)
    scale = SCALE.match(unit)
    if scale is not None:
        return Number(value * SCALES[scale[1].lower()], False, None, unit[scale.end() :])
    return Number(value, "%" in unit or "percent" in unit.lower(), decimals, unit)


def _decimal(text: str) -> Fraction:
    return Fraction(int(text)) if text.isdigit() else Fraction(text.replace(",", "").rstrip(".") or "0")


def _decimals(text: str) -> int | None:
    return len(text.partition(".")[2]) or None


def _repeating(whole: str, fixed: str, period: str) -> Fraction:
    """The value of 0.1666... from its parts "0", "1" and "6"."""
    base = Fraction(int(whole + fixed or "0"), 10 ** len(fixed))
    return base + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))


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
