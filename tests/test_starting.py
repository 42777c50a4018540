"""Ctrl-C while the command is being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from r1distill.starting import INTERRUPTED

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("module", ["pydantic", "click"])  # of the package itself, and of the command line
@pytest.mark.parametrize("as_command", [True, False])
def test_an_interrupted_import_is_one_sentence(as_command: bool, module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt\n")
    program = ["-m", "r1distill", "--version"] if as_command else ["-c", "import r1distill.cli"]
    done = subprocess.run(
        [sys.executable, *program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT  # which a shell shows as 130
    assert (done.stderr == f"{INTERRUPTED}\n") == as_command
    assert ("Traceback" in done.stderr) != as_command
