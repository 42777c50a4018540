"""Every error that a user can meet, and the exit code that each one ends the command with.

    R1DistillError            1   something went wrong; the sentence says what, where and what to do
    ├── UsageError            2   the command line asks for something that does not exist
    │   └── RecipeError       2   recipe.toml asks for something that does not exist
    ├── InputError            1   a row or file given by the user can't be used (file and line named)
    ├── MissingPackageError   1   an optional package is not installed (the command to get it is named)
    ├── LockedError           1   another process writes the same ledger
    ├── StopRunError          1   the teacher refuses every request: bad key, no money, no such model
    ├── NothingKeptError      1   no trace is left to train on (says which check removed how many)
    └── StorageError          1   the disk is full or can't be written

Messages are complete sentences: they are printed as they are, without a traceback.
"""

from __future__ import annotations

from typing import Any


class R1DistillError(Exception):
    """The root: the command line prints its text as one sentence and exits with `exit_code`."""

    exit_code = 1


class UsageError(R1DistillError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class RecipeError(UsageError):
    """The recipe has an unknown key, a wrong value or a missing one."""


class InputError(R1DistillError):
    """A file or row given by the user can't be used; the text names file and line."""


class MissingPackageError(R1DistillError):
    """An optional package is missing; the text names the command that installs it."""


class LockedError(R1DistillError):
    """Another process holds the writer lock of this ledger."""


class StopRunError(R1DistillError):
    """The teacher would refuse every further request, so asking on makes no sense."""

    summary: Any = None
    """What was done before, if a harvest was going on."""


class NothingKeptError(R1DistillError):
    """The filter kept no trace at all, so there is nothing to train on."""


class StorageError(R1DistillError):
    """A file of the run can't be written (no space left, no permission)."""
