"""Base + adapter -> one folder of weights that any server loads.

In: the base's folder and a PEFT folder. Out: a folder with the merged weights, the tokenizer and a generation
config that stops at the token the student was trained to end with; it appears complete or not at all.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from r1distill.errors import InputError
from r1distill.ledger import storage_errors
from r1distill.objectives.disk import disk_errors
from r1distill.objectives.students import load_model, load_tokenizer, stop_at
from r1distill.weights import require_whole


def merge(base: Path, adapter: Path, out: Path) -> Path:
    """Return `out`, made unless it is there already.

    Raises InputError (adapter damaged or of another base), StorageError.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if (out / "config.json").is_file():
        return out
    require_whole(adapter)
    try:
        model = PeftModel.from_pretrained(load_model(base), adapter, local_files_only=True)
        merged = model.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"The adapter {adapter} does not fit the model {base}: {str(error).splitlines()[0]}"
        ) from None
    tokenizer = load_tokenizer(adapter)
    stop_at(merged, tokenizer.eos_token_id)
    part = out.with_name(f".{out.name}.part")
    with storage_errors(out), disk_errors(out):
        shutil.rmtree(part, ignore_errors=True)
        merged.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(out)
    return out
