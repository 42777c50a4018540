"""What an export came to: the object that export.json holds, the card is made of, and --json prints."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from r1distill.exports.gguf_model import Quant
from r1distill.scores import Difference, Score

Format = Literal["merged", "gguf", "adapter"]
UNQUANTISED = "student-f16"
"""Who a quantised student is compared with: the same student as f16 GGUF, at the same server."""


class ExportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An exported student; figures that nobody measured are null."""

    name: str
    format: Format
    quant: Quant | None
    """None but for GGUF."""
    folder: str
    """In export.json its name only."""
    train_stage: str
    """The id of the training that it comes from."""
    base: str
    """Hub name, or the last part of a path."""
    base_digest: str | None
    """Null only for a hub student that a dry run did not fetch."""
    files: dict[str, int] = msgspec.field(default_factory=dict)
    """Name -> bytes; a dry run: the weights, estimated."""
    bytes: int | None = None
    """Of all files (a dry run: estimated; null when the base is not here)."""
    parameters: int | None = None
    weights_digest: str | None = None
    """Of the exported weights (r1distill.weights.weights_digest); null in a dry run."""
    prompts_checked: int | None = None
    """Prompts whose tokens were compared with the training's, and are the same."""
    tokens_per_s: float | None = None
    """One greedy answer after the other on this machine, after --evaluate or a GGUF's check."""
    scores: list[Score] = msgspec.field(default_factory=list)
    """pass@1 of this export, and of the unquantised student when it is quantised."""
    differences: list[Difference] = msgspec.field(default_factory=list)
    """Quantised - unquantised, paired over problems."""
    models: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Per scored model: what it is, parameters, size in bytes, tokens per second."""
    notes: list[str] = msgspec.field(default_factory=list)
    still_owed: int = 0
    interrupted: bool = False
    up_to_date: bool = False
    """The folder held this export already."""
    dry_run: bool = False
    elapsed_s: float = 0.0

    @property
    def who(self) -> str:
        """What scores call this export."""
        return f"student-{self.quant or self.format}"

    def sentence(self) -> str:
        """'name of training id as gguf, q8_0'."""
        return f"{self.name} of training {self.train_stage} as {self.format}" + (
            f", {self.quant}" if self.quant else ""
        )

    def same_as(self, other: ExportSummary) -> bool:
        """Whether `other` is the same student in the same form."""
        keys = ("name", "format", "quant", "train_stage", "base", "base_digest")
        return all(getattr(self, key) == getattr(other, key) for key in keys)
