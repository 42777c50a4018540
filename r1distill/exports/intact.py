"""Whether an export's folder still holds what export.json says: names and sizes, which is what a broken copy changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = (".gguf", ".safetensors")


def damage(folder: Path, files: Mapping[str, Any], weights_only: bool = False) -> str | None:
    """What is wrong with the first file that is, as the end of a sentence; None when all are there in their sizes.

    With `weights_only` the sizes of others may differ: people edit templates and configurations.
    """
    for name, size in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        found = path.stat().st_size
        if found != size and (path.suffix in WEIGHTS or not weights_only):
            return f"{path} has {found:,} bytes instead of {size:,}"
    return None
