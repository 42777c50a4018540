"""Errors of a user's own check outside of measuring and judging one trace: one sentence that names the line, no traceback.

What `measure` and `judge` raise leaves that trace UNJUDGED (filtering/decide.py). What the other methods raise (`prepared`,
`reads`, `keeps`, `notes`, ...) would come up with every trace, so it ends the run; the outputs of the run before stay.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import TracebackType

from r1distill.checks.keys import OWN
from r1distill.errors import R1DistillError, RecipeError


@contextmanager
def own_faults() -> Iterator[None]:
    """Around all that calls checks: what a user's own check prints goes to standard error, as all that people read.

    Raises RecipeError in the place of an error that comes out of such a check.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except R1DistillError:
        raise
    except (Exception, SystemExit) as error:
        place = _own_place(error.__traceback__)
        if place is None:
            raise
        raise RecipeError(
            f"{place} raised {type(error).__name__}: {error}. The check has to be mended."
        ) from None


def _own_place(trace: TracebackType | None) -> str | None:
    """The last line of a user's own check on the way to an error: FILE, line N, in FUNCTION."""
    found = None
    for frame, line in traceback.walk_tb(trace):
        if str(frame.f_globals.get("__name__", "")).startswith(OWN):
            found = f"{frame.f_code.co_filename}, line {line}: {frame.f_code.co_name}()"
    return found
