"""A refused write, in whatever words a library puts it -> one sentence.

torch and safetensors wrap what the system says in errors of their own; only what they say of writing is taken for a full disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1distill.errors import InputError, StorageError

REFUSED = (
    "No space left on device",
    "PytorchStreamWriter failed",
    "inline_container.cc",
    "Error while serializing",
    "os error 27",  # file size limit
    "os error 28",  # full disk
    "os error 122",  # quota
)
"""What torch.save and safetensors say when the system takes no more."""
READING = ("PytorchStreamReader", "deserializing")
"""What they say of a damaged file."""


def refused_write(error: BaseException) -> bool:
    """Whether `error` tells of a write that the system refused (no space, quota, file size limit)."""
    text = str(error)
    return any(sign in text for sign in REFUSED) and not any(sign in text for sign in READING)


@contextmanager
def disk_errors(to: Path) -> Iterator[None]:
    """Turn what safetensors says of a full disk into a StorageError, and of a damaged file into an InputError."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        said = str(error).splitlines()[0]
        if refused_write(error):
            raise StorageError(
                f"{to} can't be written: {said}; free some space and run the same command again."
            ) from None
        raise InputError(
            f"{to} can't be made: a file of weights that it comes from is damaged ({said}); get that again."
        ) from None
