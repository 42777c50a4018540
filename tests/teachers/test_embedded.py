"""The real embedded model, asked once through the whole engine. The only tests that start llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1distill.harvest import harvest
from r1distill.recipe import parse_recipe
from r1distill.run import Run

pytestmark = pytest.mark.embedded


def test_a_small_harvest_and_nothing_owed_after_it(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"question": "What is 2 + 3?", "answer": "5"}) + "\n")
    (tmp_path / "t.jinja").write_text("<|user|>\n{{ question }}")
    recipe = parse_recipe(
        {
            "name": "r", "prompts": {"problems": "p.jsonl", "template": "t.jinja"},
            "teacher": {"e": {"provider": "embedded", "parallel": 2, "context_tokens": 256,
                              "sampling": {"max_tokens": 8, "temperature": 0.8, "seed": 1}}},
            "harvest": {"samples": 2},
        }, folder=tmp_path,
    )  # fmt: skip
    run = Run(tmp_path / "runs" / "r")
    first = harvest(recipe, run)
    assert (first.traces, first.still_owed, first.cost_usd) == (2, 0, 0.0)
    rows = [json.loads(line) for line in (run.folder / "traces" / "part-1-of-1.jsonl").open()]
    assert all(row["answer"] and row["usage"]["completion_tokens"] for row in rows)
    assert "@" in rows[0]["model"]
    again = harvest(recipe, run)
    assert (again.asked, again.had) == (0, 2)
