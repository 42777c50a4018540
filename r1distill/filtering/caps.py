"""Caps by tag, for balanced mixtures: at most so many traces of one topic, one language, one source.

In: the chosen traces of each problem, most wanted first. Out: which of them are over a cap, and over which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from r1distill.filtering.judged import Judged
from r1distill.filtering.preference import chance
from r1distill.records import Prompt

Caps = Mapping[str, int | Mapping[str, int]]
"""By tag: traces of each of its values, or by value, where "*" stands for all others."""
OTHERS = "*"


def over_caps(
    picked: Mapping[str, Sequence[Judged]], caps: Caps, problems: Sequence[Prompt], seed: int
) -> dict[int, str]:
    """The reason for every trace that is over a cap, by id(row), as "cap of topic=algebra".

    All problems give their first trace before any gives its second, so that no problem goes without where another has two;
    the seed decides in which order. A value of several (a list) counts for each; what has not the tag has no cap.
    """
    if not caps:
        return {}
    turns = [
        (turn, chance(seed, "cap", name), name, row)
        for name, rows in picked.items()
        for turn, row in enumerate(rows)
    ]
    used: Counter[tuple[str, str]] = Counter()
    left_out: dict[int, str] = {}
    for *_, row in sorted(turns, key=lambda item: item[:3]):
        limits = list(_limits(problems[row.order], caps))
        full = next((key for key, most in limits if used[key] >= most), None)
        if full is None:
            used.update(key for key, _ in limits)
        else:
            left_out[id(row)] = "cap of {}={}".format(*full)
    return left_out


def _limits(prompt: Prompt, caps: Caps) -> Iterator[tuple[tuple[str, str], int]]:
    """((tag, value), most traces) of every cap that a problem's traces count for."""
    for tag, cap in caps.items():
        for value in tag_values(prompt, tag):
            most = cap if isinstance(cap, int) else cap.get(value, cap.get(OTHERS))
            if most is not None:
                yield (tag, value), most


def tag_values(prompt: Prompt, tag: str) -> list[str]:
    """The values of a tag, each once, as text; [] when the problem has not the tag."""
    found: Any = prompt.tags.get(tag)
    return list(
        dict.fromkeys(str(one) for one in (found if isinstance(found, list) else [found]) if one is not None)
    )


def caps_without_use(caps: Caps, problems: Iterable[Prompt]) -> list[str]:
    """A sentence for every cap that no problem comes under: a misspelled tag or value, most likely."""
    seen: dict[str, set[str]] = {tag: set() for tag in caps}
    for prompt in problems if caps else ():
        for tag, values in seen.items():
            values.update(tag_values(prompt, tag))
    said = [
        f"filter.select.caps: no problem has the tag '{tag}'." for tag, values in seen.items() if not values
    ]
    for tag, cap in caps.items():
        named = set() if isinstance(cap, int) else set(cap) - {OTHERS}
        unknown = ", ".join(f"'{value}'" for value in sorted(named - seen[tag])) if seen[tag] else ""
        said += [f"filter.select.caps: no problem has {tag} = {unknown}."] if unknown else []
    return said
