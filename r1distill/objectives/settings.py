"""`train.lora` and `train.sft` of a recipe -> peft.LoraConfig and trl.SFTConfig, over our defaults.

Unknown keys are recipe errors that suggest the right one; keys that decide what is trained on stay ours, because
the rendering rule (render.py) has decided it before TRL sees a row.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

from r1distill.errors import RecipeError

DEFAULT_MAX_LENGTH_TOKENS = 4096
OURS = frozenset(
    {
        "output_dir",
        "seed",
        "eos_token",
        "pad_token",
        "chat_template_path",
        "dataset_text_field",
        "dataset_kwargs",
    }
    | {
        "dataset_num_proc",
        "completion_only_loss",
        "assistant_only_loss",
        "truncation_mode",
        "do_train",
        "do_eval",
    }
    | {"do_predict", "resume_from_checkpoint", "push_to_hub", "hub_model_id", "disable_tqdm"}
)
"""SFTConfig keys that r1distill sets itself (the seed is train.seed)."""
DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-4,
    "num_train_epochs": 3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,  # below 1 it is a share of all steps
    "per_device_eval_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",  # progress.Watch saves by the clock
    "save_total_limit": 2,
    "report_to": "none",
}
CPU_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
}
"""Without a GPU: SFTConfig() raises there (bf16 is its default), and checkpointing costs a fifth of the time. Eight
rows per step as two times four: a third less memory than eight at once, and no slower."""
GPU_DEFAULTS: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
"""The same eight rows per step, two at a time."""


def check(lora: dict[str, Any], sft: dict[str, Any]) -> None:
    """Refuse wrong settings before anything is loaded. Raises RecipeError naming the key."""
    lora_config(lora)
    max_length(sft)
    sft_config(sft, 0, Path(), validate=False)


def lora_config(settings: dict[str, Any]) -> Any:
    """peft.LoraConfig of `train.lora`. Raises RecipeError naming the key."""
    from peft import LoraConfig

    _check_keys("train.lora", settings, LoraConfig, frozenset({"task_type", "inference_mode"}))
    try:
        return LoraConfig(**settings, task_type="CAUSAL_LM")
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train.lora is refused by peft: {error}.") from None


def sft_config(settings: dict[str, Any], seed: int, output: Path, validate: bool) -> Any:
    """trl.SFTConfig of `train.sft` over our defaults. Raises RecipeError naming the key."""
    import torch
    from trl import SFTConfig

    _check_keys("train.sft", settings, SFTConfig, OURS)
    if settings.get("packing") and settings.get("packing_strategy", "bfd") != "bfd":
        raise RecipeError(
            "train.sft.packing_strategy must be 'bfd': the others cut traces or let them see each other."
        )
    merged = {**DEFAULTS, **(GPU_DEFAULTS if torch.cuda.is_available() else CPU_DEFAULTS)}
    if "per_device_train_batch_size" in settings:  # the user's rows per step, not some multiple of them
        del merged["gradient_accumulation_steps"]
    merged |= {"eval_strategy": "epoch"} if validate else {}
    merged |= {"prediction_loss_only": True, **settings}
    if not validate:
        merged["eval_strategy"] = "no"
    # Over-long rows are dropped before TRL sees them; only packing needs to know the length.
    merged["max_length"] = max_length(settings) if settings.get("packing") else None
    try:
        return SFTConfig(**merged, output_dir=str(output), seed=seed, disable_tqdm=True)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train.sft is refused by trl: {error}") from None


def max_length(settings: dict[str, Any]) -> int:
    """`train.sft.max_length` in tokens. Raises RecipeError when it is no positive number."""
    value = settings.get("max_length", DEFAULT_MAX_LENGTH_TOKENS)
    if not isinstance(value, int) or value < 1:
        raise RecipeError(f"train.sft.max_length must be a positive number of tokens, not {value!r}.")
    return value


def _check_keys(where: str, settings: dict[str, Any], config: type, ours: frozenset[str]) -> None:
    known = [field.name for field in dataclasses.fields(config) if field.init]
    for key in settings:
        if key in ours:
            raise RecipeError(f"{where}: the key '{key}' is set by r1distill itself; remove it.")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{where}.{near[0]}'?" if near else ""
            raise RecipeError(f"{where}: {config.__name__} has no key '{key}'{hint}")
