"""Roughly how much memory and time a training takes, before it starts.

In: the student's folder and the settings. Out: a Footprint. Parameters are counted exactly, on a model without storage
(torch's "meta" device); the rest is arithmetic: weights, gradients and Adam's two moments, activations per token and layer
(after Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, for a gated MLP and attention that keeps no matrix), the
logits of one chunk. Time is floating point operations (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361: 2 per parameter
and token forward, the same again for each kind of gradient) over the speed of a matrix product timed here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from r1distill.errors import InputError
from r1distill.objectives.batches import SimilarLengths
from r1distill.objectives.loss import CHUNK_POSITIONS
from r1distill.weights import tensor_shapes

PROCESS_BYTES = 1_200_000_000
"""The Python process with its libraries and their buffers, without weights and activations (torch 2.13, Linux)."""
KEPT_TWICE = 1.2
"""Activations measured over activations counted (SmolLM2-135M, float32): what is held a little longer than needed."""
EFFICIENCY = 0.65
"""Share of a plain matrix product's speed that a training step reaches (the same model, one thread: 0.6 to 0.8)."""
TIMING_S = 0.2


class Footprint(msgspec.Struct, frozen=True):
    """Estimates; bytes of the process (CPU) or of one GPU."""

    parameters: int
    trainable_parameters: int
    weights_bytes: int
    state_bytes: int
    """Gradients and optimizer state of what is trained."""
    activation_bytes: int
    """Of the widest micro-batch."""
    total_bytes: int
    available_bytes: int
    padded_tokens: int
    """Computed on in one epoch, padding included."""
    epoch_s: float
    total_s: float


class Plan(NamedTuple):
    """What an estimate is made for."""

    folder: Path
    """Of the student."""
    lora: Any
    """peft.LoraConfig, or None for full fine-tuning."""
    weight_bytes: float
    """Of one parameter of the base: 4, 2, or 0.55 (4 bits and their scales)."""
    args: Any
    """trl.SFTConfig."""


def footprint(plan: Plan, lengths_tokens: Sequence[int]) -> Footprint:
    """Estimate. Raises InputError when transformers does not know the student's architecture."""
    model, trainable, total = _counted(plan)
    padded, widest = _padding(lengths_tokens, plan.args)
    weights = round(total * plan.weight_bytes)
    state = trainable * (12 if plan.lora is not None or plan.weight_bytes == 4 else 8)
    activations = widest * _bytes_per_token(model.config.get_text_config(), plan.args.gradient_checkpointing)
    cpu = not torch.cuda.is_available()
    logits = 3 * 4 * CHUNK_POSITIONS * model.config.get_text_config().vocab_size
    all_bytes = weights + state + activations + logits + (PROCESS_BYTES if cpu else 0)
    passes = (3 if plan.lora is None else 2) + bool(plan.args.gradient_checkpointing)
    epoch_s = padded * 2.0 * total * passes / (_speed(plan.weight_bytes) * EFFICIENCY)
    epochs = float(plan.args.num_train_epochs)
    return Footprint(
        parameters=total, trainable_parameters=trainable, weights_bytes=weights, state_bytes=state,
        activation_bytes=activations, total_bytes=all_bytes, available_bytes=_available(), padded_tokens=padded,
        epoch_s=round(epoch_s, 1), total_s=round(epoch_s * epochs, 1),
    )  # fmt: skip


def _counted(plan: Plan) -> tuple[Any, int, int]:
    """The model without storage, its trained parameters, and all of them."""
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(plan.folder, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
            base = sum(p.numel() for p in model.parameters())
            _check_weights(plan.folder, model)
            if plan.lora is None:
                return model, base, base
            trained = get_peft_model(model, plan.lora)
        count = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"The student in {plan.folder} can't be trained so: {str(error).splitlines()[0]}"
        ) from None
    return model, count, base + count


def _check_weights(folder: Path, model: Any) -> None:
    """Raises InputError when the weights on disk are damaged or of other shapes than the configuration says."""
    try:
        there = tensor_shapes(folder)
    except InputError as error:
        raise InputError(f"The student in {folder} can't be loaded: {error}") from None
    if getattr(model.config, "quantization_config", None) is not None:
        return  # packed: other shapes than the model computes with
    for name, values in model.state_dict().items():
        shape = tuple(values.shape)
        if sorted(there.get(name, shape)) != sorted(shape):  # transformers may turn some while loading
            raise InputError(
                f"The student in {folder} can't be loaded: by its config.json {name} is {shape}, its weights hold "
                f"{there[name]}; take both from the same place."
            )


def _padding(lengths_tokens: Sequence[int], args: Any) -> tuple[int, int]:
    """Tokens computed on in an epoch with the padding of our row order, and those of the widest micro-batch."""
    size, lengths = args.per_device_train_batch_size, list(lengths_tokens)
    if args.packing or args.padding_free:
        return sum(lengths), min(sum(lengths), size * (args.max_length or max(lengths)))
    order = list(SimilarLengths(lengths, size, args.seed))
    batches = [[lengths[row] for row in order[i : i + size]] for i in range(0, len(order), size)]
    padded = [max(batch) * len(batch) for batch in batches]
    return sum(padded), max(padded)


def _bytes_per_token(config: Any, checkpointing: bool) -> int:
    hidden, layers = config.hidden_size, config.num_hidden_layers
    heads = getattr(config, "num_attention_heads", 1)
    key_value = hidden * getattr(config, "num_key_value_heads", heads) // max(heads, 1)
    inner = getattr(config, "intermediate_size", 4 * hidden)
    value_bytes = 2 if torch.cuda.is_available() else 4
    one_layer = 8 * hidden + 2 * key_value + 4 * inner
    kept = layers * hidden + one_layer if checkpointing else layers * one_layer
    return int(kept * value_bytes * KEPT_TWICE)


def _available() -> int:
    """Bytes of free memory: of the GPU, else of the machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def _speed(weight_bytes: float) -> float:
    """Floating point operations per second of a matrix product like a training's, timed for a moment."""
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    size = 4096 if gpu else 768
    left = torch.randn(size, size, dtype=dtype, device="cuda" if gpu else "cpu")
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < TIMING_S:
        left @ left
        if gpu:
            torch.cuda.synchronize()
        done += 1
    return 2.0 * size**3 * done / (time.perf_counter() - started)
