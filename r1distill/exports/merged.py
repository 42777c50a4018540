"""What a training left -> a folder that transformers, vLLM and others load; and, from it, one GGUF file.

In: an adapter with the folder of its base, or, after full fine-tuning, a folder with all weights. Out: weights, tokenizer,
chat template and a generation config that stops where the student learned to end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from r1distill.exports.gguf_model import Quant, prepare, write_gguf
from r1distill.exports.template import shipped_tokenizer
from r1distill.ledger import storage_errors
from r1distill.objectives.merge import merge


def write_merged(base: Path, trained: Path, out: Path) -> Path:
    """Return `out`, made anew. Raises InputError (adapter of another base), StorageError."""
    with storage_errors(out):
        if is_adapter(trained):
            merge(base, trained, out)
        else:
            shutil.copytree(trained, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))
        shipped_tokenizer(trained).save_pretrained(out)
    return out


def write_merged_gguf(base: Path, trained: Path, out: Path, quant: Quant, name: str) -> Path:
    """Return `out`, the student as one GGUF file; `name` is for people.

    Merged weights lie beside it meanwhile, as float32. Raises InputError (what GGUF can't say), StorageError.
    """
    scratch = out.with_name(f".{out.name}.merged")
    tokenizer = shipped_tokenizer(trained)
    # Merging takes long, so what GGUF can't hold is found before: base and student have the same shapes.
    prepare(base if is_adapter(trained) else trained, tokenizer, str(tokenizer.chat_template), quant)
    with storage_errors(out):
        try:
            weights = merge(base, trained, scratch) if is_adapter(trained) else trained
            return write_gguf(weights, tokenizer, str(tokenizer.chat_template), out, quant, name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def is_adapter(trained: Path) -> bool:
    """Whether a training left an adapter, not all weights."""
    return (trained / "adapter_config.json").is_file()
