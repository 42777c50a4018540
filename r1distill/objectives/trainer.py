"""trl's SFTTrainer with what is ours: row order, an equal and cheaper loss, an exact validation loss, no telemetry.

In: rows whose ids and labels are decided (render.py). The trainer changes neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Value, concatenate_datasets
from datasets import Sequence as Column
from peft import PeftModel
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import SFTTrainer

from r1distill.objectives import loss
from r1distill.objectives.batches import SimilarLengths
from r1distill.objectives.render import IGNORED, Rendered
from r1distill.objectives.watch import STATE_FILE, Watch


class Trainer(SFTTrainer):  # type: ignore[misc]
    """trl's trainer with our row order, our loss where it is equal and cheaper, and an exact validation loss."""

    eval_dataset: Any

    def __init__(
        self, *args: Any, watch: Watch, micro_rows: int, patience: int | None, **kwargs: Any
    ) -> None:
        stops = [EarlyStoppingCallback(patience)] if patience else []
        super().__init__(*args, callbacks=[watch, *stops], **kwargs)
        if self.eval_dataset is not None and self.args.world_size > 1:
            self.eval_dataset = filled_up(self.eval_dataset, self.args.eval_batch_size * self.args.world_size)
        self.remove_callback(PrinterCallback)
        self.watch, self.micro_rows = watch, micro_rows
        self._validation = [0.0, 0]  # nats, tokens
        self._causal = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        self._own_loss = loss.usable(self._causal, self.args)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss in nats per labelled token, over the whole step when gradients are accumulated."""
        tokens = int((inputs["labels"][:, 1:] != IGNORED).sum())
        if self._own_loss and not return_outputs:
            divisor = tokens if num_items_in_batch is None else int(num_items_in_batch)
            value = loss.summed_loss(self._causal, inputs) / max(divisor, 1)
        else:
            value = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.model.training:
            self.watch.labelled_tokens += self._trained_tokens(tokens, num_items_in_batch)
        elif not return_outputs and tokens:
            self._validation[0] += float(value.detach()) * tokens
            self._validation[1] += tokens
        return value

    def _trained_tokens(self, own: int, all_of_step: Any) -> int:
        """Labelled tokens of a micro-batch over all processes; with several, each micro-batch counts as its step's mean."""
        if self.args.world_size == 1 or all_of_step is None:
            return own
        return round(int(all_of_step) / int(self.current_gradient_accumulation_steps))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; transformers' eval_loss weighs batches by rows, ours by tokens. What is logged decides the best checkpoint."""
        if "eval_loss" in logs:
            nats, tokens = self._summed(self._validation)
            self._validation = [0.0, 0]
            if tokens:
                logs["eval_loss"] = nats / tokens
        super().log(logs, start_time)

    def _summed(self, own: list[float]) -> list[float]:
        """Each figure summed over all processes."""
        if self.args.world_size == 1:
            return own
        every = torch.tensor(own, dtype=torch.float64, device=self.args.device)
        torch.distributed.all_reduce(every)
        return [float(figure) for figure in every.tolist()]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "random" or self.args.packing:
            return super()._get_train_sampler(train_dataset)
        lengths = [len(ids) for ids in rows["input_ids"]]
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        batches = max(1, step // self.micro_rows)
        return SimilarLengths(lengths, self.micro_rows, self.args.seed, batches, self.args.world_size)

    def make_up_evaluation(self, checkpoint: Path) -> None:
        """The validation that was due at `checkpoint` and is lost, with all that it decides; as eval_on_start, it comes
        before the first step.
        """
        self._load_rng_state(str(checkpoint))  # as it was when the validation was due
        self._determine_best_metric(metrics=self._evaluate(None, None), trial=None)
        if self.args.load_best_model_at_end:  # this checkpoint may be the best, and its state must say so
            self._save_checkpoint(self.model, trial=None)
            self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """While one is written over, it counts as unfinished (watch.last_checkpoint)."""
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / STATE_FILE).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Nothing when the checkpoint is that of the end: in an unfinished epoch transformers would train one step more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: trl's card would say nothing of the teacher, the filters or the data."""

    def _send_telemetry(self) -> None:
        """Nothing: r1distill sends no telemetry."""


def dataset(rows: Sequence[Rendered]) -> Any:
    """Rendered rows as a datasets.Dataset with the columns input_ids and labels (int32 on the Arrow side)."""
    features = Features({"input_ids": Column(Value("int32")), "labels": Column(Value("int32"))})
    columns = {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
    return Dataset.from_dict(columns, features=features)


def filled_up(rows: Any, multiple: int) -> Any:
    """Validation rows made up to a multiple of what all processes take at once, by a short row without a label.

    Else accelerate repeats rows to give every process as many, and they would count twice.
    """
    lacking = -len(rows) % multiple
    if not lacking:
        return rows
    shortest = min(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    blank = rows.select([shortest]).map(
        lambda row: {"labels": [IGNORED] * len(row["labels"])}, features=rows.features, keep_in_memory=True
    )
    return concatenate_datasets([rows, *[blank] * lacking])
