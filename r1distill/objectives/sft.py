"""Hard labels: supervised fine-tuning on rows whose ids and labels we know (render.py), with trl's SFTTrainer.

In: a student's folder, rendered rows, the recipe's settings. Out: train/<id>/adapter (PEFT) or, with method = "full",
train/<id>/model (weights); metrics.jsonl; and checkpoints that the next call with the same folder continues from. trl
gets finished rows and leaves them alone. Under `accelerate launch` every process calls the same; the first one writes.
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
from peft import PeftModel

from r1distill.errors import R1DistillError, RecipeError, StorageError
from r1distill.ledger import storage_errors
from r1distill.objectives import packing, settings
from r1distill.objectives.disk import refused_write
from r1distill.objectives.render import Rendered
from r1distill.objectives.resumption import Resumption
from r1distill.objectives.students import load_model, stop_at
from r1distill.objectives.templates import fixed_template
from r1distill.objectives.trainer import Trainer, dataset
from r1distill.objectives.watch import Watch, last_checkpoint
from r1distill.recipe_sections import TrainSection
from r1distill.show import Show

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
    section: TrainSection
    folder: Path
    """train/<id>"""

    @property
    def result(self) -> Path:
        """Where the trained student goes: the adapter, or all weights."""
        return self.folder / ("model" if self.section.method == "full" else "adapter")


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
    """Nats per labelled token over val.jsonl: the last one, or the lowest with train.keep = "best"."""
    labelled_tokens: int
    """Trained on, over all epochs."""
    tokens_per_s: float
    """Labelled tokens per second."""
    elapsed_s: float
    processes: int = 1
    """That trained together, as torch counts them."""


def train_sft(job: Job, show: Show) -> Outcome:
    """Fine-tune; resumes from the last checkpoint in the folder, and leaves its checkpoints there.

    Raises RecipeError (settings refused), InputError (student can't be loaded), StorageError, and
    KeyboardInterrupt after a checkpoint was saved.
    """
    _set_threads()
    with _translated(job.folder):
        watch = Watch(
            job.folder / "metrics.jsonl",
            show,
            writes=settings.main_process(),
            processes=settings.processes(),
        )
        trainer = make_trainer(job, watch)
        found = last_checkpoint(job.folder / "checkpoints")
        if found:
            watch.resume_at(*found)
            trainer.add_callback(Resumption(trainer, found[0]))
            show.note(f"Continuing from the checkpoint at step {found[1]}.")
        steps = _steps(trainer)
        with watch.at_work(steps):
            trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
        if watch.interrupted and trainer.state.global_step < steps:
            raise KeyboardInterrupt
        if settings.main_process():
            _save(job, trainer)
        trainer.accelerator.wait_for_everyone()
    return _outcome(trainer, watch)


def make_trainer(job: Job, watch: Watch) -> Trainer:
    """The trainer of a job, its student loaded. Raises RecipeError (settings refused), InputError (student can't be loaded)."""
    section = job.section
    settings.check_validation(section, len(job.validation))
    args = settings.sft_config(section, job.folder / "checkpoints", validate=bool(job.validation))
    # Without packing trl has nothing to prepare: it takes the rows as they are.
    args.dataset_kwargs = None if args.packing else {"skip_prepare_dataset": True}
    lora = None if section.method == "full" else settings.lora_config(section.lora)
    model = load_model(job.student, section.method)
    stop_at(model, job.end_id)
    job.tokenizer.eos_token = job.tokenizer.convert_ids_to_tokens(job.end_id)
    if args.packing or args.padding_free:
        packing.prove(model, job.rows, job.tokenizer.pad_token_id or job.end_id)
    try:
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=dataset(job.rows),
            eval_dataset=dataset(job.validation) if job.validation else None,
            processing_class=job.tokenizer,
            peft_config=lora,
            watch=watch,
            micro_rows=settings.micro_rows(section),
            patience=section.patience,
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"train.lora or train.sft is refused for this student: {error}") from None
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise RecipeError(
            "r1distill trains with the whole student on each GPU (accelerate's MULTI_GPU), not sharded: for FSDP or "
            "DeepSpeed write the rows with r1distill train --emit DIR, and run trl sft there."
        )
    if lora is not None:
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
    """Write the trained student's folder so that it is there complete or not at all.

    The checkpoints stay: who calls drops them, when all that belongs to the training is written.
    """
    target = job.result
    part = job.folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(part, **({} if job.section.method == "full" else {"save_embedding_layers": False}))
    job.tokenizer.chat_template = fixed_template(job.tokenizer).text
    job.tokenizer.save_pretrained(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _outcome(trainer: Trainer, watch: Watch) -> Outcome:
    trainable, parameters = _counts(trainer.model)
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
        validation_loss=_kept(validations, trainer.args.load_best_model_at_end),
        labelled_tokens=watch.labelled_tokens,
        tokens_per_s=round(watch.labelled_tokens / max(elapsed_s, 1e-9), 1),
        elapsed_s=elapsed_s,
        processes=trainer.args.world_size,
    )


def _counts(model: Any) -> tuple[int, int]:
    """Trained parameters, and all of them; peft knows how to count weights of 4 bits."""
    if isinstance(model, PeftModel):
        trainable, parameters = model.get_nb_trainable_parameters()
        return int(trainable), int(parameters)
    count = sum(p.numel() for p in model.parameters())
    return count, count


def _kept(validations: list[float], best: bool) -> float | None:
    if not validations:
        return None
    return min(validations) if best else validations[-1]


def _set_threads() -> None:
    """One compute thread per core that this process may use, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        beside = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // beside))


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
        if refused_write(error):
            raise StorageError(
                f"{folder} can't be written: there is no space left, or a quota or size limit is reached; free some space and "
                "run the same command again, it continues from the last checkpoint."
            ) from None
        if isinstance(error, MemoryError) or any(sign in text for sign in FULL_MEMORY):
            raise R1DistillError(
                "There is not enough memory for this training: lower train.sft.per_device_train_batch_size (and raise "
                "gradient_accumulation_steps by as much), lower train.sft.max_length, set train.sft.gradient_checkpointing = "
                "true, or take a smaller student; the same command goes on from the last checkpoint."
            ) from None
        raise
