"""What a preflight looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from r1distill.objectives.footprint import Footprint
from r1distill.objectives.render import Format, Rendered, Rendering
from r1distill.records import Example


class Finding(msgspec.Struct, frozen=True):
    """One proof, or one thing worth knowing."""

    check: str
    outcome: Literal["ok", "note", "failed"]
    text: str
    """One sentence; of a failed one it says what to do."""


class Lengths(NamedTuple):
    """What the length limit does to the rows."""

    limit_tokens: int
    reason: str
    """Which setting the limit comes from."""
    over_rows: int
    over_tokens: int
    """Tokens of the rows over the limit, whole."""
    all_rows: int
    all_tokens: int
    longest_tokens: int
    overlong: Literal["drop", "truncate", "raise"]
    emptied: int = 0
    """Rows whose prompt alone fills the limit: cutting leaves nothing to train on."""


class Validation(NamedTuple):
    """What became of the rows of val.jsonl."""

    rows: int
    """That are validated with."""
    rendering: Rendering
    lengths: Lengths
    decides: bool
    """Whether train.keep or train.patience goes by them."""

    @property
    def cut(self) -> int:
        """Rows cut at the limit."""
        return self.lengths.over_rows - self.lengths.emptied if self.lengths.overlong == "truncate" else 0

    @property
    def given(self) -> int:
        """Rows of val.jsonl."""
        return self.lengths.all_rows + self.unfit

    @property
    def unfit(self) -> int:
        """Rows left out whatever their length is."""
        rendering = self.rendering
        return rendering.control_tokens + len(rendering.changed) + rendering.no_target

    @property
    def dropped(self) -> int:
        """Rows left out, for whatever reason."""
        return self.given - self.rows


class Case(NamedTuple):
    """What the proofs look at."""

    tokenizer: Any
    folder: Path
    """Of the student."""
    form: Format
    examples: Mapping[str, Example]
    """By trace id."""
    rows: Sequence[Rendered]
    """To be trained on."""
    rendering: Rendering
    lengths: Lengths
    footprint: Footprint | None = None
    validation: Validation | None = None
    """None without rows in val.jsonl."""


def ok(check: str, text: str) -> Finding:
    """A proof that holds."""
    return Finding(check, "ok", text)


def failed(check: str, text: str) -> Finding:
    """A proof that does not hold; `text` says what to do."""
    return Finding(check, "failed", text)
