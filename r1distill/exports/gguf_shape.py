"""A model's shape as GGUF metadata, and its rotary positions as llama.cpp computes them.

In: a transformers configuration of a Llama, Qwen2 or Qwen3. Keys: the GGUF specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from r1distill.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


ROPE_KEYS = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
}  # fmt: skip
"""Rotary settings that have a place in a GGUF file."""
FIXED = {"hidden_act": "silu", "use_sliding_window": False, "partial_rotary_factor": 1.0}
"""What llama.cpp computes for these architectures, whatever a configuration says."""


def check_shape(config: Any) -> None:
    """Raises InputError for a configuration that llama.cpp would silently compute otherwise."""
    rope(config)
    for key, value in FIXED.items():
        if getattr(config, key, None) not in (None, value):
            raise InputError(
                f"Can't write this student as GGUF: its {key} is {getattr(config, key)}, llama.cpp computes with {value}; "
                "export it merged."
            )


def add_shape(writer: Any, config: Any, rows: int) -> None:
    """Write sizes and rotary settings into a gguf.GGUFWriter; `rows` are the embeddings'. Raises InputError."""
    heads, width = config.num_attention_heads, head_dim(config)
    writer.add_vocab_size(rows)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    kind, settings = rope(config)
    writer.add_rope_freq_base(float(settings["rope_theta"]))
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(settings["original_max_position_embeddings"]))
    if kind in ("linear", "yarn"):
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(settings["factor"]))


def rope(config: Any) -> tuple[str, dict[str, Any]]:
    """Kind and settings of the rotary positions. Raises InputError for one that has no place in a GGUF."""
    settings = dict(config.rope_parameters)
    kind = str(settings.get("rope_type", "default"))
    if kind not in ("default", "linear", "yarn", "llama3"):
        raise InputError(
            f"Can't write this student as GGUF: its rotary scaling {kind!r} is not supported; export it merged."
        )
    more = sorted(
        key for key, value in settings.items() if key not in ROPE_KEYS and value not in (None, FIXED.get(key))
    )
    if more:
        raise InputError(
            f"Can't write this student as GGUF: its rotary settings {', '.join(more)} have no place in one; export it merged."
        )
    return kind, settings


def head_dim(config: Any) -> int:
    """Numbers per head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def in_rotary_order(values: NDArray[np.float32], name: str, config: Any) -> NDArray[np.float32]:
    """Rows of Llama's q and k, per head (2, half) -> (half, 2): llama.cpp turns neighbours, transformers halves.

    Source: LlamaModel.permute in llama.cpp's conversion scripts.
    """
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(
        name.split(".")[-2]
    )
    if heads is None:
        return values
    return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def frequency_factors(config: Any) -> NDArray[np.float32]:
    """What llama.cpp divides each rotary frequency by (head_dim / 2): Llama 3.1's scaling, by transformers' own formula."""
    import numpy as np
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    dim, theta = head_dim(config), float(config.rope_parameters["rope_theta"])
    plain = theta ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
    factors: NDArray[np.float32] = (plain / scaled.double().numpy()).astype(np.float32)
    return factors
