"""The `tests` column of a problem as options for its grader: a small JSON object, or the text of one (CSV)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def read_options(tests: Any, known: Sequence[str]) -> tuple[dict[str, Any], str]:
    """(options, "") or ({}, what is wrong with them in one short clause). Nulls count as left out, as Parquet has them."""
    if isinstance(tests, str):
        try:
            tests = json.loads(tests) if tests.strip() else None
        except (ValueError, RecursionError):
            return {}, "tests: not readable as JSON"
    if tests is None:
        return {}, ""
    if not isinstance(tests, dict):
        return {}, "tests: must be an object"
    options = {key: value for key, value in tests.items() if value is not None}
    strange = [key for key in options if key not in known]
    if strange:
        return {}, f"tests: unknown option {str(strange[0])[:40]!r} (there are {', '.join(known)})"
    return options, ""
