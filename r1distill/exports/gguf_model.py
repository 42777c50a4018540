"""A folder of transformers weights -> one GGUF model file, at f16, q8_0 or q4_0, for Llama, Qwen2 and Qwen3.

In: a merged folder (config.json, safetensors, tokenizer). Out: one file that llama.cpp loads. Matrices are quantised by the
gguf package, one at a time; what has one dimension stays float32. In four bits the embeddings and the output matrix are
q8_0, since they suffer most (llama.cpp keeps them finer, too). q4_1 is not offered: an adapter's change is smaller than its
step, so that a base that lies on that grid (as the embedded one) would come out almost untrained. Keys: the GGUF specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from r1distill.errors import InputError
from r1distill.exports.gguf_shape import (
    add_shape,
    check_shape,
    frequency_factors,
    head_dim,
    in_rotary_order,
    rope,
)
from r1distill.exports.gguf_vocab import Vocabulary, add_vocabulary, vocabulary
from r1distill.weights import tensor_shapes, weight_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Quant = Literal["f16", "q8_0", "q4_0"]
ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
"""transformers' class -> llama.cpp's architecture."""
FILE_TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}
"""gguf.LlamaFileType of each quantisation."""
BLOCK = 32
"""So many numbers of a row are quantised together."""
BITS = {"F32": 32.0, "F16": 16.0, "Q8_0": 8.5, "Q4_0": 4.5}
"""Bits per number, the scale of a block included."""
FINER = ("token_embd.weight", "output.weight")


class _Tensor(NamedTuple):
    name: str
    """As llama.cpp calls it."""
    source: str
    shape: tuple[int, ...]
    """(out, in) of a matrix."""
    kind: str
    """A key of BITS."""


class Prepared(NamedTuple):
    """What a GGUF file of a student will say; nothing is read of the weights but their names and shapes."""

    config: Any
    architecture: str
    tensors: list[_Tensor]
    words: Vocabulary
    rows: int
    """Of the embeddings."""


def prepare(folder: Path, tokenizer: Any, chat_template: str, quant: Quant) -> Prepared:
    """Find out whether GGUF can hold the model in `folder`, or one of the same shapes.

    Raises InputError when it can't: another architecture, tokenizer or rotary scaling, or rows that do not part into
    blocks of 32.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    architecture = architecture_of(config)
    check_shape(config)
    tensors = list(_plan(tensor_shapes(folder), config, architecture, quant))
    rows = next(tensor.shape[0] for tensor in tensors if tensor.name == "token_embd.weight")
    return Prepared(config, architecture, tensors, vocabulary(tokenizer, chat_template, rows), rows)


def write_gguf(folder: Path, tokenizer: Any, chat_template: str, out: Path, quant: Quant, name: str) -> Path:
    """Return `out`, the model in `folder` as one GGUF file; the same input gives the same bytes. Raises as `prepare` does."""
    import gguf

    made = prepare(folder, tokenizer, chat_template, quant)
    writer = gguf.GGUFWriter(out, made.architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[quant]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_shape(writer, made.config, made.rows)
    add_vocabulary(writer, made.words)
    try:
        _write_tensors(writer, folder, made)
    finally:
        writer.close()
    return out


def architecture_of(config: Any) -> str:
    """llama.cpp's name of the architecture. Raises InputError."""
    name = (config.architectures or ["an unknown class"])[0]
    if name not in ARCHITECTURES:
        raise InputError(
            f"Can't write {name} as GGUF: supported are {', '.join(ARCHITECTURES)}; export it with --format merged, and "
            "convert that with llama.cpp's own script."
        )
    return ARCHITECTURES[name]


def size_of(shapes: Mapping[str, tuple[int, ...]], quant: Quant) -> int:
    """Bytes of the weights of a file, estimated by the shapes of its tensors, named as llama.cpp or transformers does."""
    fine = {name for name in shapes if name in FINER or "embed_tokens" in name or "lm_head" in name}
    kinds = ((shape, _kind(shape, name in fine, quant)) for name, shape in shapes.items())
    return int(sum(math.prod(shape) * BITS[kind] / 8 for shape, kind in kinds))


def _kind(shape: tuple[int, ...], fine: bool, quant: Quant) -> str:
    if len(shape) == 1:
        return "F32"
    return "Q8_0" if fine and quant == "q4_0" else quant.upper()


def _plan(
    shapes: Mapping[str, tuple[int, ...]], config: Any, architecture: str, quant: Quant
) -> Iterator[_Tensor]:
    import gguf

    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for source, shape in shapes.items():
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise InputError(
                f"Can't write this student as GGUF: llama.cpp's {architecture} has no place for {source}."
            )
        if config.tie_word_embeddings and name == "output.weight":
            continue
        kind = _kind(shape, name in FINER, quant)
        if kind[0] == "Q" and shape[-1] % BLOCK:
            raise InputError(
                f"Can't quantise this student to {quant}: rows of {source} have {shape[-1]} numbers, no multiple of {BLOCK}; "
                "take --quant f16."
            )
        yield _Tensor(name, source, shape, kind)
    if rope(config)[0] == "llama3":
        yield _Tensor("rope_freqs.weight", "", (head_dim(config) // 2,), "F32")


def _write_tensors(writer: Any, folder: Path, made: Prepared) -> None:
    import gguf
    import numpy as np

    numpy_types = {"F32": np.float32, "F16": np.float16}
    for tensor in made.tensors:
        kind = gguf.GGMLQuantizationType[tensor.kind]
        dtype = np.dtype(numpy_types.get(tensor.kind, np.uint8))
        quantised = dtype == np.uint8
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, kind) if quantised else tensor.shape
        size = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(tensor.name, shape, dtype, size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with _Weights(folder) as weights:
        for tensor in made.tensors:
            values = weights.read(tensor.source) if tensor.source else frequency_factors(made.config)
            values = (
                in_rotary_order(values, tensor.name, made.config) if made.architecture == "llama" else values
            )
            quantised = gguf.quants.quantize(values, gguf.GGMLQuantizationType[tensor.kind])
            writer.write_tensor_data(np.ascontiguousarray(quantised))


class _Weights:
    """The tensors of a folder of safetensors, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self._files, self._stack = (
            [f for f in weight_files(folder) if f.suffix == ".safetensors"],
            ExitStack(),
        )
        self._where: dict[str, Any] = {}

    def __enter__(self) -> _Weights:
        from safetensors import safe_open

        for file in self._files:
            opened = self._stack.enter_context(safe_open(file, framework="pt"))  # numpy knows no bfloat16
            self._where |= dict.fromkeys(opened.keys(), opened)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32."""
        values: NDArray[np.float32] = self._where[name].get_tensor(name).float().numpy()
        return values
