"""Which format is this row of? Decided by its columns and the kinds of their values, once for all rows that look alike.

In: a Row. Out: a Format, or a ValueError that says what was seen and which formats come close.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from r1distill.errors import UsageError
from r1distill.importers.fields import Row
from r1distill.importers.table import FORMATS, QUESTION, REASONING, REPLY, Format, formats_named, names

MOST_LOOKS = 1_000
"""Rows of so many different looks are remembered; then it starts anew."""
LONGEST_LOOK = 10_000
"""Characters of the column names of a row; longer ones are not remembered."""
MAPPED = ("question", "answer", "trace", "reasoning", "reference", "system", "model", "finish")
"""What --map can name a column for; a `trace` is reasoning that ends in the answer, without any tags."""
CLOSE = 3
Present = dict[tuple[str, ...], tuple[str, ...]]
Look = tuple[str | bytes, ...]
HINT = "or name them: --map question={question},answer=COLUMN (and reasoning=COLUMN where it stands apart)"


class Detector:
    """Finds the format of rows; remembers the looks it has seen."""

    def __init__(self, allowed: tuple[Format, ...] = ()) -> None:
        """`allowed`: the formats that the user said it is; () to detect it."""
        self.allowed = allowed
        self.rows: Counter[str] = Counter()
        """How many rows of each format were met."""
        self.last = ""
        """The name of the format that was met last."""
        self._looks: dict[Look, tuple[Format | str, Present]] = {}

    def format_of(self, row: Row) -> Format:
        """The format of a row. Raises ValueError when none fits."""
        look: Look = (bytes([memoryview(raw)[0] for raw in row.raws.values()]), *row.raws)
        met = self._looks.get(look)
        if met is None:
            met = self._find(row), {}
            if len(self._looks) >= MOST_LOOKS:
                self._looks.clear()
            if sum(map(len, look)) <= LONGEST_LOOK:
                self._looks[look] = met
        known, row.present = met
        if isinstance(known, str):
            raise ValueError(known)
        self.count(known.name)
        return known

    def count(self, name: str) -> None:
        """One more row of a format."""
        self.last = name
        self.rows[name] += 1

    def _find(self, row: Row) -> Format | str:
        if self.allowed:
            return next((format for format in self.allowed if fits(format, row)), self.allowed[0])
        return next((format for format in FORMATS if fits(format, row)), None) or what_was_seen(row)


def fits(format: Format, row: Row) -> bool:
    """True when a row has the columns of a format."""
    if format.name == "plain":
        return _looks_plain(row)
    if format.only and row.raws.keys() - format.needs.keys():
        return False
    has_one = not format.one_of or any(row.kind(name) for name in format.one_of)
    return has_one and all(_is(row, name, kinds) for name, kinds in format.needs.items())


def _is(row: Row, name: str, kinds: str) -> bool:
    kind = row.kind(name)
    return bool(kind) and (not kinds or kind in kinds.split("|"))


def _looks_plain(row: Row) -> bool:
    """A question or a reply in a column of text."""
    words = (*QUESTION, *REPLY, *REASONING)
    return any(row.kind(name) in ("text", "number") for name in words)


def what_was_seen(row: Row) -> str:
    """Why a row is of no format: its columns, the formats that come close, and what to do."""
    return f"no format has these columns: {_seen(row)}{_close(row)}"


def what_is_lacking(row: Row, format: Format, fault: str) -> str:
    """The fault of a row that holds no question or no answer, with its columns, the formats that come close, and what to do."""
    if format.name == "map":
        gone = [repr(name[:40]) for name in format.needs if not row.kind(name)]
        return (
            f"there is no column {' and no column '.join(gone)}; its columns: {_seen(row)}" if gone else fault
        )
    return f"{fault}; its columns: {_seen(row)}{_close(row)}"


def _seen(row: Row) -> str:
    return ", ".join(f"{name[:40]} ({row.kind(name)})" for name in [*row.raws][:20]) or "none"


def _close(row: Row) -> str:
    """The formats of which a row has at least as many columns as it lacks, those that lack least first."""
    known: dict[str, _Near] = {}
    for format in reversed(FORMATS):
        near = _near(format, row)
        if near.have and near.have >= len(near.lack) and (near.lack or near.more):
            known[format.name] = near
    best = sorted(known, key=lambda name: (len(known[name].lack), -known[name].have))[:CLOSE]
    close = "; ".join(f"{name} ({known[name].how(name)})" for name in best)
    question = next((name[:40] for name in QUESTION if row.kind(name)), "COLUMN")
    return (f"; close: {close}" if close else "") + f"; {HINT.format(question=question)}"


class _Near(NamedTuple):
    """How near a row comes to a format."""

    lack: list[str]
    have: int
    more: list[str]
    """Columns that a row of this format would not have."""

    def how(self, name: str) -> str:
        """In words."""
        if self.lack:
            return f"it lacks {', '.join(self.lack)}"
        return f"there is more: {', '.join(self.more[:CLOSE])}; --format {name} reads it"


def _near(format: Format, row: Row) -> _Near:
    lack = [name for name, kinds in format.needs.items() if not _is(row, name, kinds)]
    have = len(format.needs) - len(lack)
    some = [name for name in format.one_of if row.kind(name)]
    if format.one_of and not some:
        lack.append(" or ".join(format.one_of))
    more = [name[:40] for name in row.raws if name not in format.needs] if format.only else []
    return _Near(lack, have + len(some), more)


def chosen_formats(name: str | None, columns: dict[str, str] | None) -> tuple[Format, ...]:
    """What --format and --map ask for; () when neither does. Raises UsageError for names that don't exist."""
    found = formats_named(name) if name else ()
    if name and not found:
        raise UsageError(f"There is no format {name!r}; the formats are: {', '.join(names())}.")
    if not columns:
        return found
    if found:
        raise UsageError("--format and --map don't go together: --map describes the columns by itself.")
    return (mapped(columns),)


def mapped(columns: dict[str, str]) -> Format:
    """A format by its columns. Raises UsageError for a key that means nothing."""
    odd = [key for key in columns if key not in MAPPED]
    if odd or "question" not in columns or ("answer" in columns) == ("trace" in columns):
        what = (
            f"{odd[0]!r} means nothing to --map"
            if odd
            else "--map needs a question, and an answer or a trace"
        )
        raise UsageError(f"{what}; write question=COLUMN,answer=COLUMN, and maybe {', '.join(MAPPED[3:])}.")
    reply = columns.get("answer") or columns["trace"]
    one = {key: (column,) for key, column in columns.items()}
    return Format(
        name="map", shape="columns", needs={columns["question"]: "", reply: ""}, question=one["question"],
        reply=(reply,), untagged="trace" in columns, reasoning=one.get("reasoning", ()), reference=one.get("reference", ()),
        model=one.get("model", ()), finish=one.get("finish", ()), system=columns.get("system", ""), source="--map",
    )  # fmt: skip


def parse_map(text: str) -> dict[str, str]:
    """The columns of `question=problem,answer=solution`. Raises UsageError."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, sign, column = (piece.strip() for piece in part.partition("="))
        if not sign or not key or not column or key in found:
            raise UsageError(f"--map is {text!r}; write it as question=problem,answer=solution.")
        found[key] = column
    return found
