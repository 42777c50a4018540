"""The adapter alone: the PEFT folder, and the same for llama.cpp (adapter.gguf), to be laid over the base.

In: the adapter of a training and its base. Out: a folder for `PeftModel.from_pretrained(base, folder)`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from r1distill.exports.gguf_model import write_gguf
from r1distill.exports.template import shipped_tokenizer
from r1distill.ledger import storage_errors
from r1distill.objectives.adapter_gguf import write_gguf_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write_adapter(adapter: Path, out: Path, base: str) -> Path:
    """Return `out` with the PEFT files, the tokenizer and the template to serve with. Raises StorageError.

    `base` is what the configuration calls the base; the training may have noted a path of this machine.
    """
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
        shutil.copyfile(adapter / WEIGHTS, out / WEIGHTS)
        shipped_tokenizer(adapter).save_pretrained(out)
    return out


def write_adapter_gguf(adapter: Path, base: Path, gguf: Path | None, out: Path) -> Path:
    """Return `out`, the adapter for llama.cpp; `gguf` is the base as a GGUF file, if it is one.

    Another base is written as GGUF for the moment: its names and shapes decide. Raises ValueError or InputError when
    llama.cpp can't hold the adapter or the base.
    """
    if gguf is not None:
        return write_gguf_adapter(adapter, gguf, out)
    scratch = out.with_name(f".{out.name}.base")
    tokenizer = shipped_tokenizer(adapter)
    try:
        write_gguf(base, tokenizer, str(tokenizer.chat_template), scratch, "f16", base.name)
        return write_gguf_adapter(adapter, scratch, out)
    finally:
        scratch.unlink(missing_ok=True)
