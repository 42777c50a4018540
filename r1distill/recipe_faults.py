"""A recipe that is wrong -> one sentence that names the key and, where it can, the right one.

In: nested dicts and the pydantic model they should fit. Out: the model, or a RecipeError. The keys that a model
knows (`known_keys`) serve the suggestions here and the help of recipe_help.py.
"""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from r1distill.errors import RecipeError

S = TypeVar("S", bound=BaseModel)


def validated(model: type[S], data: Any, where: str) -> S:
    """`data` as a `model`. Raises RecipeError: one sentence for the first fault, with the nearest known key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = {_key_of(model, fault["loc"]): fault for fault in reversed(error.errors())}
        # An unknown key first: it is often the misspelled name of one that is missing.
        key, first = min(reversed(faults.items()), key=lambda item: item[1]["type"] != "extra_forbidden")
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        sentence = f"{where}: {_sentence(model, key, first)}{more}"
        raise RecipeError(sentence if sentence.endswith("?") else f"{sentence}.") from None


def _key_of(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The dotted key that a fault is about; what pydantic adds below it (branches of a union) is left out."""
    words = [str(part) for part in loc]
    shapes = {tuple(known.split(".")) for known in known_keys(model)}
    for length in range(len(words), 0, -1):
        if any(_fits(words[:length], shape) for shape in shapes):
            return ".".join(words[:length])
    return ".".join(words)


def _fits(words: list[str], shape: tuple[str, ...]) -> bool:
    return len(words) == len(shape) and all(
        part in ("*", word) for word, part in zip(words, shape, strict=True)
    )


def _sentence(model: type[BaseModel], key: str, fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        key = ".".join(str(part) for part in fault["loc"])
        return f"unknown key '{key}'{_suggestion(known_keys(model), key)}"
    if fault["type"] == "missing":
        key = ".".join(str(part) for part in fault["loc"])
        return f"the key '{key}' is missing"
    text = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    return f"'{key}': {text}" if key else text


def _suggestion(known: list[str], key: str) -> str:
    """'; did you mean ...?' with the nearest key of the same table, else one of the same name in another table."""
    *table, word = key.split(".")
    siblings = [k.rsplit(".", 1)[-1] for k in known if _fits(table, tuple(k.split(".")[:-1]))]
    near = difflib.get_close_matches(word, siblings, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{'.'.join([*table, near[0]])}'?"
    elsewhere = {k.rsplit(".", 1)[-1]: k for k in reversed(known) if not k.endswith("*")}
    near = difflib.get_close_matches(word, elsewhere, n=1, cutoff=0.75)
    return f"; did you mean '{elsewhere[near[0]].replace('*', 'NAME')}'?" if near else ""


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section model; the free name of a table shows as '*' (teacher.*.model)."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        keys.append(prefix + name)
        inner, free_name = inner_section(field.annotation)
        if inner is not None:
            keys += [f"{prefix}{name}.*"] if free_name else []
            keys += known_keys(inner, f"{prefix}{name}.*." if free_name else f"{prefix}{name}.")
    return keys


def inner_section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section model inside an annotation, and whether it sits under free names (dict[str, Section])."""
    for part in [annotation, *getattr(annotation, "__args__", ())]:
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, getattr(annotation, "__origin__", None) is dict
    return None, False
