"""Grading JSON: the answer's value equals the reference's, whatever the order of keys and the writing of numbers.

The answer's JSON stands in the last fenced block that holds some, in a box, is the whole text, or is the last JSON
object or list inside a text (a guess). `tests` may say {"subset": true}: the answer may then have further keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from r1distill.answers.extract import find_marked
from r1distill.answers.normalise import nesting
from r1distill.answers.options import read_options
from r1distill.answers.outcome import Grade, How, shown

FENCE = re.compile(r"^[ \t]{0,3}```[ \t]{0,4}\w{0,12}[^\n`]{0,40}\n", re.MULTILINE)
MAX_CHARS = 200_000
"""Longer answers are not read."""
MAX_NESTING = 100
"""Nor are deeper ones."""
MAX_TRIES = 100
"""So many opening brackets of a text are tried as the start of JSON."""
DECODER_ERRORS = (ValueError, RecursionError, InvalidOperation)


class FoundJson(NamedTuple):
    """A JSON value and where it stood."""

    value: Any
    how: How
    text: str


def grade_exact(reference: str, answer_text: str, tests: Any = None) -> Grade:
    """Compare the JSON that an answer holds with the reference's."""
    options, fault = read_options(tests, ("subset",))
    subset = options.get("subset", False)
    if fault or not isinstance(subset, bool):
        return Grade("error", note=fault or "tests: subset must be true or false")
    wanted = find_json(reference)
    if wanted is None or wanted.how == "last_json":
        return Grade("unreadable_reference", note="reference is no JSON")
    if len(answer_text) > MAX_CHARS:
        return Grade("error", note=f"answer longer than {MAX_CHARS} characters")
    if nesting(answer_text) > MAX_NESTING:
        return Grade("error", note=f"answer nested deeper than {MAX_NESTING}")
    found = find_json(answer_text)
    if found is None:
        return Grade("no_answer")
    same = same_json(wanted.value, found.value, subset)
    return Grade("right" if same else "wrong", shown(found.text.strip()), found.how, "exact")


def find_json(text: str) -> FoundJson | None:
    """The JSON value of an answer text; None when it holds none."""
    for block in reversed(_fenced(text)):
        if (value := _read(block)) is not None:
            return FoundJson(value[0], "fenced", block)
        if block.lstrip()[:1] in ("{", "["):
            return None  # the last one is meant, and it is broken: an earlier one may be a draft
    if (value := _read(text)) is not None:
        return FoundJson(value[0], "whole", text)
    marked = find_marked(text)
    if marked is not None and (value := _read(marked.text)) is not None:
        return FoundJson(value[0], marked.how, marked.text)
    return _last_inside(text)


def _fenced(text: str) -> list[str]:
    blocks = []
    at = 0
    while found := FENCE.search(text, at):
        end = text.find("```", found.end())
        if end < 0:
            break
        blocks.append(text[found.end() : end])
        at = end + 3
    return blocks


def _last_inside(text: str) -> FoundJson | None:
    """The last object or list inside a text; the start of each is tried, a bounded number of times."""
    last, at, decoder = None, 0, _decoder()
    for _ in range(MAX_TRIES):
        opener = re.compile(r"[{\[]").search(text, at)
        if opener is None:
            break
        try:
            value, end = decoder.raw_decode(text, opener.start())
        except DECODER_ERRORS:
            at = opener.end()
            continue
        last, at = FoundJson(value, "last_json", text[opener.start() : end]), end
    return last


def _read(text: str) -> tuple[Any] | None:
    """(value,) of a text that is JSON and nothing else; None when it is not."""
    try:
        return (_decoder().decode(text.strip()),)
    except DECODER_ERRORS:
        return None


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")  # which of its values was meant?
    return found


def same_json(wanted: Any, given: Any, subset: bool = False) -> bool:
    """Structural equality: 1 is 1.0 but not true; with `subset`, objects of `given` may have further keys."""
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        fits = wanted.keys() <= given.keys() if subset else wanted.keys() == given.keys()
        return fits and all(same_json(value, given[key], subset) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(given, list):
        return len(wanted) == len(given) and all(
            same_json(a, b, subset) for a, b in zip(wanted, given, strict=True)
        )
    if isinstance(wanted, bool) or isinstance(given, bool):
        return wanted is given
    if isinstance(wanted, int | Decimal) and isinstance(given, int | Decimal):
        return wanted == given
    return type(wanted) is type(given) and bool(wanted == given)
