"""A checkpoint folder served by `transformers serve` in a child process on 127.0.0.1.

What it can't do (transformers 5.23): log-probabilities and n are ignored, and there is no API key, so it is bound to
the loopback address and lives only as long as it is needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1distill.errors import MissingPackageError
from r1distill.teachers.child import served
from r1distill.teachers.client import Endpoint

START_TIMEOUT_S = 600.0
"""Loading a large checkpoint from a cold disk takes minutes."""


@contextmanager
def local_server(folder: Path, log: Path) -> Iterator[Endpoint]:
    """Serve the model in `folder` while the block runs. Raises MissingPackageError, R1DistillError."""
    for package in ("transformers", "fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"Serving a checkpoint needs {package}: pip install 'r1distill[train]'."
            )
    with served("r1distill.teachers.local_child", {"model": str(folder)}, log, START_TIMEOUT_S) as address:
        yield Endpoint(base_url=f"{address}/v1", key="none", model=str(folder), local=True)
