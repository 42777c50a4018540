r"""Lists, tuples, sets, intervals and \pm: taken apart here, their parts compared by whoever can compare one part.

In: normalised texts. Out: a Collection, or True / False / None for "can't tell". Both tiers use `same_collection`:
the exact one with plain numbers, the symbolic one with computer algebra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from r1distill.answers.intervals import read_intervals
from r1distill.answers.normalise import without_name
from r1distill.answers.numbers import read_number

MAX_CHARS = 1000
"""Longer texts are not taken apart."""
MAX_ITEMS = 100
"""Nor are longer lists: comparing them is quadratic."""
PAIRS = {"(": ")", "[": "]", "{": "}"}
TOKEN = re.compile(r"\\[{}]|[()\[\]{}]|[,;]|\\cup(?![A-Za-z])| (?:and|or) |\\[A-Za-z]+")
NAME = re.compile(r"([A-Za-z](?:_\{?\w{1,3}\}?)?) ?=(?!=) ?")
ROOT_NUMBER = re.compile(r"(?<=^[xz])_\{?\d\}?$")
"""x_1 and x_2 are two roots, in any order."""
MEMBER = re.compile(r"[A-Za-z] ?\\in(?![A-Za-z]) ?|\([a-z](?: ?, ?[a-z]){1,3}\) ?= ?(?=\()")
ORDERING = re.compile(r"[<>]|\\(?:le|ge|lt|gt|leq|geq|ne|neq)(?![A-Za-z])")
PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
ZERO_GROUP = re.compile(r"\d,0\d\d(?!\d)")
"""Nobody writes a list like 2,000: what follows the comma is a group of thousands."""
OTHER_SIGN = re.compile(r", |;| (?:and|or) ")
LARGE = re.compile(r"[-+$ ]{0,3}\d{1,3}(?:,\d{3})+(?:\.\d+)?")
AND_END = re.compile(r"(?:and|or)$")


class Collection(NamedTuple):
    """Several values: `shape` is "" for a bare list, the bracket or brackets around it, or "u" for a union."""

    shape: str
    items: list[str]
    names: list[str]
    """The variable of each item ("x" of `x = 2`), "" where there is none."""

    @property
    def ordered(self) -> bool:
        """True for tuples and intervals."""
        return self.shape not in ("", "{}", "u")

    @property
    def system(self) -> bool:
        """True for values of different variables, as in x = 1, y = 2."""
        return len(self.items) > 1 and "" not in self.names and len(set(self.names)) == len(self.names)


def read_collection(text: str, every_comma: bool = False) -> Collection | None:
    """The parts of a list, None when `text` is a single value; inequalities in one variable are read as intervals.

    A comma in front of three digits parts thousands when another comma has a space behind it, or with no other comma:
    1,234 is a single number, and (1,234) a pair. `every_comma` says that it parts values there too, but for 2,000.
    """
    if len(text) > MAX_CHARS or (
        "," in text and _is_number(text) and (not every_comma or ZERO_GROUP.search(text))
    ):
        return None
    if ORDERING.search(text):
        intervals = read_intervals(text)
        if intervals is None:
            return None
        if len(intervals) > 1:
            return Collection("u", intervals, [""] * len(intervals))
        text = intervals[0]
    text = MEMBER.sub("", text, count=1) if MEMBER.match(text) else text
    parts, joiners = _split(text, protect=not every_comma)
    if "\\cup" in joiners:
        return Collection("u", parts, [""] * len(parts)) if set(joiners) == {"\\cup"} else None
    shape = ""
    if len(parts) == 1 and (inner := _inside(text)) is not None:
        shape, inside = inner
        parts, joiners = _split(inside, protect=not every_comma)
        if "\\cup" in joiners:
            return None
    if shape not in ("", "{}"):
        both = _signed_both_ways(text)
        if len(both) == 2:
            return Collection("", both, ["", ""])
    else:
        parts = [item for part in parts for item in _signed_both_ways(AND_END.sub("", part).strip())]
    found = [part for part in parts if part]
    if len(found) < 2 or len(found) > MAX_ITEMS:
        return None
    named = [NAME.match(item) for item in found]
    values = [item[m.end() :].strip() if m else item for item, m in zip(found, named, strict=True)]
    return Collection(shape, values, [ROOT_NUMBER.sub("", m[1]) if m else "" for m in named])


def _split(text: str, protect: bool) -> tuple[list[str], list[str]]:
    """(the parts between top-level separators, those separators)."""
    kept = {m.start() for m in THOUSANDS.finditer(text)} if protect and _parts_otherwise(text) else set()
    parts: list[str] = []
    joiners: list[str] = []
    depth, start = 0, 0
    for token in TOKEN.finditer(text):
        word = token.group()
        if word in ("(", "[", "{", "\\{"):
            depth += 1
        elif word in (")", "]", "}", "\\}"):
            depth -= 1
        elif depth == 0 and token.start() not in kept and (word == "\\cup" or not word.startswith("\\")):
            parts.append(text[start : token.start()].strip())
            joiners.append(word)
            start = token.end()
    return [*parts, text[start:].strip()], joiners


def _is_number(text: str) -> bool:
    """True for a number with thousands parted by commas, its unit and its name too."""
    return read_number(without_name(text)) is not None


def _parts_otherwise(text: str) -> bool:
    """True when the values of a list are parted by more than a bare comma, so that 1,000 in it is one of them."""
    parts = OTHER_SIGN.split(text)
    return ", " in text or (len(parts) > 1 and all(LARGE.fullmatch(part.strip()) for part in parts))


def _inside(text: str) -> tuple[str, str] | None:
    """(brackets, what is between them) when one pair is around the whole of `text`; half-open intervals too."""
    bare = text.replace("\\{", "{").replace("\\}", "}") if text.startswith("\\{") else text
    if (
        not bare
        or bare[0] not in PAIRS
        or bare[-1] not in PAIRS.values()
        or (bare[0] == "{") != (bare[-1] == "}")
    ):
        return None
    depth = 0
    for at, char in enumerate(bare):
        depth += (char in PAIRS) - (char in ")]}")
        if depth == 0 and at < len(bare) - 1:
            return None
    return (bare[0] + bare[-1], bare[1:-1]) if depth == 0 else None


def _signed_both_ways(item: str) -> list[str]:
    r"""`\pm 2` as 2 and -2; other items, and those with several such signs, as they are."""
    signs = PLUS_MINUS.findall(item)
    if len(signs) != 1:
        return [item]
    at = PLUS_MINUS.search(item)
    assert at is not None
    before, behind = item[: at.start()].rstrip(), item[at.end() :].lstrip()
    leading = not before or before[-1] in "=({"
    return [f"{before}{'' if leading else ' + '}{behind}", f"{before}{'-' if leading else ' - '}{behind}"]


def same_collection(
    wanted: Collection, given: Collection, same: Callable[[str, str], bool | None]
) -> bool | None:
    """Whether `given` is `wanted`: tuples, intervals and systems in order, bare lists, sets and unions in any order."""
    square = "[" in wanted.shape + given.shape or "]" in wanted.shape + given.shape
    if square and given.shape and wanted.shape != given.shape:
        return False if len(wanted.items) == len(given.items) == 2 else None
    if wanted.system and given.system:
        if set(wanted.names) != set(given.names):
            return False
        return _in_order(_by_name(wanted), _by_name(given), same)
    if wanted.system or given.system:
        return _in_order(_by_name(wanted), _by_name(given), same)
    if "u" in (wanted.shape, given.shape) and wanted.shape != given.shape:
        return None
    if wanted.ordered:
        return False if given.shape == "{}" else _in_order(wanted.items, given.items, same)
    return _in_any_order(wanted.items, given.items, same)


def _by_name(found: Collection) -> list[str]:
    return (
        [item for _, item in sorted(zip(found.names, found.items, strict=True))]
        if found.system
        else found.items
    )


def _in_order(
    left: Sequence[str], right: Sequence[str], same: Callable[[str, str], bool | None]
) -> bool | None:
    if len(left) != len(right):
        return False
    results = [same(a, b) for a, b in zip(left, right, strict=True)]
    return False if False in results else None if None in results else True


def _in_any_order(
    left: Sequence[str], right: Sequence[str], same: Callable[[str, str], bool | None]
) -> bool | None:
    """Set equality: every item has its equal on the other side."""
    table = [[same(a, b) for b in right] for a in left]
    lines = [*table, *(list(column) for column in zip(*table, strict=True))]
    if all(True in line for line in lines):
        return True
    return False if any(set(line) == {False} for line in lines) else None
