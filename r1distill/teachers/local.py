"""A checkpoint, a folder or a model of the hub, served by `transformers serve` in a child process on 127.0.0.1.

What it can't do (transformers 5.23): log-probabilities and n are ignored, and there is no API key, so it is bound to
the loopback address and lives only as long as it is needed.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1distill.errors import InputError, MissingPackageError
from r1distill.teachers.child import served
from r1distill.teachers.client import Endpoint

START_TIMEOUT_S = 600.0
"""Loading a large checkpoint from a cold disk takes minutes."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""What is fetched of a hub repository: configuration, weights and tokenizer, never pickles or code."""


def checkpoint(model: str, recipe_folder: Path) -> Path:
    """The folder of a checkpoint: `model` relative to the recipe's folder, else of the hub, fetched if its cache lacks it.

    Raises InputError (no such model, or the hub can't be reached), MissingPackageError.
    """
    folder = recipe_folder / Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is no model folder: it has no config.json.")
        return folder
    if folder.is_file() or not HUB_NAME.fullmatch(model):
        hint = ' (a GGUF file is asked with provider = "embedded")' if model.lower().endswith(".gguf") else ""
        raise InputError(f"There is no checkpoint folder {folder}{hint}.")
    return _from_hub(model)


def _from_hub(name: str) -> Path:
    try:
        import httpx
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingPackageError(
            f"The model {name} comes from the hub: pip install 'r1distill[train]'."
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (OSError, ValueError, httpx.HTTPError):
        raise InputError(
            f"There is no checkpoint {name}: no such folder, and the hub does not give it; check the name and the network "
            "(a private or gated model needs HF_TOKEN)."
        ) from None


@contextmanager
def local_server(folder: Path, log: Path, port: int = 0) -> Iterator[Endpoint]:
    """Serve the model in `folder` while the block runs, on a free port unless one is given.

    Raises MissingPackageError, R1DistillError.
    """
    for package in ("transformers", "fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"Serving a checkpoint needs {package}: pip install 'r1distill[train]'."
            )
    config = {"model": str(folder), "port": port}
    with served("r1distill.teachers.local_child", config, log, START_TIMEOUT_S) as address:
        yield Endpoint(base_url=f"{address}/v1", key="none", model=str(folder), local=True)
