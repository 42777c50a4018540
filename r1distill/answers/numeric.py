"""Two expressions at many seeded points: equal, where computer algebra could not show it. Only for killable workers.

In: sympy expressions, or equations y = ... of the same letter. Points are real, of both signs and of several sizes; where
both are undefined or complex they say nothing, where only one is they differ. Letters C, C_1, C_2 are constants of
integration: their names may be swapped. Anything but "equal" leaves the verdict to others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import permutations
from typing import Any

SEED = 20_260_101
POINTS = 32
LEAST_DEFINED = 10
"""With fewer points that say something, nobody can tell."""
DIGITS = 40
TOLERANCE = "1e-25"
SPANS = ((0.05, 0.95), (1.05, 2.9), (3.1, 9.7))
MAX_SYMBOLS = 5
MAX_CHARS = 600
CONSTANT = re.compile(r"[Cc](?:_\{?\d\}?)?")
ERRORS = (ArithmeticError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, NameError)


def same_at_points(wanted: Any, given: Any) -> bool | None:
    """True for equal at every point, False for different at one of them, None for "can't tell"."""
    pair = _sides(wanted, given)
    if pair is None:
        return None
    left, right = pair
    names = sorted(symbol.name for symbol in left.free_symbols)
    if not 0 < len(names) <= MAX_SYMBOLS or names != sorted(symbol.name for symbol in right.free_symbols):
        return None
    try:
        return _agree(left, right)
    except ERRORS:
        return None


def same_general_solution(wanted: Any, given: Any) -> bool | None:
    """As same_at_points, whatever the order of the constants C_1, C_2; None unless both have as many, at least two."""
    pair = _sides(wanted, given)
    if pair is None:
        return None
    left, right = pair
    old, new = constants(left), constants(right)
    if not 2 <= len(old) <= 3 or len(old) != len(new):
        return None
    renamed = (right.xreplace(dict(zip(new, order, strict=True))) for order in permutations(old))
    return True if any(same_at_points(left, other) for other in renamed) else None


def constants(expression: Any) -> list[Any]:
    """The constants of integration among the letters of an expression."""
    found = (symbol for symbol in expression.free_symbols if CONSTANT.fullmatch(symbol.name))
    return sorted(found, key=lambda symbol: str(symbol.name))


def _sides(wanted: Any, given: Any) -> tuple[Any, Any] | None:
    """The expressions to compare: both as they are, or both right sides of equations of the same letter."""
    from sympy import Eq, Expr, I  # type: ignore[import-untyped]

    if isinstance(wanted, Eq) and isinstance(given, Eq) and wanted.lhs == given.lhs and wanted.lhs.is_Symbol:
        if wanted.lhs in wanted.rhs.free_symbols | given.rhs.free_symbols:
            return None
        wanted, given = wanted.rhs, given.rhs
    if not (isinstance(wanted, Expr) and isinstance(given, Expr)) or wanted.has(I) or given.has(I):
        return None
    return None if max(len(str(wanted)), len(str(given))) > MAX_CHARS else (wanted, given)


def _agree(left: Any, right: Any) -> bool | None:
    from mpmath import mpf, workdps  # type: ignore[import-untyped]
    from sympy import lambdify

    symbols = sorted(left.free_symbols | right.free_symbols, key=lambda symbol: str(symbol.name))
    functions = [lambdify(symbols, side, "mpmath") for side in (left, right)]
    chance, defined = random.Random(SEED), 0
    with workdps(DIGITS):
        for number in range(POINTS):
            at = [mpf(_coordinate(chance, number)) for _ in symbols]
            first, second = (_real(function, at) for function in functions)
            if (first is None) != (second is None):
                return False
            if first is None:
                continue
            if abs(first - second) > mpf(TOLERANCE) * max(1, abs(first), abs(second)):
                return False
            defined += 1
    return True if defined >= LEAST_DEFINED else None


def _coordinate(chance: random.Random, number: int) -> float:
    size = chance.uniform(*SPANS[number % len(SPANS)])
    return -size if chance.random() < 0.5 else size


def _real(function: Callable[..., Any], at: list[Any]) -> Any:
    """The value there; None where it is undefined, infinite or complex."""
    from mpmath import isfinite, mpc, mpf

    try:
        value = function(*at)
    except (ArithmeticError, ValueError):
        return None
    if isinstance(value, mpc):
        if abs(value.imag) > mpf(TOLERANCE) * max(1, abs(value.real)):
            return None
        value = value.real
    return mpf(value) if isfinite(value) else None
