"""Units of measurement behind a number: two known ones must agree, or be converted; unknown words are passed over.

18 ducks = 18, 10 cm = 10 and 10 cm = 0.1 m, but 10 cm is not 10 mm and 3 pm is not 3 am.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

_SCALES: dict[str, dict[str, Fraction]] = {
    "length": {
        "mm millimeter millimetre": Fraction(1, 1000), "cm centimeter centimetre": Fraction(1, 100),
        "dm decimeter decimetre": Fraction(1, 10), "m meter metre": Fraction(1), "km kilometer kilometre": Fraction(1000),
    },
    "feet": {
        "in inch inches": Fraction(1), "ft foot feet": Fraction(12), "yd yard": Fraction(36), "mi mile": Fraction(63360),
    },
    "time": {
        "ms millisecond": Fraction(1, 1000), "s sec second": Fraction(1), "min minute": Fraction(60),
        "h hr hour": Fraction(3600), "day": Fraction(86400), "week": Fraction(604800),
    },
    "mass": {"mg milligram": Fraction(1, 1000), "g gram": Fraction(1), "kg kilogram": Fraction(1000)},
    "weight": {"oz ounce": Fraction(1), "lb pound": Fraction(16)},
    "volume": {"ml milliliter millilitre": Fraction(1, 1000), "l liter litre": Fraction(1)},
    "money": {"cent": Fraction(1, 100), "dollar usd": Fraction(1)},
    "morning": {"am a.m": Fraction(1)},
    "afternoon": {"pm p.m": Fraction(1)},
    "angle": {"deg degree": Fraction(1)},
    "arc": {"rad radian": Fraction(1)},
}  # fmt: skip
WRITTEN = re.compile(r"(?:(square|sq|cubic|cu)\.? )?([A-Za-z.]+)(?: ?\^ ?\{?([23])\}?)?( squared| cubed)?")
SPEEDS = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h"}
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, " squared": 2, " cubed": 3}


class Unit(NamedTuple):
    """A known unit: what it measures, to which power, and how many base units it is."""

    measures: str
    power: int
    factor: Fraction


def _table() -> dict[str, tuple[str, Fraction]]:
    names = {}
    for measures, scales in _SCALES.items():
        for spellings, factor in scales.items():
            for name in spellings.split():
                names[name] = names[f"{name}s"] = (measures, factor)
    return names


NAMES = _table()
"""Every spelling, its plural too, with what it measures and its factor."""


def read_unit(text: str) -> Unit | None:
    """The unit that `text` names; None when it is unknown (18 ducks)."""
    over, slash, under = SPEEDS.get(text.strip(), text).replace(" per ", "/").partition("/")
    if slash:
        return _quotient(read_unit(over), read_unit(under)) if "/" not in under else None
    found = WRITTEN.fullmatch(text.strip().replace(". ", "."))
    if found is None:
        return None
    known = NAMES.get(found[2].rstrip(".").casefold())
    if known is None:
        return None
    power = POWERS.get(found[1] or found[4] or "", int(found[3] or 1))
    return Unit(known[0], power, known[1] ** power)


def _quotient(over: Unit | None, under: Unit | None) -> Unit | None:
    """km/h of km and h."""
    if over is None or under is None:
        return None
    measures = f"{over.measures}^{over.power}/{under.measures}^{under.power}"
    return Unit(measures, 1, over.factor / under.factor)
