"""What takes many minutes and wants two idle cores: scripts/test --long."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.long, pytest.mark.embedded, pytest.mark.train]
# Without `correct`: so small a teacher gets 1 in 50 right, and none of 40 by chance, which would leave nothing to train on.
GSM8K_RECIPE = """
name = "gsm8k"
[prompts]
problems = "harvest.jsonl"
template = "arithmetic_fewshot"
[teacher.small]
provider = "embedded"
sampling = { temperature = 0.7, max_tokens = 256, seed = 1 }
context_tokens = 1024
[harvest]
samples = 2
[filter.checks.finish]
[filter.checks.format]
[filter.checks.duplicate]
[student]
base = "embedded"
template = "arithmetic"
[train]
sft = { num_train_epochs = 2, learning_rate = 5e-4, max_length = 1024 }
[evaluate]
problems = { gsm8k = "heldout.jsonl" }
sampling = { temperature = 0, max_tokens = 256 }
"""


@pytest.mark.timeout(2400)
def test_the_student_beats_its_base_on_each_of_three_seeds(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "three_seeds.py"
    fewer = ["--set", "evaluate.limit=100", "--set", 'evaluate.models=["base","student"]']
    done = subprocess.run([sys.executable, str(script), "--dir", str(tmp_path / "seeds"), *fewer], cwd=ROOT, text=True,
                          check=True, stdout=subprocess.PIPE)  # fmt: skip
    print(done.stdout)
    summaries = json.loads((tmp_path / "seeds" / "summaries.json").read_text())
    assert len(summaries) == 3
    for summary in summaries.values():
        found = [
            d["difference"]
            for d in summary["stages"]["evaluate"]["differences"]
            if (d["first"], d["second"], d["problems"], d["mode"])
            == ("student", "base", "heldout", "lenient")
        ]
        ((value, low, _),) = found
        assert value >= 0.10
        assert low > 0


@pytest.mark.timeout(1800)
def test_gsm8k_runs_through_and_its_scores_follow_from_the_rows(tmp_path: Path, shared_data: Path) -> None:
    rows = (shared_data / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "harvest.jsonl").write_text("".join(rows[:20]), encoding="utf-8")
    (tmp_path / "heldout.jsonl").write_text("".join(rows[100:110]), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(GSM8K_RECIPE)
    done = subprocess.run([sys.executable, "-m", "r1distill", "run", str(tmp_path / "recipe.toml"), "--json"], text=True,
                          stdout=subprocess.PIPE, check=False)  # fmt: skip
    assert done.returncode == 0
    stages = json.loads(done.stdout)["stages"]
    assert stages["harvest"]["traces"] == 40
    answers = [json.loads(line) for line in (Path(stages["evaluate"]["folder"]) / "answers.jsonl").open()]
    for score in stages["evaluate"]["scores"]:
        mine = [row["lenient"] for row in answers if row["who"] == score["who"]]
        assert len(mine) == 10
        assert score["lenient"][0] == pytest.approx(sum(mine) / 10)
    print(json.dumps(stages["filter"]["funnel"], indent=1))
    print(
        "\n".join(
            f"{s['who']}: lenient {s['lenient']}, strict {s['strict']}" for s in stages["evaluate"]["scores"]
        )
    )
