#!/usr/bin/env python3
"""Run the arithmetic example with several seeds (sampling and training) and print a Markdown table of the scores.

Usage: .venv/bin/python scripts/three_seeds.py [--dir DIR] [--seeds 100 200 300] [--set KEY=VALUE ...]
It harvests 120 problems where the quickstart, which has to end within minutes, takes 90.
Base and teacher answer greedily, so that their answers are the same for every seed: they are asked once, and the
ledger of the first run is copied to the others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROBLEMS = 120


def command(*arguments: str) -> str:
    """Run r1distill, show its progress, return its standard output. Exits when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "r1distill", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"r1distill {' '.join(arguments)} ended with exit code {done.returncode}")
    return done.stdout


def run_seed(recipe: Path, run: Path, seed: int, first: Path | None, settings: list[str]) -> dict[str, Any]:
    """One whole run; returns its summary."""
    if first is not None and not (run / "evaluate" / "traces").exists():
        shutil.copytree(
            first / "evaluate" / "traces",
            run / "evaluate" / "traces",
            ignore=shutil.ignore_patterns("*.lock"),
        )
    seeds = [f"teacher.small.sampling.seed={seed}", f"train.seed={seed}", f"prompts.limit={PROBLEMS}"]
    overrides = [part for setting in [*seeds, *settings] for part in ("--set", setting)]
    summary: dict[str, Any] = json.loads(command("run", str(recipe), "--run", str(run), "--json", *overrides))
    return summary


def row(name: str, seed: int, interval: list[float]) -> str:
    """A row of the table, in percentage points."""
    value, low, high = (f"{100 * x:.1f}" for x in interval)
    return f"| {seed} | {name} | {value} | {low} to {high} |"


def table(summaries: dict[int, dict[str, Any]]) -> str:
    """Scores and paired differences of all seeds."""
    lines = ["| seed | what | points | 95% interval |", "|---|---|---|---|"]
    for seed, summary in summaries.items():
        evaluation = summary["stages"]["evaluate"]
        for score in evaluation["scores"]:
            for mode in ("lenient", "strict"):
                lines.append(row(f"{score['who']}, {score['problems']}, {mode}", seed, score[mode]))
        for d in evaluation["differences"]:
            name = f"**{d['first']} - {d['second']}**, {d['problems']}, {d['mode']}"
            lines.append(row(name, seed, d["difference"]))
    return "\n".join(lines)


def main() -> None:
    """Run all seeds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("three_seeds"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 200, 300])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    recipe = options.dir / "recipe.toml"
    if not recipe.exists():
        command("init", str(options.dir), "--example", "arithmetic")
    first: Path | None = None
    summaries: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        run = options.dir / "runs" / f"seed-{seed}"
        summaries[seed] = run_seed(recipe, run, seed, first, options.settings)
        first = first or run
    (options.dir / "summaries.json").write_text(json.dumps(summaries, indent=2) + "\n")
    print(table(summaries))


if __name__ == "__main__":
    main()
