"""`r1distill recipe --explain`: every key of the recipe with its doc, unit and default, generated from the code."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from r1distill.checks import CHECKS
from r1distill.recipe import Recipe
from r1distill.recipe_faults import inner_section

UNITS = {
    "_s": "seconds",
    "_usd": "US dollars",
    "_tokens": "tokens",
    "_chars": "characters",
    "_fraction": "share of 1",
}
PLAIN_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
WIDTH = 100
HEAD = (
    "Every key of recipe.toml: its type, unit and default, and what it means. NAME stands for a name of your own;\n"
    "keys without a default may be left out unless they are required. Each can be changed for one call by\n"
    "--set, as in --set harvest.samples=8 or --set 'teacher.r1.sampling.temperature=0.6'."
)


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
    docs = field_docs(model)
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        inner, free_name = inner_section(field.annotation)
        yield Key(
            prefix + name,
            _type(field),
            _unit(name),
            _default(field),
            " ".join(docs.get(name, "").split()),
        )
        if inner is not None:
            yield from _keys(inner, f"{prefix}{name}.NAME." if free_name else f"{prefix}{name}.")


@functools.cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a model. Read from its source only when somebody asks: pydantic's use_attribute_docstrings
    would do it whenever the package is imported, 3 ms for each model.
    """
    kinds = (
        kind for kind in reversed(model.__mro__) if issubclass(kind, BaseModel) and kind is not BaseModel
    )
    return {name: text for kind in kinds for name, text in _docs_in(kind)}


def _docs_in(kind: type) -> Iterator[tuple[str, str]]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    for field, below in pairwise(tree.body if isinstance(tree, ast.ClassDef) else ()):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
        ):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                yield field.target.id, text


def _type(field: FieldInfo) -> str:
    inner, free_name = inner_section(field.annotation)
    if inner is not None:
        return "tables by name" if free_name else "table"
    return _words(field.annotation)


def _words(annotation: Any) -> str:
    """A type as people say it: text, whole number, "a" or "b", list of ..., table of ..."""
    if isinstance(annotation, type) and not get_args(annotation):
        return PLAIN_TYPES.get(annotation, annotation.__name__)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(json.dumps(part) for part in parts)
    if origin in (list, tuple):
        return f"list of {_words(parts[0])}"
    if origin is dict:
        return "table" if parts[1] is Any else f"table of {_words(parts[1])}s"
    return " or ".join(_words(part) for part in parts if part is not type(None))


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel) or default in (None, {}):
        return ""
    return f"default {_toml(default)}"


def _toml(value: Any) -> str:
    """A value as one would write it in the recipe."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def explain() -> str:
    """The keys as text, a paragraph per table: name, type, unit and default on one line, the doc below."""
    lines: list[str] = [HEAD]
    table, everything = "", keys()
    for key in everything:
        parent = key.name.rpartition(".")[0]
        is_table = key.type.startswith("table") and any(
            other.name.startswith(f"{key.name}.") for other in everything
        )
        if parent != table or is_table or not parent:
            lines.append("")
        table = key.name if is_table else parent
        about = ", ".join(part for part in (key.type, key.unit, key.default) if part)
        lines += textwrap.wrap(f"{key.name}  ({about})", WIDTH, subsequent_indent="        ")
        lines += textwrap.wrap(key.doc, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"
