"""What a resumed training takes up beside weights and optimizer: a validation that a kill cost, and train.patience.

The checkpoint by the clock is written before the validation at the end of its epoch, and transformers goes on behind it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from r1distill.objectives.trainer import Trainer

PATIENCE = "early_stopping_patience_counter"


class Resumption(TrainerCallback):  # type: ignore[misc]
    """Before the first step of a training that continues from `checkpoint`."""

    def __init__(self, trainer: Trainer, checkpoint: Path) -> None:
        self.trainer, self.checkpoint = trainer, checkpoint

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count on where the early stop was, and make up for the validation if it is missing."""
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                _count_on(callback, state, control)
        if _due(args, state) and self._missing(args, state):
            self.trainer.watch.forget_validation(state.global_step)
            self.trainer.make_up_evaluation(self.checkpoint)

    def _missing(self, args: Any, state: Any) -> bool:
        """Where it decides anything, the trainer's own state must know of it; else it is enough that metrics.jsonl does."""
        if args.load_best_model_at_end:
            known = [row["step"] for row in state.log_history if "eval_loss" in row]
        else:
            known = [row.step for row in self.trainer.watch.metrics if row.eval_loss is not None]
        return state.global_step not in known


def _count_on(callback: Any, state: Any, control: Any) -> None:
    """The early stop's count stands in the checkpoint, but transformers begins again at 0."""
    written = (state.stateful_callbacks or {}).get(type(callback).__name__) or {}
    count = int(written.get("attributes", {}).get(PATIENCE, 0))
    setattr(callback, PATIENCE, count)
    if count >= callback.early_stopping_patience:
        control.should_training_stop = True


def _due(args: Any, state: Any) -> bool:
    """Whether a validation belongs to the end of the checkpoint's step."""
    ended = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
    return bool(args.eval_strategy == "epoch" and ended and args.eval_delay <= state.epoch)
