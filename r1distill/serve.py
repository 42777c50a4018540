"""VERB: a model answers on 127.0.0.1 as an OpenAI-compatible API, with the rendering it was trained with, until Ctrl-C.

In: an export's folder, a GGUF file, a folder of weights, or a run (its trained student). A GGUF is served by llama.cpp
(xllamacpp), a folder by `transformers serve`, each in a child process that ends with this one.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from r1distill.errors import InputError, R1DistillError, UsageError
from r1distill.exports.intact import damage
from r1distill.run import open_run, read_json
from r1distill.runtime import student_weights
from r1distill.show import Show
from r1distill.teachers.client import Endpoint
from r1distill.teachers.embedded import embedded_server
from r1distill.teachers.local import local_server
from r1distill.weights import shipped_gguf, weights_digest

DEFAULT_PORT = 8080
LOOK_EVERY_S = 2.0
"""How often the server is asked whether it is alive."""
HEALTH_TIMEOUT_S = 30.0
LOST_LOOKS = 3
"""So many looks in a row without an answer: it is gone."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What is served where."""

    url: str
    """The base_url for clients."""
    model: str
    """The name to put into requests."""
    weights: str
    adapter: str | None
    server: str
    """llama.cpp or transformers."""
    api_key: bool
    """Whether a key is asked for."""


class Source(NamedTuple):
    """What to serve."""

    weights: Path
    """A GGUF file, or a folder for transformers."""
    adapter: Path | None = None
    """A GGUF LoRA to lay over a GGUF file."""

    @property
    def is_gguf(self) -> bool:
        """Whether llama.cpp serves it."""
        return self.weights.suffix.lower() == ".gguf"


class Settings(NamedTuple):
    """How to serve it."""

    port: int | None = None
    """None: 8080, or a free one if that is taken."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key to ask for; None: no key."""
    context_tokens: int = 8192
    """Prompt and answer of one request; llama.cpp only."""
    parallel: int = 1
    """Requests decoded side by side; llama.cpp only."""
    threads: int | None = None
    """None: all cores; llama.cpp only."""


def serve(
    target: Path,
    settings: Settings,
    *,
    show: Show,
    ready: Callable[[Served], None] = lambda served: None,
) -> Served:
    """Serve until Ctrl-C or SIGTERM; calls `ready` once it answers. Returns what was served.

    Raises InputError (nothing to serve there), UsageError (port taken, no key in the variable), MissingPackageError,
    R1DistillError when the server does not start or ends by itself.
    """
    source = find(target)
    key = _key(settings.api_key_env)
    if key and not source.is_gguf:
        raise UsageError("--api-key-env works for GGUF files only: `transformers serve` knows no keys.")
    port = _port(settings.port)
    with _log_file() as log, _server(source, settings, port, key, log) as endpoint, _stop_signals() as stop:
        served = _served(source, endpoint)
        _say(served, settings, show)
        ready(served)
        _wait(endpoint, stop, log)
    show.note("Stopped.")
    return served


def find(target: Path) -> Source:
    """What there is to serve at `target`. Raises InputError."""
    if target.suffix.lower() == ".gguf":
        if not target.is_file():
            raise InputError(f"There is no GGUF file {target}.")
        _refuse_damaged(target.parent, read_json(target.parent / "export.json") or {}, target.name)
        return Source(target)
    if target.suffix == ".toml" or (target / "recipe.resolved.json").is_file():
        return Source(*student_weights(*open_run(target)))
    if not target.is_dir():
        raise InputError(
            f"There is nothing to serve at {target}: name an export, a GGUF file, a model folder or a run."
        )
    return _in_folder(target)


def _in_folder(folder: Path) -> Source:
    export = read_json(folder / "export.json") or {}
    _refuse_damaged(folder, export)
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder, export)
    if (folder / "config.json").is_file():
        return Source(folder)
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return Source(files[0])
    what = f"{len(files)} GGUF files: name one of them" if files else "neither config.json nor a GGUF file"
    raise InputError(f"{folder} has {what}.")


