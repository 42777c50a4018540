"""Who is asked for what: the teachers of a recipe with their words and settings, and which of them gets which problem."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from r1distill.errors import RecipeError
from r1distill.prompts import Template, load_template
from r1distill.recipe import Recipe
from r1distill.records import Message, Prompt, canonical_json, split_ceiling
from r1distill.teachers.endpoints import model_key


class Party:
    """One model to ask, and the words and settings to ask it with."""

    def __init__(
        self,
        name: str,
        model: str,
        template: Template,
        sampling: dict[str, Any],
        tags: dict[str, list[str]] | None = None,
    ) -> None:
        self.name, self.template, self.sampling, self.tags = name, template, sampling, tags or {}
        self.model = model
        """The model as slots call it."""
        self.max_tokens = split_ceiling(sampling)[1]
        """The ceiling to ask with, in tokens."""

    @cached_property
    def _ends(self) -> tuple[bytes, bytes]:
        """What stands around the sample number in the JSON that makes a slot."""
        model, sampling = canonical_json(self.model), canonical_json(split_ceiling(self.sampling)[0])
        teacher = canonical_json(self.name)
        return (
            b',"model":' + model + b',"sample":',
            b',"sampling":' + sampling + b',"teacher":' + teacher + b"}",
        )

    @staticmethod
    def said(messages: list[Message]) -> bytes:
        """The messages as they go into a slot; rendered once for all samples."""
        pairs = [{"content": m.content, "role": m.role} for m in messages]
        text = json.dumps(pairs, separators=(",", ":"), ensure_ascii=False)
        return b'{"messages":' + text.encode("utf-8", "surrogatepass")

    def slot(self, said: bytes, sample: int) -> str:
        """The key of one answer: what `records.slot_of` says, put together from prepared parts (a test compares them)."""
        before, after = self._ends
        return hashlib.sha256(b"".join((said, before, str(sample).encode(), after))).hexdigest()


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
            section.tags,
        )
        for name, section in recipe.teacher.items()
    ]


def numbers_for(parties: list[Party], assign: str, prompt: Prompt, sample: int) -> list[int]:
    """Who is asked for this answer, as numbers into `parties`. "fallback" names all: one answer of any settles it.

    Raises RecipeError when no teacher takes the tags of a problem.
    """
    if assign == "mix":
        return [_dealt(len(parties), prompt.id, sample)]
    if assign == "tag":
        return [_by_tag(parties, prompt)]
    return list(range(len(parties)))


def _dealt(count: int, prompt_id: str, sample: int) -> int:
    """Deal an answer to one teacher by hash, so that a resumed run never moves it."""
    number = hashlib.sha256(f"{prompt_id}/{sample}".encode()).digest()
    return int.from_bytes(number[:8]) % count


def _by_tag(parties: list[Party], prompt: Prompt) -> int:
    for number, party in enumerate(parties):
        if all(_has(prompt.tags.get(tag), values) for tag, values in party.tags.items()):
            return number
    raise RecipeError(
        f'harvest.assign = "tag": no teacher takes problem {prompt.id} (its tags: {prompt.tags or "none"}); '
        "leave the tags of one teacher out, then it takes the rest."
    )


def _has(tag: Any, values: list[str]) -> bool:
    return any(str(one) in values for one in (tag if isinstance(tag, list) else [tag]) if one is not None)
