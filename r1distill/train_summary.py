"""What `train`, `train --check` and `train --emit` come to: the summaries that --json prints and summary.json holds."""

from __future__ import annotations

from typing import Any

import msgspec


class TrainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a training came to; figures of the training are null or 0 after a dry run."""

    stage_id: str
    folder: str
    method: str = "lora"
    """lora, qlora or full."""
    adapter: str | None
    """The PEFT folder; null with method = "full"."""
    model: str | None = None
    """The folder with all weights; null unless method = "full"."""
    adapter_gguf: str | None
    """The adapter for llama.cpp, written for GGUF students."""
    base: str
    base_digest: str | None
    """Null only for a hub student that a dry run did not fetch."""
    rows: int
    """Trained on (a dry run: rows there are)."""
    validation_rows: int = 0
    validation_rows_dropped: int = 0
    """Of val.jsonl, left out for one of the reasons below."""
    validation_rows_cut: int = 0
    rows_dropped_too_long: int = 0
    """Longer than train.sft.max_length; dropped whole."""
    rows_cut: int = 0
    """Cut at train.sft.max_length, by train.overlong = "truncate"."""
    rows_dropped_no_target: int = 0
    """Without reasoning and answer."""
    rows_dropped_control_tokens: int = 0
    """Their text spells a control token of the student, or a stray think tag."""
    rows_dropped_changed: int = 0
    """The student's tokenizer changes their text."""
    longest_row_tokens: int | None = None
    """Prompt and completion of the longest row trained on (a dry run: estimated from characters, over all rows)."""
    steps: int = 0
    epochs: float = 0.0
    trainable_parameters: int = 0
    parameters: int = 0
    first_loss: float | None = None
    """Nats per labelled token, mean of the first tenth of the logged steps."""
    last_loss: float | None = None
    """The same of the last tenth."""
    validation_loss: float | None = None
    """Nats per labelled token over val.jsonl: the last one, or the lowest with train.keep = "best"."""
    labelled_tokens: int = 0
    """Trained on, over all epochs."""
    tokens_per_s: float = 0.0
    """Labelled tokens per second of training."""
    elapsed_s: float = 0.0
    """Of the training itself, over all resumptions, without loading."""
    processes: int = 1
    """That trained together, as torch counts them."""
    up_to_date: bool = False


class CheckSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What `train --check` found; nothing is trained and nothing written."""

    stage_id: str
    """Of the training that would follow."""
    base: str
    method: str
    passed: bool
    failure: str | None
    """The sentence of the first failed finding."""
    rows: int
    """That would be trained on."""
    validation_rows: int
    validation_rows_dropped: int
    """Of val.jsonl, left out for one of the reasons below."""
    rows_too_long: int
    """Over train.sft.max_length (or the student's positions), whatever train.overlong does with them."""
    rows_dropped_no_target: int
    rows_dropped_control_tokens: int
    rows_dropped_changed: int
    longest_row_tokens: int
    findings: list[dict[str, Any]]
    """check, outcome (ok, note, failed) and text of each, in order."""
    shown: list[str]
    """Three rows as the student sees them, the trained part between ⟦ and ⟧."""
    estimate: dict[str, Any]
    """Parameters, memory in bytes, time in seconds: rough."""


class EmitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What `train --emit` wrote."""

    folder: str
    files: list[str]
    base: str
    rows: int
    validation_rows: int
    not_handed_on: list[str]
    """Keys of train.lora that trl's command line has no option for."""