def _refuse_damaged(folder: Path, export: dict[str, object], only: str | None = None) -> None:
    """Raises InputError when a file of an export is missing or its weights have another size than they were written with."""
    files = export.get("files")
    noted = files if isinstance(files, dict) else {}
    broken = damage(folder, {k: v for k, v in noted.items() if only in (None, k)}, weights_only=True)
    if broken is not None:
        raise InputError(
            f"This export is damaged: {broken}; write it again: r1distill export RUN --to {folder}"
        )


def _adapter(folder: Path, export: dict[str, object]) -> Source:
    """An adapter needs its base; only the embedded one can be found from here."""
    with suppress(R1DistillError):
        if (folder / "adapter.gguf").is_file() and weights_digest(shipped_gguf()) == export.get(
            "base_digest"
        ):
            return Source(shipped_gguf(), folder / "adapter.gguf")
    raise InputError(
        f"{folder} is an adapter, and where its base lies is not known: serve the run, or export it merged or as GGUF."
    )


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"The environment variable {variable} (--api-key-env) is not set or empty.")
    return key


def _port(asked: int | None) -> int:
    """A port that is free now. Raises UsageError when the one asked for is not."""
    for port in (asked,) if asked is not None else (DEFAULT_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError, OverflowError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise UsageError(f"Port {asked} of 127.0.0.1 can't be used (taken, perhaps); name another with --port.")


def _server(
    source: Source, settings: Settings, port: int, key: str, log: Path
) -> AbstractContextManager[Endpoint]:
    if not source.is_gguf:
        return local_server(source.weights, log, port)
    return embedded_server(
        source.weights, adapter=source.adapter, threads=settings.threads, parallel=settings.parallel,
        context_tokens=settings.context_tokens, log=log, port=port, key=key,
    )  # fmt: skip


def _served(source: Source, endpoint: Endpoint) -> Served:
    return Served(
        url=endpoint.base_url, model=endpoint.model, weights=str(source.weights),
        adapter=str(source.adapter) if source.adapter else None,
        server="llama.cpp" if source.is_gguf else "transformers", api_key=bool(source.is_gguf and endpoint.key),
    )  # fmt: skip


def _say(served: Served, settings: Settings, show: Show) -> None:
    body = {"model": served.model, "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
    key = f' -H "Authorization: Bearer ${settings.api_key_env}"' if served.api_key else ""
    adapter = f" and {served.adapter}" if served.adapter else ""
    show.note(
        f"Serving {served.weights}{adapter} with {served.server} at {served.url} (Ctrl-C ends it). For example:"
    )
    show.note(
        f"curl {served.url}/chat/completions -H 'Content-Type: application/json'{key} -d {shlex.quote(json.dumps(body))}"
    )


def _wait(endpoint: Endpoint, stop: threading.Event, log: Path) -> None:
    """Until `stop`. Raises R1DistillError when the server is gone."""
    import httpx

    url, lost = f"{endpoint.base_url.removesuffix('/v1')}/health", 0
    while not stop.wait(LOOK_EVERY_S):
        try:
            httpx.get(url, timeout=HEALTH_TIMEOUT_S, trust_env=False)
            lost = 0
        except httpx.TimeoutException:
            continue  # busy
        except httpx.HTTPError:
            lost += 1
            if lost == LOST_LOOKS:
                raise R1DistillError(
                    f"The model server ended by itself; its last words are in {log}."
                ) from None


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one ends it at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log_file() -> Iterator[Path]:
    """A file for the server's log; it stays only when an error names it, since nobody would find it otherwise."""
    handle, name = tempfile.mkstemp(prefix="r1distill-serve-", suffix=".log")
    os.close(handle)
    named = False
    try:
        yield Path(name)
    except R1DistillError as error:
        named = name in str(error)
        raise
    finally:
        if not named:
            Path(name).unlink(missing_ok=True)
