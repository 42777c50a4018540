"""A small harvest that tests may change: problems, a template, a recipe that points at a fake teacher, a run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from r1distill.harvest import HarvestSummary, harvest
from r1distill.recipe import Recipe, parse_recipe
from r1distill.run import Run

KEY = "sk-test-0123456789abcdefghijkl"
KEY_VARIABLE = "R1DISTILL_TEST_KEY"


class SmallRun:
    """`problems` questions "What is i + 1?", each asked `samples` times; change `data` between two harvests."""

    def __init__(self, folder: Path, base_url: str, problems: int = 3, samples: int = 2) -> None:
        self.folder = folder
        self.data: dict[str, Any] = {
            "name": "r",
            "prompts": {"problems": "problems.jsonl", "template": "t.jinja"},
            "teacher": {
                "t": {
                    "provider": "openai-compatible", "base_url": base_url, "model": "m", "api_key_env": KEY_VARIABLE,
                    "sampling": {"max_tokens": 100, "temperature": 0.5},
                }
            },
            "harvest": {"samples": samples},
        }  # fmt: skip
        (folder / "t.jinja").write_text("<|user|>\nSolve: {{ question }}")
        self.write_problems(problems)
        self.run = Run(folder / "runs" / "r")

    @property
    def teacher(self) -> dict[str, Any]:
        """The table of the teacher t."""
        table: dict[str, Any] = self.data["teacher"]["t"]
        return table

    def write_problems(self, count: int, name: str = "problems.jsonl") -> None:
        rows = [{"id": f"p{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(count)]
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def recipe(self) -> Recipe:
        return parse_recipe(self.data, folder=self.folder)

    def harvest(self, **how: Any) -> HarvestSummary:
        return harvest(self.recipe, self.run, **how)

    def rows(self, pattern: str = "traces/part-*.jsonl") -> list[dict[str, Any]]:
        """The rows of all ledgers that match."""
        return [json.loads(line) for path in sorted(self.run.folder.glob(pattern)) for line in path.open()]

    def failures(self) -> list[dict[str, Any]]:
        return self.rows("failures*.jsonl")

    def slots(self) -> Counter[str]:
        """How many traces each slot has."""
        return Counter(row["slot"] for row in self.rows())

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """`r1distill harvest` on this recipe, in a process of its own."""
        (self.folder / "recipe.json").write_text(json.dumps(self.data))
        command = [
            sys.executable,
            str(Path(__file__).with_name("harvest_json.py")),
            str(self.folder),
            *options,
        ]
        root = str(Path(__file__).resolve().parent.parent)
        environment = {**os.environ, KEY_VARIABLE: KEY, "PYTHONPATH": root}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def holds_key(folder: Path, key: str = KEY) -> list[str]:
    """The files under `folder` in which the key, or eight letters of it, can be found."""
    parts = {key[i : i + 8].encode() for i in range(3, len(key) - 7)}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(part in path.read_bytes() for part in parts)]
