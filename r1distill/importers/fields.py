"""One row of a trace file: its columns, undecoded until somebody asks for one.

In: the bytes of one JSON object. Out: a Row. Only what a format names is decoded, so that columns nobody needs (a second
copy of the conversation, log-probabilities) cost a scan and no more. All of it is tolerant: what has another type than
was expected is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

KINDS = {
    ord(first): kind
    for first, kind in zip('"[{tfn', ("text", "list", "object", "flag", "flag", "null"), strict=True)
}
"""The kind of a JSON value by its first character; all others begin a number."""
BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
LONGEST_NUMBER = 400
"""Characters; a longer number is no answer. (Python refuses integers of more than 4,300 digits.)"""
TOO_MANY_DIGITS = re.compile(
    r"Exceeds the limit \(.*?set_int_max_str_digits\(\)(?: to increase the limit)?", re.DOTALL
)
"""What Python says of those, in words for its programmers."""
_COLUMNS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()


class LacksError(ValueError):
    """A row without a question or without an answer: maybe of another format than it was taken for."""


class Row:
    """The columns of one row, by name."""

    __slots__ = ("present", "raws", "source")

    def __init__(self, raws: dict[str, msgspec.Raw], source: bytes = b"") -> None:
        self.raws, self.source = raws, source
        self.present: dict[tuple[str, ...], tuple[str, ...]] | None = None
        """Which of some columns are there at all; shared by all rows that look alike."""

    def kind(self, name: str) -> str:
        """text, list, object, number, flag or null; "" for a column that is not there."""
        raw = self.raws.get(name)
        if raw is None:
            raw = self.raw(name) if "." in name else None
        return "" if raw is None else kind_of(raw)

    def raw(self, name: str) -> msgspec.Raw | None:
        """A column undecoded; of a dotted name that is no column itself, the field inside of objects."""
        found = self.raws.get(name)
        if found is not None or "." not in name:
            return found
        head, _, rest = name.partition(".")
        return self.inside(head).raw(rest) if head in self.raws else None

    def value(self, name: str) -> Any:
        """A column decoded; None when it is not there. Raises ValueError for what can't be decoded."""
        raw = self.raw(name)
        return None if raw is None else _ANY.decode(raw)

    def text(self, names: Iterable[str]) -> str | None:
        """The first of the columns that holds text that is not blank, or a number, as text."""
        raws = self.raws
        for name in self.there(names) if type(names) is tuple else names:
            raw = raws.get(name)
            if raw is None:
                raw = self.raw(name) if "." in name else None
                if raw is None:
                    continue
            kind = kind_of(raw)
            if kind == "text":
                found = _TEXT.decode(raw)
                if found.strip():
                    return found
            elif kind == "number":
                return _number(raw)
        return None

    def there(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the columns that may be there."""
        if self.present is None or len(names) < 3:
            return names
        found = self.present.get(names)
        if found is None:
            found = self.present[names] = tuple(name for name in names if name in self.raws or "." in name)
        return found

    def items(self, name: str) -> list[Any]:
        """A column that is a list; [] for all else."""
        return list(self.value(name)) if self.kind(name) == "list" else []

    def object(self, name: str) -> dict[str, Any]:
        """A column that is an object; {} for all else."""
        return dict(self.value(name)) if self.kind(name) == "object" else {}

    def inside(self, name: str) -> Row:
        """A column that is an object, as a row of its own; without any column for all else."""
        raw = self.raw(name)
        return Row(_COLUMNS.decode(raw) if raw is not None and kind_of(raw) == "object" else {})

    def line(self, changed: dict[str, Any], without: Iterable[str] = ()) -> bytes:
        """The row as one JSON line with some columns changed and some left out, all others byte for byte."""
        kept = {name: raw for name, raw in self.raws.items() if name not in without}
        return msgspec.json.encode(kept | changed)


def read_row(line: bytes) -> Row:
    """The row of a line. Raises ValueError saying what is wrong with it, RecursionError."""
    try:
        if not line.isascii():
            line.decode()
        row = Row(_COLUMNS.decode(line), line)
    except msgspec.ValidationError:
        raise ValueError(f"the line is no JSON object but {in_json(_ANY.decode(line))}") from None
    except msgspec.DecodeError as error:
        raise ValueError(_what_is_odd(line) or str(error)) from None
    twice = _repeated_column(line, row.raws)
    if twice is not None:
        raise ValueError(f"the column {twice[:80]!r} stands in the row twice")
    return row


def known_row(line: bytes) -> Row:
    """The row of a line that `read_row` has read before."""
    return Row(_COLUMNS.decode(line), line)


def _what_is_odd(line: bytes) -> str:
    """What a laxer reader would have let pass in a line that is no JSON; "" when it is broken for any reader."""
    if line.startswith(BOM):
        return "a byte order mark (U+FEFF) stands before the row"
    odd: list[str] = []
    try:
        json.loads(line.decode(), parse_constant=odd.append, parse_int=str)
    except (ValueError, RecursionError):
        return ""
    if odd:
        return f"{odd[0]} is no JSON value"
    halves = SURROGATE.search(line)
    return "half of a surrogate pair (\\ud800 to \\udfff alone) is no text" if halves else ""


def in_json(value: Any) -> str:
    """What a decoded value is, in the words of JSON."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    words = ((str, "a text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((word for kind, word in words if isinstance(value, kind)), "something else")


def in_plain_words(reason: str) -> str:
    """Why a row is no trace, without advice to programmers."""
    return TOO_MANY_DIGITS.sub("a number of more than 4,300 digits", reason)


def kind_of(raw: msgspec.Raw) -> str:
    """The kind of an undecoded value, see Row.kind."""
    return KINDS.get(memoryview(raw)[0], "number")


def _number(raw: msgspec.Raw) -> str:
    if len(raw) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(raw):,} characters")
    return str(_ANY.decode(raw))


def _repeated_column(line: bytes, raws: dict[str, msgspec.Raw]) -> str | None:
    """A column that stands in the row twice, of which readers would take one without a word.

    What the columns leave over of the line is only signs. As many as JSON writes (`{"a":1,"b":2}`, or with a blank after
    each sign) leave no room for a further column; for any other number the line is read again, slowly.
    """
    count = len(raws)
    names = "".join(raws)
    named = len(names) if names.isascii() else len(names.encode())
    signs = len(line) - named - sum(map(len, raws.values()))
    if signs in (4 * count + 1, 6 * count):
        return None
    pairs: list[tuple[str, Any]] = []

    def note(found: list[tuple[str, Any]]) -> None:
        pairs[:] = found  # objects are told from the inside out: the row itself comes last

    json.loads(line, object_pairs_hook=note, parse_int=str)
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return None
