"""Jobs for the worker tests: importable in a worker process."""

from __future__ import annotations

import os
import signal
import time
from typing import Any


def echo(value: Any) -> dict[str, Any]:
    return {"value": value}


def spin(seconds: float) -> dict[str, Any]:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return {"value": "spun"}


def stuck_in_c() -> dict[str, Any]:
    return {"value": len(str(9**9**8))}


def fail() -> dict[str, Any]:
    raise ValueError("no")


def die() -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hog() -> dict[str, Any]:
    return {"value": len(bytearray(1 << 36))}


def pid() -> dict[str, Any]:
    return {"value": os.getpid()}
