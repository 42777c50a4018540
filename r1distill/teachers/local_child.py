"""The child process of a local checkpoint: `transformers serve` on a port of 127.0.0.1 (0: a free one), until stdin closes."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import threading


def main() -> None:
    """Serve the model named on stdin until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    config = json.loads(sys.stdin.readline())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", config.get("port", 0)))
        port = probe.getsockname()[1]
    sys.stdout.write(json.dumps({"address": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.argv = ["transformers", "serve", config["model"], "--host", "127.0.0.1", "--port", str(port)]
    runpy.run_module("transformers.cli.transformers", run_name="__main__")


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
