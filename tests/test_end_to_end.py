"""The quickstart's path on the real embedded model, on a handful of problems: harvest, filter, train, evaluate, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1distill.ledger import read_lines

pytestmark = [pytest.mark.embedded, pytest.mark.train]
TINY = (
    "prompts.limit=5", "harvest.samples=2", "evaluate.limit=3", "filter.select.val_fraction=0.2",
    "filter.select.per_prompt=2", "train.sft.max_steps=3", "evaluate.models=['teacher','base','student']",
)  # fmt: skip


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run r1distill as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "r1distill", *arguments],
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arithmetic example without its correctness check: something is left to train on whatever the teacher says."""
    folder = tmp_path_factory.mktemp("example")
    assert command("init", str(folder), "--example", "arithmetic").returncode == 0
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("[filter.checks.correct]\n", ""))
    return folder


@pytest.mark.timeout(900)
def test_the_whole_job_then_nothing_to_do(folder: Path) -> None:
    sets = [part for setting in TINY for part in ("--set", setting)]
    recipe = folder / "recipe.toml"
    first = command("run", str(recipe), "--json", *sets)
    assert first.returncode == 0, first.stderr
    run = folder / "runs" / "arithmetic"
    summary = json.loads(first.stdout)["stages"]
    traces = [
        json.loads(line) for path in (run / "traces").glob("part-*.jsonl") for _, line in read_lines(path)
    ]
    assert len(traces) == summary["harvest"]["traces"] == 10
    assert all(trace["usage"]["completion_tokens"] > 0 and trace["cost_usd"] == 0 for trace in traces)
    assert summary["filter"]["kept"] + summary["filter"]["rejected"] == 10
    assert summary["train"]["steps"] == 3
    assert (run / "train" / "latest" / "adapter.gguf").stat().st_size > 1e6
    answers = [json.loads(line) for _, line in read_lines(run / "evaluate" / "latest" / "answers.jsonl")]
    sets_scored = len({row["problems"] for row in answers})
    assert len(answers) == 3 * 3 * sets_scored
    for score in summary["evaluate"]["scores"]:
        rows = [row for row in answers if (row["who"], row["problems"]) == (score["who"], score["problems"])]
        assert score["lenient"][0] == pytest.approx(sum(row["lenient"] for row in rows) / len(rows))
    assert "<script" not in (run / "report.html").read_text()

    again = command("run", str(recipe), "--json", *sets)
    assert again.returncode == 0, again.stderr
    stages = json.loads(again.stdout)["stages"]
    assert stages["harvest"]["asked"] == 0
    assert stages["filter"]["up_to_date"]
    assert stages["train"]["up_to_date"]
    assert stages["evaluate"]["up_to_date"]


def test_no_child_server_outlives_its_parent() -> None:
    found = [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if os.access(path, os.R_OK)
        and b"r1distill.teachers.embedded_child" in _read(path)
        and _parent(path) == 1
    ]
    assert found == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parent(path: Path) -> int:
    try:
        return int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
