"""Which of the traces that passed become training rows, and which problems are held back for validation.

Pure functions of ids and a seed: an added trace or problem never moves another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from r1distill.measure import Judged
from r1distill.recipe_sections import SelectSection


def select(kept: list[Judged], settings: SelectSection) -> list[Judged]:
    """At most `per_prompt` traces of each problem, the preferred ones, in the order of the set."""
    if settings.per_prompt is None:
        return kept
    by_prompt: dict[str, list[Judged]] = {}
    for row in kept:
        by_prompt.setdefault(row.prompt_id, []).append(row)
    chosen = {
        id(row) for rows in by_prompt.values() for row in _preferred(rows, settings)[: settings.per_prompt]
    }
    return [row for row in kept if id(row) in chosen]


def _preferred(rows: list[Judged], settings: SelectSection) -> list[Judged]:
    """The most wanted first; length is counted in characters of reasoning and answer; ties keep the set's order."""
    if settings.prefer == "random":
        return sorted(rows, key=lambda row: _hash(settings.seed, "choice", row.trace_id))
    return sorted(rows, key=lambda row: row.chars, reverse=settings.prefer == "longest")


def validation_prompts(prompt_ids: Iterable[str], settings: SelectSection) -> set[str]:
    """The problems whose traces go to val.jsonl: each by its own hash, never all of them."""
    known = set(prompt_ids)
    share = settings.val_fraction
    held = {prompt_id for prompt_id in known if _hash(settings.seed, "split", prompt_id) < share}
    return held if held != known else set()


def _hash(seed: int, purpose: str, text: str) -> float:
    """A number from 0 to 1 that depends on nothing but its arguments."""
    number = hashlib.sha256(f"{seed}/{purpose}/{text}".encode("utf-8", "replace")).digest()
    return int.from_bytes(number[:8], "big") / 2**64
