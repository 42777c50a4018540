"""PEFT LoRA folder -> GGUF LoRA file: llama.cpp then serves base and student from one set of weights.

In: a folder with adapter_config.json and adapter_model.safetensors, and the GGUF file of the base model.
Out: one GGUF file of type "adapter": float32 `<tensor>.lora_a` (rank, in) and `<tensor>.lora_b` (out, rank).
Layout and metadata keys: llama.cpp's convert_lora_to_gguf.py and src/llama-adapter.cpp
(https://github.com/ggml-org/llama.cpp); llama.cpp scales B·A by adapter.lora.alpha / rank.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1distill.weights import open_gguf

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""transformers' module in a layer -> llama.cpp's tensor in a block; the same for all of ARCHITECTURES."""

ARCHITECTURES = ("llama", "qwen2", "qwen3")
PERMUTED = {"llama": {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}}
"""Architecture -> tensor whose rows llama.cpp reorders for its rotary layout -> key of its head count."""

_LORA_KEY = re.compile(r"^(?P<module>.+\.layers\.\d+\.(?P<part>.+))\.lora_(?P<side>[AB])\.weight$")


def write_gguf_adapter(adapter_dir: Path, base_gguf: Path, out: Path) -> Path:
    """Return `out`, the adapter of `adapter_dir` written for the model in `base_gguf`.

    Raises ValueError when llama.cpp could not represent the adapter (another architecture, DoRA, trained
    biases, embeddings or saved modules) or it was not trained on this base (a matrix of another shape).
    """
    base = _Base(base_gguf)
    config = json.loads((adapter_dir / "adapter_config.json").read_text(encoding="utf-8"))
    _refuse_unsupported(config, base.architecture)
    pairs = _read_pairs(adapter_dir / "adapter_model.safetensors")
    tensors = dict(_convert(module, pair, config, base) for module, pair in pairs.items())
    return _write(tensors, float(config["lora_alpha"]), base.architecture, out)


class _Base:
    """The facts of a base GGUF that an adapter must agree with; the weights themselves are not read."""

    def __init__(self, path: Path) -> None:
        reader = open_gguf(path)
        self.architecture = str(_value(reader, "general.architecture"))
        self.shapes = {str(t.name): tuple(int(n) for n in t.shape) for t in reader.tensors}
        keys = PERMUTED.get(self.architecture, {})
        self.head_counts = {
            name: int(_value(reader, f"{self.architecture}.{key}")) for name, key in keys.items()
        }


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise ValueError(f"The base GGUF has no {key}.")
    return field.contents()


def _refuse_unsupported(config: Mapping[str, Any], architecture: str) -> None:
    """Raise ValueError for what a GGUF LoRA can't say: silence would serve something that was not trained."""
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"Can't write a GGUF adapter for architecture {architecture!r}: "
            f"supported are {', '.join(ARCHITECTURES)}; export the student merged instead."
        )
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"Can't write a GGUF adapter from PEFT type {kind!r}: only LORA is supported.")
    if config.get("use_dora"):
        raise ValueError(
            "Can't write a GGUF adapter from DoRA (use_dora): export the student merged instead."
        )


def _read_pairs(path: Path) -> dict[str, dict[str, Matrix]]:
    """Return module name -> {"A": (rank, in), "B": (out, rank)} of a PEFT file, as float32."""
    from safetensors.torch import load_file  # torch's reader, because numpy knows no bfloat16

    pairs: dict[str, dict[str, Matrix]] = {}
    for key, tensor in load_file(path).items():
        match = _LORA_KEY.match(key)
        if match is None or match["part"] not in GGUF_NAMES:
            raise ValueError(
                f"Can't write {key} into a GGUF adapter: only LoRA on {', '.join(GGUF_NAMES)} is supported; "
                "export the student merged instead."
            )
        pairs.setdefault(match["module"], {})[match["side"]] = tensor.float().numpy()
    return pairs


def _convert(
    module: str, pair: Mapping[str, Matrix], config: Mapping[str, Any], base: _Base
) -> tuple[str, tuple[Matrix, Matrix]]:
    """Return the GGUF tensor's name and its (A, B) as llama.cpp multiplies them."""
    layer, part = module.split(".layers.", 1)[1].split(".", 1)
    short = GGUF_NAMES[part]
    name, a, b = f"blk.{layer}.{short}.weight", pair["A"], pair["B"]
    if base.shapes.get(name) != (a.shape[1], b.shape[0]):
        raise ValueError(
            f"The adapter was not trained on this base: {name} is {base.shapes.get(name, 'missing')}, "
            f"the adapter's is {(a.shape[1], b.shape[0])} (in, out)."
        )
    b = b * _scale_correction(module, a.shape[0], config)
    heads = base.head_counts.get(short)
    return name, (a, _permute(b, heads) if heads else b)


def _scale_correction(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return PEFT's scale of this module over llama.cpp's (the file's one alpha / rank): 1 for plain LoRA."""
    bare = module.removeprefix("base_model.model.")
    patterns = (config.get("alpha_pattern") or {}).items()
    # PEFT matches a pattern against the end of the module's name (peft.utils.get_pattern_key).
    matching = (value for pattern, value in patterns if re.match(rf"(.*\.)?({pattern})$", bare))
    alpha = next(matching, config["lora_alpha"])
    peft_scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return float(peft_scale / (config["lora_alpha"] / rank))


def _permute(b: Matrix, heads: int) -> Matrix:
    """Return B (out, rank) with its rows in llama.cpp's rotary order: per head (2, half) -> (half, 2).

    Source: LlamaModel.permute in llama.cpp's conversion scripts, which did the same to the base's rows.
    """
    half = b.shape[0] // heads // 2
    return b.reshape(heads, 2, half, b.shape[1]).swapaxes(1, 2).reshape(b.shape)


def _write(tensors: Mapping[str, tuple[Matrix, Matrix]], alpha: float, architecture: str, out: Path) -> Path:
    from gguf import GGUFWriter

    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(out.name + ".part")
    writer = GGUFWriter(unfinished, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, matrix in _named(tensors):
        writer.add_tensor(name, matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # llama.cpp maps the file it serves: never write into one that exists.
    return unfinished.replace(out)


def _named(tensors: Mapping[str, tuple[Matrix, Matrix]]) -> Iterator[tuple[str, Matrix]]:
    import numpy as np

    for name, (a, b) in tensors.items():
        yield f"{name}.lora_a", np.ascontiguousarray(a, dtype=np.float32)
        yield f"{name}.lora_b", np.ascontiguousarray(b, dtype=np.float32)
