"""Long and short chains of thought in one training set, for students that are too small to learn from long ones alone.

Small models (3B and less) learn less from long chains of thought, or from those of strong teachers, than from short ones; a
mixture of about one long to four short beats either (Mix-Long, Li et al. 2025, "Small Models Struggle to Learn from Strong
Reasoners", https://arxiv.org/abs/2502.12143). In: the traces of each problem. Out: which of them, and which are the long ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec

from r1distill.filtering.judged import Judged
from r1distill.filtering.preference import chance
from r1distill.recipe_sections import SelectSection

Unit = Literal["usage", "estimate", "usage and estimate"]


class Mix(msgspec.Struct, frozen=True):
    """The chosen traces by length; counts are traces, medians completion tokens (None: there is no such trace)."""

    long: int
    """Taken as the longest of their problem."""
    short: int
    """Taken as the shortest of their problem."""
    without_choice: int
    """Of problems that have no more traces than are wanted: neither long nor short."""
    long_median_tokens: float | None
    short_median_tokens: float | None
    unit: Unit
    """How tokens were counted: by the teacher's usage, estimated from the bytes of the text, or some so and some so."""


def mixed(
    groups: Mapping[str, Sequence[Judged]], settings: SelectSection
) -> tuple[dict[str, list[Judged]], dict[int, bool]]:
    """At most `per_prompt` traces of each problem: its longest for `long_share` of them, its shortest for the rest.

    Where the share of one problem is no whole number, the seed decides which problems give one long trace more; over all
    problems with a choice the share is exact but for rounding. Returns the traces by problem, in an order of chance, and by
    id(row) whether a trace was taken as long; those of problems without a choice are not in there.
    """
    most = settings.per_prompt or 0
    free = {name for name, rows in groups.items() if len(rows) > most}
    longs = _longs(free, most, settings)
    picked: dict[str, list[Judged]] = {}
    taken: dict[int, bool] = {}
    for name, rows in groups.items():
        by_length = sorted(rows, key=lambda row: row.tokens)
        if name in free:
            at = most - longs[name]
            short, long = by_length[:at], by_length[len(by_length) - longs[name] :]
            taken |= {id(row): False for row in short} | {id(row): True for row in long}
            by_length = short + long
        picked[name] = sorted(by_length, key=lambda row: chance(settings.seed, "mix", row.trace_id))
    return picked, taken


def _longs(names: set[str], most: int, settings: SelectSection) -> dict[str, int]:
    """How many long traces each problem gives: the whole part of its share, and one more for some of the problems."""
    wanted = (settings.long_share or 0.0) * most
    whole = math.floor(wanted + 1e-9)
    more = round((wanted - whole) * len(names))
    dealt = sorted(names, key=lambda name: (chance(settings.seed, "long", name), name))
    return {name: whole + (place < more) for place, name in enumerate(dealt)}


def mix_of(chosen: Sequence[Judged], taken: Mapping[int, bool]) -> Mix:
    """What the mixture has come to."""
    long = [row.tokens for row in chosen if taken.get(id(row)) is True]
    short = [row.tokens for row in chosen if taken.get(id(row)) is False]
    counted = sum(row.counted for row in chosen)
    unit: Unit = "usage" if counted == len(chosen) else "usage and estimate" if counted else "estimate"
    rest = len(chosen) - len(long) - len(short)
    return Mix(
        len(long), len(short), rest, median(long) if long else None, median(short) if short else None, unit
    )
