"""Keeps the libraries' own bars, warnings and telemetry away; r1distill's progress says what matters."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def prepare_environment() -> None:
    """Set what the libraries read when they are imported: no telemetry, no bars, and threads that sleep.

    OpenMP threads that spin at a barrier starve each other as soon as the machine has other work: with two busy
    neighbours on 2 cores a training step took 36 s spinning and 5 s sleeping (torch 2.13, libgomp).
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch  # noqa: F401 - libgomp reads the variable while it is loaded

    if before is None:  # not for children: an idle llama.cpp server is half as fast with it
        del os.environ["OMP_WAIT_POLICY"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and warnings of transformers, datasets and trl within the block."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
