"""Names of files as text: a name may hold bytes that are no UTF-8, line breaks and characters that steer a terminal.

In: paths. Out: text that can be written as JSON; text that can be put into a sentence.
"""

from __future__ import annotations

import os
from pathlib import Path

from r1distill.show import plain

BREAKS = str.maketrans("\n\t", "\N{REPLACEMENT CHARACTER}" * 2)


def as_text(path: str | Path) -> str:
    """The name as it is, with U+FFFD for bytes that are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def shown(path: str | Path) -> str:
    """As `as_text`, on one line and without characters that steer a terminal."""
    return plain(as_text(path)).translate(BREAKS)


def key_of(path: str | Path) -> str | bytes:
    """What stands for a name in a database: no two names are the same."""
    name = os.fsencode(path)
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name
