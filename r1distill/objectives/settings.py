"""`[train]` of a recipe -> peft.LoraConfig and trl.SFTConfig, over our defaults.

Unknown keys are recipe errors that suggest the right one; keys that decide what is trained on stay ours, because
the rendering rule (render.py) has decided it before TRL sees a row.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from r1distill.errors import MissingPackageError, RecipeError
from r1distill.objectives.setting_values import check_numbers, check_types
from r1distill.recipe_sections import TrainSection

DEFAULT_MAX_LENGTH_TOKENS = 4096
OURS = frozenset(
    {"output_dir", "seed", "eos_token", "pad_token", "chat_template_path", "dataset_text_field", "dataset_kwargs"}
    | {"dataset_num_proc", "completion_only_loss", "assistant_only_loss", "truncation_mode", "do_train", "do_eval"}
    | {"do_predict", "resume_from_checkpoint", "push_to_hub", "hub_model_id", "disable_tqdm"}
    | {"load_best_model_at_end", "metric_for_best_model", "greater_is_better"}
)  # fmt: skip
"""SFTConfig keys that r1distill sets itself (the seed is train.seed, the best weights train.keep)."""
DEFAULTS: dict[str, Any] = {
    # LoRA wants about ten times the rate of full fine-tuning (Schulman et al. 2025, "LoRA Without Regret",
    # https://thinkingmachines.ai/blog/lora/); trl's own 2e-5 hardly moves an adapter.
    "learning_rate": 2e-4,
    # Two or three epochs for DeepSeek's own students (https://arxiv.org/abs/2501.12948), five for OpenR1-Distill.
    "num_train_epochs": 3,
    # Down to a tenth, with a short warm-up, as OpenR1-Distill does
    # (https://github.com/huggingface/open-r1/blob/main/recipes/OpenR1-Distill-7B/sft/config_distill.yaml).
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": 0.05,  # below 1 it is a share of all steps
    "per_device_eval_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",  # watch.Watch saves by the clock
    "save_total_limit": 2,
    "report_to": "none",
}
FULL_DEFAULTS: dict[str, Any] = {"learning_rate": 2e-5}
"""With method = "full": between the 1e-5 of OpenThoughts and s1 and the 4e-5 of OpenR1-Distill, all at 7B and more
(https://github.com/open-thoughts/open-thoughts, https://github.com/simplescaling/s1)."""
ROWS_PER_STEP = 8
"""Default global batch, kept for any number of processes."""
CPU_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
}
"""Without a GPU: SFTConfig() raises there (bf16 is its default), and checkpointing costs a fifth of the time. Eight
rows per step as two times four: a third less memory than eight at once, and no slower."""
GPU_DEFAULTS: dict[str, Any] = {"per_device_train_batch_size": 2}
PACKED_DEFAULTS: dict[str, Any] = {"per_device_train_batch_size": 1}
"""A pack is as long as max_length, and those of one micro-batch are laid end to end."""


def check(section: TrainSection) -> None:
    """Refuse wrong settings before anything is loaded. Raises RecipeError naming the key, MissingPackageError."""
    if section.method == "qlora":
        require_bitsandbytes()
    if section.method == "full" and section.lora != TrainSection.model_fields["lora"].default:
        raise RecipeError('train.lora has no effect with train.method = "full": remove one of the two.')
    lora_config(section.lora)
    sft_config(section, Path(), validate=section.keep == "best" or section.patience is not None)


def check_values(section: TrainSection) -> None:
    """The part of `check` that needs no package: numbers out of their range. Raises RecipeError naming the key."""
    check_numbers("train.lora", section.lora)
    check_numbers("train.sft", section.sft)


def check_validation(section: TrainSection, rows: int) -> None:
    """Raises RecipeError when the best weights are wanted and there are no rows to judge them by."""
    if (section.keep == "best" or section.patience) and not rows:
        raise RecipeError(
            'train.keep = "best" and train.patience need validation rows, and val.jsonl has none: raise '
            "filter.select.val_fraction, or remove them."
        )


