"""The child process of the embedded teacher: llama.cpp's own server, through xllamacpp, on 127.0.0.1.

In: one JSON line on stdin with model, alias (its name in answers), adapter, threads, parallel, context_tokens, key ("": none),
port (0: a free one), slot_folder. Out: one JSON line on stdout with the address. It lives until stdin closes, which also
happens when the parent is killed, so it can't be orphaned.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def parameters(config: dict[str, Any]) -> Any:
    """Xllamacpp's CommonParams for a server as `config` says."""
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = config["model"]
    if config.get("alias"):
        p.model_alias = {config["alias"]}  # else answers name the path
    p.hostnames, p.port = ["127.0.0.1"], config.get("port", 0)
    p.api_keys = [config["key"]] if config["key"] else []
    p.n_parallel = config["parallel"]
    p.n_ctx = config["parallel"] * config["context_tokens"]
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = config["threads"]
    p.reasoning_format = (
        xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    )  # our normaliser reads the tags
    p.slot_save_path = config["slot_folder"]
    p.cors_origins, p.ui, p.verbosity, p.offline = "http://127.0.0.1", False, 1, True
    if config.get("adapter"):
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = config["adapter"], 1.0
        p.lora_adapters = [adapter]
    return p


def main() -> None:
    """Serve until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: answers under way may still arrive
    config = json.loads(sys.stdin.readline())
    import xllamacpp

    server = xllamacpp.Server(parameters(config))
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # llama.cpp's threads need no farewell


if __name__ == "__main__":
    main()
