"""Ctrl-C while the command is still being imported, before cli.py can catch it: one sentence, as later on.

Imported first of all by the package. A program that only uses the package is left alone.
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from types import TracebackType

INTERRUPTED = "r1distill: Interrupted; the state on disk is safe. The same command goes on from here."


def is_command() -> bool:
    """True for `r1distill ...` and `python -m r1distill ...` (whose name is not known yet)."""
    first = PurePath(sys.argv[0] if sys.argv else "")
    return first.stem == "r1distill" or (str(first) == "-m" and "r1distill" in sys.orig_argv)


def hide_interrupts() -> None:
    """Let an uncaught Ctrl-C say one sentence; the process still ends by the signal, which shells show as 130."""
    others = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write(f"{INTERRUPTED}\n")
        else:
            others(kind, error, trace)

    sys.excepthook = hook


if is_command():
    hide_interrupts()
