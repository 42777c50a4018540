"""Hard labels: supervised fine-tuning on rows whose ids and labels we know (render.py), with trl's SFTTrainer.

In: a student's folder, rendered rows, the recipe's settings. Out: train/<id>/adapter (PEFT), metrics.jsonl, and
checkpoints that the next call with the same folder continues from. trl gets finished rows and leaves them alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from datasets import Dataset, Features, Value
from datasets import Sequence as Column
from peft import PeftModel
from transformers import PrinterCallback
from trl import SFTTrainer

from r1distill.errors import R1DistillError, RecipeError, StorageError
from r1distill.ledger import storage_errors
from r1distill.objectives import loss
from r1distill.objectives.batches import SimilarLengths
from r1distill.objectives.render import IGNORED, Rendered
from r1distill.objectives.settings import lora_config, sft_config
from r1distill.objectives.students import load_model, stop_at
from r1distill.objectives.watch import Watch, last_checkpoint
from r1distill.show import Show

FULL_DISK = ("No space left on device", "PytorchStreamWriter failed", "inline_container.cc", "os error 28")
"""What torch.save and safetensors say when the disk is full."""
FULL_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says when the GPU's or the machine's memory is full."""


class Job(NamedTuple):
    """All that one training needs."""

    student: Path
    """Folder of the base model."""
    base: str
    """The base's name for the adapter's configuration: hub name or folder."""
    tokenizer: Any
    end_id: int
    rows: Sequence[Rendered]
    validation: Sequence[Rendered]
    lora: dict[str, Any]
    sft: dict[str, Any]
    seed: int
    folder: Path
    """train/<id>"""


class Outcome(msgspec.Struct, frozen=True):
    """What a training came to."""

    steps: int
    epochs: float
    trainable_parameters: int
    parameters: int
    first_loss: float | None
    """Nats per labelled token, mean over the first tenth of the logged steps (at least one)."""
    last_loss: float | None
    """The same over the last tenth."""
    validation_loss: float | None
    """Nats per labelled token over val.jsonl, after the last epoch."""
    labelled_tokens: int
    """Trained on, over all epochs."""
    tokens_per_s: float
    """Labelled tokens per second."""
    elapsed_s: float


def train_sft(job: Job, show: Show) -> Outcome:
    """Fine-tune; resumes from the last checkpoint in the folder.

    Raises RecipeError (settings refused), InputError (student can't be loaded), StorageError, and
    KeyboardInterrupt after a checkpoint was saved.
    """
    _set_threads()
    with _translated(job.folder):
        watch = Watch(job.folder / "metrics.jsonl", show)
        trainer = _trainer(job, watch)
        found = last_checkpoint(job.folder / "checkpoints")
        if found:
            watch.resume_at(found[1])
            show.note(f"Continuing from the checkpoint at step {found[1]}.")
        steps = _steps(trainer)
        with watch.at_work(steps):
            trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
        if watch.interrupted and trainer.state.global_step < steps:
            raise KeyboardInterrupt
        _save(job, trainer)
    return _outcome(trainer, watch)


class Trainer(SFTTrainer):  # type: ignore[misc]
    """trl's trainer with our row order, our loss where it is equal and cheaper, and an exact validation loss."""

    def __init__(self, *args: Any, watch: Watch, **kwargs: Any) -> None:
        super().__init__(*args, callbacks=[watch], **kwargs)
        self.remove_callback(PrinterCallback)
        self.watch = watch
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
            self.watch.labelled_tokens += tokens
        elif not return_outputs:
            self._validation[0] += float(value.detach()) * tokens
            self._validation[1] += tokens
        return value

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; transformers' eval_loss weighs batches by rows, ours by tokens."""
        nats, tokens = self._validation
        if "eval_loss" in logs and tokens and self.args.world_size == 1:
            logs["eval_loss"] = nats / tokens
            self._validation = [0.0, 0]
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "random" or self.args.packing:
            return super()._get_train_sampler(train_dataset)
        lengths = [len(ids) for ids in rows["input_ids"]]
        return SimilarLengths(lengths, self.args.train_batch_size * self.args.world_size, self.args.seed)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: trl's card would say nothing of the teacher, the filters or the data."""

    def _send_telemetry(self) -> None:
        """Nothing: r1distill sends no telemetry."""


