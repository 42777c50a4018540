r"""Solutions for every integer: \frac{\pi}{4} + k\pi, k \in \mathbb{Z}, whatever the letter and the first member.

In: normalised texts. Out: whether both describe the same numbers; None for "can't tell". The expressions are read by
the symbolic tier, so this runs in its workers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from r1distill.answers.lists import read_collection
from r1distill.answers.normalise import without_name

MEMBER = re.compile(
    r"[,;]? ?(?:where |with |for )?\(? ?([a-z]) ?\\in ?(?:\\mathbb ?(?:\{ ?Z ?\}|Z)|\\Z(?![A-Za-z])|Z) ?\)?$"
)


class Families(NamedTuple):
    """Expressions in one letter that stands for every integer."""

    items: list[str]
    letter: str


def read_families(text: str) -> Families | None:
    r"""The expressions of "a + bk, k \in \mathbb{Z}"; None for other texts."""
    found = MEMBER.search(text)
    if found is None:
        return None
    terms = text[: found.start()].rstrip(" ,;")
    collection = read_collection(terms)
    if collection is None:
        return Families([without_name(terms)], found[1]) if terms else None
    plain = collection.shape in ("", "{}") and not collection.system
    return Families(collection.items, found[1]) if plain else None


def same_families(reference: str, answer: str, read: Callable[[str], Any]) -> bool | None:
    """Whether two texts with a letter for every integer describe the same numbers; `read` makes an expression of a text."""
    wanted, given = read_families(reference), read_families(answer)
    if wanted is None or given is None:
        return None
    left = [_progression(read(item), wanted.letter) for item in wanted.items]
    right = [_progression(read(item), given.letter) for item in given.items]
    table = [[_same(a, b) for b in right] for a in left]
    if all(True in line for line in [*table, *zip(*table, strict=True)]):
        return True
    return table[0][0] if len(left) == len(right) == 1 else None


def _progression(expression: Any, letter: str) -> tuple[Any, Any] | None:
    """(first member, distance) of a + b*letter; None when it is no such sum of plain numbers."""
    from sympy import Symbol, expand, simplify  # type: ignore[import-untyped]

    symbol = Symbol(letter, real=True)
    if expression is None or getattr(expression, "free_symbols", None) != {symbol}:
        return None
    first = expression.subs(symbol, 0)
    distance = simplify(expand(expression - first) / symbol)
    if first.free_symbols or distance.free_symbols or distance == 0 or not first.is_finite:
        return None
    return first, distance


def _same(left: tuple[Any, Any] | None, right: tuple[Any, Any] | None) -> bool | None:
    from sympy import simplify

    if left is None or right is None:
        return None
    same_distance = simplify(left[1] ** 2 - right[1] ** 2) == 0
    return bool(same_distance and simplify((left[0] - right[0]) / left[1]).is_integer)
