"""Who learns: `student.base` -> a folder that transformers can load, and what identifies its weights.

In: a hub name, a local folder, a GGUF file or "embedded". Out: a Student, found without torch; `materialise` then
gives its folder. A GGUF is dequantised once into a cache: $R1DISTILL_CACHE/students/, by default
~/.cache/r1distill/students/; the folder appears complete or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from r1distill.errors import InputError, MissingPackageError
from r1distill.ledger import storage_errors
from r1distill.show import Show
from r1distill.weights import gguf_path, open_gguf, weights_digest

HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""What is fetched of a hub repository: configuration, weights and tokenizer, never pickles or code."""
INSTALL = "pip install 'r1distill[train]'"


DEQUANTISED = 2
"""Part of a cached folder's name; raised when the same GGUF becomes another folder."""


class Student(NamedTuple):
    """A student that exists."""

    base: str
    """As the recipe says it."""
    kind: Literal["hub", "folder", "gguf"]
    path: Path
    """The folder (of a hub student: its snapshot in the hub's cache), or the GGUF file."""
    digest: str
    """16 hex digits: the hub's commit, or r1distill.weights.weights_digest of the files."""


def locate(base: str, recipe_folder: Path, fetch: bool = True) -> Student | None:
    """The student behind `student.base`; a hub student is fetched if its cache lacks it.

    With fetch=False a hub student that is not in the cache comes back as None. Raises InputError (no such
    student, or the hub can't be reached), MissingPackageError (weights or hub client not installed).
    """
    if base == "embedded" or base.lower().endswith(".gguf"):
        path = gguf_path(base, recipe_folder)
        return Student(base, "gguf", path, weights_digest(path))
    folder = recipe_folder / Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"The student {folder} is no model folder: it has no config.json.")
        return Student(base, "folder", folder, weights_digest(folder))
    if not HUB_NAME.match(base):
        raise InputError(
            f"There is no student {folder}: name a hub model, a folder, a GGUF file or 'embedded'."
        )
    snapshot = _snapshot(base, fetch)
    return Student(base, "hub", snapshot, snapshot.name[:16]) if snapshot else None


def hub_snapshot(name: str) -> Path:
    """The folder of a hub model in the hub's cache, fetched if it is not there.

    Raises InputError (no such model, or the hub can't be reached), MissingPackageError.
    """
    path = _snapshot(name, fetch=True)
    assert path is not None
    return path


def cache_name(student: Student) -> str:
    """What a student's weights and tokens are known by: its digest, and for a GGUF how it was made into a folder."""
    return f"{student.digest}-{DEQUANTISED}" if student.kind == "gguf" else student.digest


def materialise(student: Student, show: Show) -> Path:
    """The student's folder for transformers; a GGUF is dequantised unless the cache holds it already.

    Raises InputError when transformers can't read the GGUF, StorageError when the cache can't be written.
    """
    if student.kind != "gguf":
        return student.path
    target = cache_folder() / "students" / cache_name(student)
    if (target / "config.json").is_file():
        return target
    show.note(f"Dequantising {student.path.name} once into {target} (about a minute).")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{student.digest}.", dir=target.parent))
        try:
            _dequantise(student.path, part)
            _publish(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def cache_folder() -> Path:
    """Where things made once are kept: $R1DISTILL_CACHE, else ~/.cache/r1distill."""
    return Path(os.environ.get("R1DISTILL_CACHE") or Path.home() / ".cache" / "r1distill").expanduser()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a student's folder. Raises InputError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"The student's tokenizer in {folder} can't be loaded: {_first_line(error)}"
        ) from None


def load_model(folder: Path, method: Literal["lora", "qlora", "full"] = "lora") -> Any:
    """The causal language model of a student's folder: float32 without a GPU, bfloat16 with one. Raises InputError.

    With "qlora" its weights are NF4 (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314), which needs bitsandbytes; with
    "full" they are float32 everywhere, since small updates vanish in bfloat16.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    half = method != "full" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    dtype = torch.bfloat16 if half else torch.float32
    how = {"quantization_config": _four_bits(dtype)} if method == "qlora" else {}
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, attn_implementation=_attention(), **how
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"The student in {folder} can't be loaded: {_first_line(error)}") from None
    except RuntimeError as error:
        if "mismatched" not in str(error):  # a full memory is told by who trains
            raise
        raise InputError(
            f"The student in {folder} can't be loaded: its config.json says other shapes than its weights have; take both "
            "from the same place."
        ) from None
    except (
        ImportError
    ) as error:  # a broken or missing package that only this student needs (4 bits, FlashAttention)
        raise MissingPackageError(f"The student in {folder} can't be loaded: {_first_line(error)}") from None


def _four_bits(compute_dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _attention() -> str | None:
    """FlashAttention where it can run (its kernels know where packed documents end); else the model's own default."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if torch.cuda.is_available() and is_flash_attn_2_available() else None


def stop_at(model: Any, end_id: int) -> None:
    """Make generation stop at the token that the student is trained to end with, besides its other stop tokens."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if end_id not in ends:
        model.generation_config.eos_token_id = [end_id, *ends]


def position_limit(folder: Path) -> int:
    """The longest sequence in tokens that the student's positions were made for; a huge number if it does not say."""
    config = read_config(folder)
    return int((config.get("text_config") or config).get("max_position_embeddings") or 1 << 30)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A configuration in a student's folder. Raises InputError when it is no JSON object."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"The student's {folder / name} is no JSON ({_first_line(error)}): get it again."
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"The student's {folder / name} is no JSON object: get it again.")
    return found


def _snapshot(name: str, fetch: bool) -> Path | None:
    try:
        import httpx
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise MissingPackageError(f"The student {name} comes from the hub, which needs: {INSTALL}") from None
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=not fetch))
    except LocalEntryNotFoundError:
        if not fetch:
            return None
        raise InputError(
            f"There is no student {name} on this machine, neither as a folder nor in the hub's cache, and the hub "
            "can't be reached; check the name, or download it where there is network."
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"There is no student {name}: no such folder here and no such model on the hub (a private or gated one "
            "needs HF_TOKEN)."
        ) from None
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise InputError(f"The student {name} can't be fetched from the hub: {_first_line(error)}") from None


def _dequantise(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    reader = open_gguf(gguf)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        _split_digits(tokenizer, reader)
        # Without dequantize=True the weights stay packed, and save_pretrained refuses them.
        config = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=config)
    except (ValueError, LookupError, NotImplementedError, ArithmeticError, struct.error) as error:
        raise InputError(f"transformers can't read the GGUF file {gguf}: {_first_line(error)}") from None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _split_digits(tokenizer: Any, reader: Any) -> None:
    """Cut texts before merging as llama.cpp does for this GGUF: transformers forgets that SmolLM takes digits one by one.

    Else "= 5" would be trained as other tokens than it is served as. Source: llama.cpp, `LLAMA_VOCAB_PRE_TYPE_SMOLLM`.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = reader.get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        parts = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(parts)


def _publish(part: Path, target: Path) -> None:
    """Move a finished folder into place; if another process was faster, its folder stays."""
    part.chmod(0o755)
    try:
        part.rename(target)
    except OSError:
        if not (target / "config.json").is_file():
            raise


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
