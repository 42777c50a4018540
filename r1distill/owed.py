"""Which answers a recipe wants, by slot, and which of them are still owed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from r1distill.errors import RecipeError
from r1distill.index import Index, TraceRef
from r1distill.prompts import Template, load_template
from r1distill.recipe import Recipe
from r1distill.records import Message, Prompt, slot_of, split_ceiling
from r1distill.run import LedgerName
from r1distill.teachers.endpoints import model_key


class Party(NamedTuple):
    """One model to ask, and the words and settings to ask it with."""

    name: str
    model: str
    """The model as slots call it."""
    template: Template
    sampling: dict[str, Any]


class Wanted(NamedTuple):
    """One answer that a recipe wants."""

    slot: str
    prompt_id: str
    sample: int
    teacher: str
    model: str
    messages: list[Message]
    sampling: dict[str, Any]
    """As in the recipe, ceiling included."""

    @property
    def max_tokens(self) -> int | None:
        """The ceiling to ask with, in tokens."""
        return split_ceiling(self.sampling)[1]


def teacher_parties(recipe: Recipe) -> list[Party]:
    """The recipe's teachers. Raises RecipeError when there are none or one is not complete."""
    if not recipe.teacher:
        raise RecipeError("The recipe has no teacher: add a [teacher.NAME] table.")
    default = recipe.prompts.template if recipe.prompts else "math"
    return [
        Party(
            name,
            model_key(name, section, recipe),
            load_template(section.template or default, recipe),
            section.sampling,
        )
        for name, section in recipe.teacher.items()
    ]


def harvest_wanted(recipe: Recipe, prompts: list[Prompt]) -> Iterator[Wanted]:
    """Every answer that the recipe's harvest wants, in the order of the problems, then samples, then teachers."""
    parties = teacher_parties(recipe)
    for prompt in prompts:
        rendered = {party.name: party.template.messages(prompt) for party in parties}
        for sample in range(recipe.harvest.samples):
            asked = parties if recipe.harvest.assign == "all" else [_dealt(parties, prompt.id, sample)]
            for party in asked:
                yield want(party, prompt, rendered[party.name], sample)


def want(party: Party, prompt: Prompt, messages: list[Message], sample: int) -> Wanted:
    """One wanted answer, with its slot."""
    slot = slot_of(party.name, party.model, messages, party.sampling, sample)
    return Wanted(slot, prompt.id, sample, party.name, party.model, messages, party.sampling)


def _dealt(parties: list[Party], prompt_id: str, sample: int) -> Party:
    """Deal an answer to one teacher by hash, so that a resumed run never moves it."""
    number = hashlib.sha256(f"{prompt_id}/{sample}".encode()).digest()
    return parties[int.from_bytes(number[:8]) % len(parties)]


def is_settled(wanted: Wanted, have: TraceRef | None) -> bool:
    """True when the newest trace of the slot is whole, or was cut by a ceiling no lower than today's."""
    if have is None:
        return False
    if have.finish != "length" or have.max_tokens is None:
        return True
    return wanted.max_tokens is not None and have.max_tokens >= wanted.max_tokens


def owed(
    wanted: Iterable[Wanted], index: Index, ledger: LedgerName, retry_failed: bool = False
) -> tuple[list[Wanted], int]:
    """(what is still to be asked, how many slots are settled); a slot that is wanted twice is owed once."""
    have = index.newest(ledger)
    failed = set() if retry_failed else index.final_failures(ledger)
    seen: set[str] = set()
    left: list[Wanted] = []
    settled = 0
    for item in wanted:
        if item.slot in seen:
            continue
        seen.add(item.slot)
        if item.slot in failed or is_settled(item, have.get(item.slot)):
            settled += 1
        else:
            left.append(item)
    return left, settled