def lora_config(settings: dict[str, Any]) -> Any:
    """peft.LoraConfig of `train.lora`. Raises RecipeError naming the key."""
    from peft import LoraConfig

    _check_keys("train.lora", settings, LoraConfig, frozenset({"task_type", "inference_mode"}))
    check_numbers("train.lora", settings)
    try:
        return LoraConfig(**settings, task_type="CAUSAL_LM")
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train.lora is refused by peft: {error}.") from None


def sft_config(section: TrainSection, output: Path, validate: bool) -> Any:
    """trl.SFTConfig of `train.sft` over our defaults. Raises RecipeError naming the key."""
    import torch
    from trl import SFTConfig

    settings = section.sft
    _check_keys("train.sft", settings, SFTConfig, OURS)
    check_numbers("train.sft", settings)
    check_types("train.sft", settings, SFTConfig)
    if settings.get("packing") and settings.get("packing_strategy", "bfd") != "bfd":
        raise RecipeError(
            "train.sft.packing_strategy must be 'bfd': the others cut traces or let them see each other."
        )
    merged = {**defaults(section), **(GPU_DEFAULTS if torch.cuda.is_available() else CPU_DEFAULTS)}
    merged |= {"eval_strategy": "epoch"} if validate else {}
    merged |= {"prediction_loss_only": True, **settings}
    merged |= batch(section, processes())
    merged |= _best(section, merged) if validate else {"eval_strategy": "no"}
    # Over-long rows are dropped before TRL sees them; only packing needs to know the length.
    merged["max_length"] = max_length(settings) if settings.get("packing") else None
    try:
        with (
            warnings.catch_warnings()
        ):  # the libraries' words about each other's old names are nothing to users
            warnings.simplefilter("ignore", FutureWarning)
            return SFTConfig(**merged, output_dir=str(output), seed=section.seed, disable_tqdm=True)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train.sft is refused by trl: {error}") from None


def defaults(section: TrainSection) -> dict[str, Any]:
    """Our settings where the recipe says nothing, without those that belong to the machine."""
    ours = {**DEFAULTS, **(FULL_DEFAULTS if section.method == "full" else {})}
    if "lr_scheduler_type" in section.sft:
        del ours["lr_scheduler_kwargs"]
    return ours


def resolved(section: TrainSection, validate: bool) -> dict[str, Any]:
    """What a training of `section` goes by once defaults are filled in, in the order in which a card tells it."""
    args, lora = sft_config(section, Path(), validate), section.method != "full"
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes()
    adapter = {f"lora.{key}": value for key, value in _adapter(section).items()} if lora else {}
    return {
        "method": section.method,
        **adapter,
        **{key: getattr(args, key) for key in ("learning_rate", "num_train_epochs", "max_steps")},
        "lr_scheduler_type": getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type),
        **{key: getattr(args, key) for key in ("lr_scheduler_kwargs", "warmup_steps")},
        "rows per step": rows,
        "max_length": max_length(section.sft),
        "overlong": section.overlong,
        **{key: getattr(args, key) for key in ("packing", "weight_decay", "max_grad_norm", "bf16")},
        "optim": getattr(args.optim, "value", args.optim),
        "keep": section.keep,
        "patience": section.patience,
        "seed": section.seed,
        **{key: value for key, value in section.sft.items() if not hasattr(args, key)},
    }


def _adapter(section: TrainSection) -> dict[str, Any]:
    config = lora_config(section.lora)
    named = ("r", "lora_alpha", "lora_dropout", "target_modules", *section.lora)
    values = {key: getattr(config, key) for key in named}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}


