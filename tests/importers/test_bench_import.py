"""The benchmark of reading runs, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_runs() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench_import.py"), "--mb", "0.4", "--chars", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("MB/s read") == 7
    assert "tiny rows of Parquet: 400 traces" in done.stdout
