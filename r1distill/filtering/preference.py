"""Which traces of one problem are wanted most: by length, by chance, by confidence, or as different as can be.

In: the judged traces of a problem. Out: some of them, the most wanted first. Pure functions of the rows and a seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from r1distill.checks import CHECKS, Check
from r1distill.checks.near_duplicate import similarity
from r1distill.errors import RecipeError
from r1distill.filtering.judged import Judged
from r1distill.recipe_sections import SelectSection

SIGNATURE = "signature"
"""Where the measurement of near_duplicate has the MinHash signature."""


def check_behind(checks: Mapping[str, Check], settings: SelectSection) -> str | None:
    """The name of the check that `prefer` reads: a score, or near_duplicate's signatures. None when it reads none.

    Raises RecipeError when the recipe has no such check.
    """
    if settings.prefer == "most_confident":
        found = _first_of("confidence", checks) or _first_of("agreement", checks)
        if found is None:
            raise RecipeError(
                'filter.select: prefer = "most_confident" reads the score of the check confidence or agreement, and the recipe '
                "has neither: add [filter.checks.confidence] (needs log-probabilities) or [filter.checks.agreement]."
            )
        return found
    if settings.prefer == "diverse":
        found = _first_of("near_duplicate", checks)
        if found is None:
            raise RecipeError(
                'filter.select: prefer = "diverse" compares traces by what the check near_duplicate measures: add '
                "[filter.checks.near_duplicate] (with threshold = 1.0 it removes none but equal ones)."
            )
        return found
    return None


def _first_of(kind: str, checks: Mapping[str, Check]) -> str | None:
    """The first check of a shipped kind, also one under another name."""
    shipped = CHECKS.get(kind)
    return next(
        (n for n, check in checks.items() if shipped is not None and isinstance(check, shipped)), None
    )


def most_wanted(rows: list[Judged], settings: SelectSection, check: str | None) -> list[Judged]:
    """At most `per_prompt` traces of one problem, the most wanted first; `check` comes from `check_behind`.

    Length is counted in characters of reasoning and answer; ties keep the set's order.
    """
    most = settings.per_prompt or len(rows)
    if settings.prefer == "diverse" and check is not None:
        return _farthest_first(rows, most, check)
    if settings.prefer == "most_confident" and check is not None:
        return sorted(rows, key=lambda row: -_score(row, check))[:most]
    if settings.prefer == "random":
        return sorted(rows, key=lambda row: chance(settings.seed, "choice", row.trace_id))[:most]
    return sorted(rows, key=lambda row: row.chars, reverse=settings.prefer == "longest")[:most]


def _score(row: Judged, check: str) -> float:
    """A trace without a score is wanted least."""
    score = row.judgements[check].score
    return -math.inf if score is None or math.isnan(score) else score


def _farthest_first(rows: list[Judged], most: int, check: str) -> list[Judged]:
    """The first trace of the set, then again and again the one that is least like those taken already.

    Greedy max-min distance: the smallest distance within the choice is at least half of what the best choice has (Gonzalez
    1985, https://doi.org/10.1016/0304-3975(85)90224-5). The distance is 1 minus the Jaccard similarity of word n-grams that
    two MinHash signatures estimate. Traces without a signature come last.
    """
    signatures = {
        id(row): row.values[check][SIGNATURE] for row in rows if SIGNATURE in row.values.get(check, {})
    }
    rest = [row for row in rows if id(row) in signatures]
    nearest = dict.fromkeys(signatures, 0.0)
    taken: list[Judged] = []
    while rest and len(taken) < most:
        taken.append(rest.pop(min(range(len(rest)), key=lambda at: nearest[id(rest[at])])))
        last = signatures[id(taken[-1])]
        for row in rest:
            nearest[id(row)] = max(nearest[id(row)], similarity(last, signatures[id(row)]))
    return [*taken, *(row for row in rows if id(row) not in signatures)][:most]


def chance(seed: int, purpose: str, text: str) -> float:
    """A number from 0 to 1 that depends on nothing but its arguments."""
    number = hashlib.sha256(f"{seed}/{purpose}/{text}".encode("utf-8", "replace")).digest()
    return int.from_bytes(number[:8], "big") / 2**64
