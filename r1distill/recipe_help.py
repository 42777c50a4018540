"""`r1distill recipe --explain`: every key of the recipe with its doc, unit and default, generated from the code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from r1distill.checks import CHECKS
from r1distill.recipe import Recipe, inner_section

UNITS = {
    "_s": "seconds",
    "_usd": "US dollars",
    "_tokens": "tokens",
    "_chars": "characters",
    "_fraction": "share of 1",
}


class Key(NamedTuple):
    """One key of the recipe."""

    name: str
    type: str
    unit: str
    default: str
    doc: str


def keys() -> list[Key]:
    """All keys: those of Recipe, then those of each check under filter.checks.NAME."""
    found = list(_keys(Recipe, ""))
    for name, check in CHECKS.items():
        found += _keys(check, f"filter.checks.{name}.")
    return found


def _keys(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        inner, free_name = inner_section(field.annotation)
        yield Key(
            prefix + name,
            _type(field),
            _unit(name),
            _default(field),
            " ".join((field.description or "").split()),
        )
        if inner is not None:
            yield from _keys(inner, f"{prefix}{name}.NAME." if free_name else f"{prefix}{name}.")


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    inner, free_name = inner_section(annotation)
    if inner is not None:
        return "tables by name" if free_name else "table"
    text = (
        annotation.__name__
        if isinstance(annotation, type) and not hasattr(annotation, "__args__")
        else str(annotation)
    )
    return text.replace("typing.", "").replace(" | None", "").replace("NoneType", "none")


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ""
    return "none" if default is None else json.dumps(default, ensure_ascii=False)


def explain() -> str:
    """The keys as text: name, type, unit and default on one line, the doc below."""
    lines: list[str] = []
    for key in keys():
        about = ", ".join(
            part for part in (key.type, key.unit, f"default {key.default}" if key.default else "") if part
        )
        lines += [f"{key.name}  ({about.replace('default required', 'required')})", f"    {key.doc}"]
    return "\n".join(lines) + "\n"
