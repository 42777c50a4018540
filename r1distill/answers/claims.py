"""Does a text claim one value? "not 14", "14 or maybe 15" and "more than 14" do not, though the number stands in them.

In: a clause or what a box holds. All scans look at bounded stretches, so they are linear.
"""

from __future__ import annotations

import re

from r1distill.answers.numbers import read_number, same_number

NUMBER = re.compile(
    r"(?<![\w.,])-?\$? ?-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?|(?<![\w.])-?\.\d+%?"
)
BEFORE_CHARS = 60
"""So much in front of a value is looked at."""
NEGATION = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|except)|n't|\b(?:other|rather) than|\binstead of|\b(?:anything|nothing|all) but"
    r"|\bbetween(?: \$?[\d.,]{1,12} and)?"
    r"|(?<!no )(?<!not )\b(?:more|less|greater|fewer|larger|smaller|higher|lower|bigger) than)"
    r"(?: (?:be|is|to|equals?|exactly|just|simply|the|value|number|option|choice|answer)){0,4}[\s$(\[*_\\]{0,6}$",
    re.IGNORECASE,
)
DENIED_BEHIND = re.compile(
    r",?(?: (?:which|that|this))? (?:is|was|seems|can(?= ?not)|could(?= ?not))(?: clearly| also)? ?"
    r"(?:n't|not|never|wrong|incorrect|false|impossible|too (?:small|large|big|low|high))\b",
    re.IGNORECASE,
)
DENIAL = re.compile(
    r"\s*(?:[a-z]+ly )?(?:not|never|neither|anything but|other than)\b(?!.*\bbut\b)",
    re.IGNORECASE | re.DOTALL,
)
"""A clause that begins so says only what the answer is not."""
HEDGE = re.compile(
    r"\b(?:or|otherwise|maybe|perhaps|possibly)\b(?! (?:about|approximately|roughly|around|simply|just|equivalently))",
    re.IGNORECASE,
)
REASON = re.compile(
    r"\b(?:because|since|as|so|which|where|when|while|after|before|given|for)\b", re.IGNORECASE
)
"""What follows explains the answer; its numbers are other numbers."""


def negated(text: str, at: int) -> bool:
    """True when the words right in front of position `at` deny what stands there: "not 14", "rather than (B)"."""
    return NEGATION.search(text[max(0, at - BEFORE_CHARS) : at]) is not None


def free_numbers(text: str) -> list[re.Match[str]]:
    """The numbers of `text` that no word in front of them denies."""
    return [
        found
        for found in NUMBER.finditer(text)
        if not negated(text, found.start()) and not DENIED_BEHIND.match(text, found.end())
    ]


def chosen_number(numbers: list[re.Match[str]]) -> re.Match[str]:
    """The one that a clause begins with, else its last (or only) one."""
    return numbers[0] if numbers[0].start() <= 1 else numbers[-1]


def claims_one(text: str) -> bool:
    """False when every number of `text` is denied, or another one is offered behind "or", "maybe", "otherwise"."""
    if NUMBER.search(text) is None:
        return True
    if DENIAL.match(text):
        return False
    free = free_numbers(text)
    return bool(free) and not _undecided(text, chosen_number(free))


def _undecided(text: str, chosen: re.Match[str]) -> bool:
    reason = REASON.search(text, chosen.end())
    text = text[: reason.start()] if reason else text
    hedge = HEDGE.search(text)
    if hedge is None:
        return False
    value = read_number(chosen.group().strip())
    others = [read_number(found.group().strip()) for found in NUMBER.finditer(text, hedge.end())]
    return any(value is None or other is None or not same_number(value, other) for other in others)
