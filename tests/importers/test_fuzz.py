"""Coverage-guided fuzzing of the importers for a minute; its finds become named rows of test_hostile_rows.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 60


@pytest.mark.long
def test_a_minute_of_atheris(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    for path in (HERE / "fixtures").glob("*.jsonl"):
        for number, line in enumerate(path.read_bytes().splitlines()):
            (tmp_path / f"{path.stem}-{number}").write_bytes(b"\xff" + line)
    command = [sys.executable, str(HERE / "fuzz_rows.py"), str(tmp_path), f"-max_total_time={SECONDS}", "-timeout=10",
               "-rss_limit_mb=2048", "-max_len=65536", f"-artifact_prefix={tmp_path}/found-"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + 120)
    found = [(path.name, path.read_bytes()[:500]) for path in tmp_path.glob("found-*")]
    assert done.returncode == 0 and not found, f"{found}\n{done.stderr[-3000:]}"