def processes() -> int:
    """How many processes train together, by what `accelerate launch` and torchrun set."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def alone_under_accelerate() -> bool:
    """Whether `accelerate launch` started this process and no other: it does so without GPUs, whatever --num_processes says."""
    import torch

    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "WORLD_SIZE" not in os.environ
    return launched and not torch.cuda.is_available()


def main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK") or 0) == 0


def max_length(settings: dict[str, Any]) -> int:
    """`train.sft.max_length` in tokens; `check` has seen that it is a positive number."""
    return int(settings.get("max_length", DEFAULT_MAX_LENGTH_TOKENS))


def bytes_per_weight(method: str) -> float:
    """Of a parameter of the loaded base: 4-bit NF4 with its scales; bfloat16 under an adapter on a GPU that has it; else
    float32, since small updates vanish in bfloat16 weights.
    """
    import torch

    if method == "qlora":
        return 0.55
    if method == "full":
        return 4
    return 2 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else 4


def require_bitsandbytes() -> None:
    """Raises MissingPackageError, one sentence, when 4-bit weights can't be loaded here."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackageError(
            'train.method = "qlora" needs bitsandbytes, not installed here; get it with: pip install bitsandbytes '
            '(or train with method = "lora", which needs more memory but nothing else).'
        )


def micro_rows(section: TrainSection) -> int:
    """Rows computed at the same time when one process trains alone."""
    import torch

    packed = PACKED_DEFAULTS if section.sft.get("packing") else {}
    default = {**(GPU_DEFAULTS if torch.cuda.is_available() else CPU_DEFAULTS), **packed}
    return int({**default, **section.sft}["per_device_train_batch_size"])


def batch(section: TrainSection, count: int) -> dict[str, int]:
    """Rows per micro-batch and micro-batches per step of each of `count` processes; all rows per step are the same for any.

    The recipe's figures are those of one process. Raises RecipeError when its rows per step can't be dealt evenly.
    """
    micro = micro_rows(section)
    own = {"per_device_train_batch_size", "gradient_accumulation_steps"} & section.sft.keys()
    # Without a word on accumulation, the user's rows per step are those of one micro-batch.
    default = 1 if own else max(1, ROWS_PER_STEP // micro)
    rows = micro * int(section.sft.get("gradient_accumulation_steps", default))
    dealt = deal(rows, micro, count)
    if dealt is None:
        raise RecipeError(
            f"A step of {rows:,} rows can't be dealt evenly to {count:,} processes: set "
            "train.sft.per_device_train_batch_size and gradient_accumulation_steps (as for one process) so that their "
            f"product is a multiple of {count:,}."
        )
    return dict(zip(("per_device_train_batch_size", "gradient_accumulation_steps"), dealt, strict=True))


def deal(rows: int, micro: int, count: int) -> tuple[int, int] | None:
    """Rows per micro-batch (at most `micro`) and micro-batches of each of `count` processes; None if it leaves a rest."""
    each, rest = divmod(rows, count)
    if rest:
        return None
    size = next(size for size in range(min(micro, each), 0, -1) if each % size == 0)
    return size, each // size


def _best(section: TrainSection, merged: dict[str, Any]) -> dict[str, Any]:
    """What keeps the checkpoint with the lowest validation loss. Raises RecipeError for saving at other times."""
    if section.keep == "last" and section.patience is None:
        return {}
    when = merged["eval_strategy"]
    if when == "no":
        raise RecipeError(
            'train.keep = "best" and train.patience need validations: remove train.sft.eval_strategy.'
        )
    saves = {"save_strategy": when, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    if when == "steps":
        saves["save_steps"] = merged.get("eval_steps") or merged["logging_steps"]
    return {**saves, "greater_is_better": False}


def _check_keys(where: str, settings: dict[str, Any], config: type, ours: frozenset[str]) -> None:
    known = [field.name for field in dataclasses.fields(config) if field.init]
    for key in settings:
        if key in ours:
            raise RecipeError(f"{where}: the key '{key}' is set by r1distill itself; remove it.")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{where}.{near[0]}'?" if near else ""
            raise RecipeError(f"{where}: {config.__name__} has no key '{key}'{hint}")