def dataset(rows: Sequence[Rendered]) -> Any:
    """Rendered rows as a datasets.Dataset with the columns input_ids and labels (int32 on the Arrow side)."""
    features = Features({"input_ids": Column(Value("int32")), "labels": Column(Value("int32"))})
    columns = {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
    return Dataset.from_dict(columns, features=features)


def _trainer(job: Job, watch: Watch) -> Trainer:
    args = sft_config(job.sft, job.seed, job.folder / "checkpoints", validate=bool(job.validation))
    # Without packing trl has nothing to prepare: it takes the rows as they are.
    args.dataset_kwargs = None if args.packing else {"skip_prepare_dataset": True}
    lora = lora_config(job.lora)
    model = load_model(job.student)
    stop_at(model, job.end_id)
    job.tokenizer.eos_token = job.tokenizer.convert_ids_to_tokens(job.end_id)
    try:
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=dataset(job.rows),
            eval_dataset=dataset(job.validation) if job.validation else None,
            processing_class=job.tokenizer,
            peft_config=lora,
            watch=watch,
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"train.lora or train.sft is refused for this student: {error}") from None
    trainer.model.peft_config["default"].base_model_name_or_path = job.base
    return trainer


def _steps(trainer: Trainer) -> int:
    rows_per_step = (
        trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size
    )
    per_epoch = max(1, -(-len(trainer.train_dataset) // rows_per_step))
    return int(
        trainer.args.max_steps
        if trainer.args.max_steps > 0
        else -(-per_epoch * trainer.args.num_train_epochs // 1)
    )


def _save(job: Job, trainer: Trainer) -> None:
    """Write the adapter folder so that it is there complete or not at all, then drop the checkpoints."""
    part, target = job.folder / ".adapter.part", job.folder / "adapter"
    shutil.rmtree(part, ignore_errors=True)
    trainer.model.save_pretrained(part, save_embedding_layers=False)
    job.tokenizer.save_pretrained(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    if "save_strategy" not in job.sft:
        shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)


def _outcome(trainer: Trainer, watch: Watch) -> Outcome:
    trainable, parameters = trainer.model.get_nb_trainable_parameters()
    losses = [row.loss for row in watch.metrics if row.loss is not None]
    validations = [row.eval_loss for row in watch.metrics if row.eval_loss is not None]
    tenth = max(1, len(losses) // 10)
    elapsed_s = watch.metrics[-1].elapsed_s if watch.metrics else watch.elapsed_s
    return Outcome(
        steps=trainer.state.global_step,
        epochs=round(float(trainer.state.epoch or 0), 4),
        trainable_parameters=trainable,
        parameters=parameters,
        first_loss=sum(losses[:tenth]) / tenth if losses else None,
        last_loss=sum(losses[-tenth:]) / tenth if losses else None,
        validation_loss=validations[-1] if validations else None,
        labelled_tokens=watch.labelled_tokens,
        tokens_per_s=round(watch.labelled_tokens / max(elapsed_s, 1e-9), 1),
        elapsed_s=elapsed_s,
    )


def _set_threads() -> None:
    """One compute thread per core that this process may use, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Turn a full disk or a full memory into one sentence; torch and safetensors wrap them in errors of their own."""
    try:
        with storage_errors(folder):
            yield
    except R1DistillError:
        raise
    except Exception as error:
        text = str(error)
        if any(sign in text for sign in FULL_DISK):
            raise StorageError(
                f"{folder} can't be written: there is no space left; free some space and run the same command again, "
                "it continues from the last checkpoint."
            ) from None
        if any(sign in text for sign in FULL_MEMORY):
            raise R1DistillError(
                "There is not enough memory for this training: lower train.sft.per_device_train_batch_size (and raise "
                "gradient_accumulation_steps by as much), lower train.sft.max_length, or take a smaller student."
            ) from None
        raise
