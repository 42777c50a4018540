"""Coverage-guided fuzzing of the graders, run by tests/test_fuzz.py: `python fuzz_answers.py CORPUS -max_total_time=15`.

The exact step only, which must be linear: computer algebra runs in processes that are killed. A grade comes back, or what is
left to settle, short and fit to be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["r1distill.answers"]):
    import msgspec

    from r1distill.answers import GRADERS, Grade, grade_exact
    from r1distill.answers.outcome import SHOWN_CHARS

KINDS = sorted(GRADERS)
TESTS = (None, {"tolerance": 0.1, "relative": True}, {"regex": True}, [{"input": "1", "output": "2"}])
BETWEEN = "\x1e"
"""Stands between the reference and the answer."""


def one(data: bytes) -> None:
    """One input: a byte that chooses the kind and the tests, the reference, a sign, and the answer."""
    if not data:
        return
    tests, kind = divmod(data[0], len(KINDS))
    reference, _, answer = data[1:].decode("utf-8", "surrogateescape").partition(BETWEEN)
    for text in (answer, f"So it is $\\boxed{{{answer}}}$."):
        found = grade_exact(KINDS[kind], reference, text, TESTS[tests % len(TESTS)])  # type: ignore[arg-type]
        if isinstance(found, Grade):
            assert len(found.extracted or "") <= SHOWN_CHARS, found
            msgspec.json.encode(found)
        else:
            assert len(found.reference) + len(found.extracted) < 2000, found


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
