"""What checks are given and give: settings that are numbers, measurements that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, get_args

import msgspec


def plain_number(value: Any, annotation: Any) -> Any:
    """A setting as it is. Raises ValueError for true, "40" or 40.5 where the type of the key wants a (whole) number."""
    kinds = {annotation, *get_args(annotation)}
    if not kinds & {int, float} or type(value) in kinds:
        return value
    whole = float not in kinds
    if isinstance(value, bool | str) or (whole and isinstance(value, float)):
        shown = msgspec.json.encode(value).decode("utf-8", "replace")
        raise ValueError(f"should be a {'whole ' if whole else ''}number, not {shown}")
    return value


def as_json(value: Any) -> bytes:
    """A measurement as JSON. Raises TypeError for what is no dict, ValueError for nan and infinity, which JSON can't hold."""
    if not isinstance(value, dict):
        raise TypeError(f"a measurement is a dict, not {type(value).__name__}")
    raw = msgspec.json.encode(value)
    if b"null" in raw and not all(map(math.isfinite, _floats(msgspec.to_builtins(value)))):
        raise ValueError("a measurement holds nan or infinity, which JSON can't hold")
    return raw


def _floats(value: Any) -> Iterable[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _floats(item)
