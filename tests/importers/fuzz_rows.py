"""Coverage-guided fuzzing of the importers, run by test_fuzz.py: `python fuzz_rows.py CORPUS -max_total_time=60`.

A row either gives traces or reasons, or is refused with a ValueError; all else is a find, also one that takes ten seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

with atheris.instrument_imports(
    include=["r1distill.importers", "r1distill.thinking", "r1distill.teachers.reasoning"]
):
    from r1distill.importers import Context, Detector, Found, traces_of
    from r1distill.importers.table import FORMATS, names
    from r1distill.importers.values import Values

NAMES = names()


def one(data: bytes) -> None:
    """One input: a byte that chooses a format (or detection), and a row."""
    if not data:
        return
    chosen, row = data[0] % (2 * len(NAMES)), data[1:].replace(b"\n", b" ")
    allowed = tuple(format for format in FORMATS if chosen < len(NAMES) and format.name == NAMES[chosen])
    try:
        found = list(traces_of(row, Detector(allowed), Context()))
    except (ValueError, RecursionError):
        found = []
    for each in found:
        if isinstance(each, Found):
            each.trace.answer.encode(), each.trace.reasoning.encode(), each.prompt.question.encode()
        else:
            assert each.reason
    list(Values(4096).read([row[: len(row) // 2], row[len(row) // 2 :]]))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
