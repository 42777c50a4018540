"""The embedded teacher: a real small model served by a child process on 127.0.0.1, on a free port, with a random key.

It is asked through the same client as any other endpoint. It also serves a GGUF file given by path, and a trained
adapter (GGUF LoRA) on top of it.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from r1distill.errors import MissingPackageError
from r1distill.records import Message
from r1distill.teachers.child import served
from r1distill.teachers.client import Endpoint

START_TIMEOUT_S = 120.0
PREFIX_FILE = "prefix.bin"


@contextmanager
def embedded_server(
    model: Path,
    *,
    adapter: Path | None,
    threads: int | None,
    parallel: int,
    context_tokens: int,
    log: Path,
    port: int = 0,
    key: str | None = None,
) -> Iterator[Endpoint]:
    """Serve `model` while the block runs; on a free port and with a random key, unless others are given ("": no key).

    Raises MissingPackageError, or R1DistillError naming the log file.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingPackageError("The embedded model needs xllamacpp: pip install 'r1distill[embedded]'.")
    key = secrets.token_urlsafe(24) if key is None else key
    with tempfile.TemporaryDirectory(prefix="r1distill-") as slot_folder:
        config: dict[str, object] = {
            "model": str(model), "alias": model.stem, "adapter": str(adapter) if adapter else None, "key": key,
            "threads": threads or os.cpu_count() or 1, "parallel": parallel, "context_tokens": context_tokens,
            "slot_folder": f"{slot_folder}/", "port": port,
        }  # fmt: skip
        with served("r1distill.teachers.embedded_child", config, log, START_TIMEOUT_S) as address:
            yield Endpoint(base_url=f"{address}/v1", key=key, model=model.stem, local=True, slots=parallel)


def share_prefix(endpoint: Endpoint, messages: Sequence[Message]) -> None:
    """Read a prompt once and copy its state into every slot, so that what all prompts begin with is not read again.

    With a few-shot prompt this saves most of the first half minute. Only a matter of speed: a refusal is passed over.
    """
    import httpx

    root = endpoint.base_url.removesuffix("/v1")
    body = {
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "max_tokens": 1,
        "id_slot": 0,
    }
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    with (
        suppress(httpx.HTTPError),
        httpx.Client(headers=headers, timeout=START_TIMEOUT_S, trust_env=False) as client,
    ):
        client.post(f"{root}/v1/chat/completions", json=body).raise_for_status()
        client.post(f"{root}/slots/0?action=save", json={"filename": PREFIX_FILE}).raise_for_status()
        for slot in range(1, endpoint.slots):
            client.post(
                f"{root}/slots/{slot}?action=restore", json={"filename": PREFIX_FILE}
            ).raise_for_status()
