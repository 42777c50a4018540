"""The embedded teacher: a real small model served by a child process on 127.0.0.1, on a free port, with a random key.

It is asked through the same client as any other endpoint. It also serves a GGUF file given by path, and a trained
adapter (GGUF LoRA) on top of it.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1distill.errors import MissingPackageError
from r1distill.teachers.child import served
from r1distill.teachers.client import Endpoint

START_TIMEOUT_S = 120.0


@contextmanager
def embedded_server(
    model: Path, *, adapter: Path | None, threads: int | None, parallel: int, context_tokens: int, log: Path
) -> Iterator[Endpoint]:
    """Serve `model` while the block runs. Raises MissingPackageError, or R1DistillError naming the log file."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingPackageError("The embedded model needs xllamacpp: pip install 'r1distill[embedded]'.")
    key = secrets.token_urlsafe(24)
    config: dict[str, object] = {
        "model": str(model), "adapter": str(adapter) if adapter else None, "key": key,
        "threads": threads or os.cpu_count() or 1, "parallel": parallel, "context_tokens": context_tokens,
    }  # fmt: skip
    with served("r1distill.teachers.embedded_child", config, log, START_TIMEOUT_S) as address:
        yield Endpoint(base_url=f"{address}/v1", key=key, model=model.stem, local=True)
