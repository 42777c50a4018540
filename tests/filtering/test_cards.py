"""The card beside a training set."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_filter import PROBLEMS, World
from test_filter_diff import ANSWERS

from r1distill.cli import main
from r1distill.errors import NothingKeptError
from r1distill.filter import filter, filter_files
from r1distill.filtering import cards


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.data["filter"]["select"] = {"val_fraction": 0}
    return made


def text_of(world: World) -> str:
    """The card, which is written also when nothing is left."""
    with suppress(NothingKeptError):
        filter(world.recipe, world.run)
    return (world.run.folder / "filter" / "latest" / "README.md").read_text()


def test_it_says_what_is_inside_and_what_removed_the_rest(world: World) -> None:
    world.data["teacher"]["t"] = {"provider": "openai", "model": "o3"}
    world.data["filter"]["select"]["per_prompt"] = 1
    world.data["filter"]["checks"]["length"] = {"max_tokens": 22}
    world.harvest(ANSWERS)
    summary = world.filter()
    text = (Path(summary.folder) / "README.md").read_text()
    assert f"{summary.train:,} training and {summary.val:,} validation rows" in text
    assert "| t | " in text and "| o3 | OpenAI's terms" in text
    for row in summary.funnel:
        assert f"| {row.check} | " in text and f"| {row.removed:,} | {row.removed_only_by_this:,} |" in text
    assert all(f"| {count:,} |" in text for count in summary.reasons.values())
    assert '| length | 2 | unjudged = "drop", min_tokens = 1, max_tokens = 22, ' in text
    assert 'Settings: per_prompt = 1, prefer = "shortest", pairs_per_prompt = 1, val_fraction = 0' in text
    assert "1 reference may be wrong" in text  # all samples of c say 7
    assert "Not checked: no benchmark files were named." in text
    assert "say here where they come from and under which licence" in text


def test_licences_row_by_row(world: World) -> None:
    licences = {
        "a": {"licence": "MIT"},
        "b": {"license": "CC-BY-4.0 | <b>"},
        "c": {"licence": "MIT"},
        "d": {},
    }
    world.write_problems([{**row, "tags": {**licences[row["id"]], "topic": "sums"}} for row in PROBLEMS])
    world.data["filter"]["checks"] = {"finish": {}}
    world.harvest(ANSWERS)
    text = text_of(world)
    assert "| MIT | 8 |\n| CC-BY-4.0 \\| &lt;b> | 4 |\n| not said | 4 |" in text
    assert "| topic | sums | 16 |" in text


def test_contamination_and_suspects_are_told(world: World) -> None:
    long = "What is the sum of the first nine positive even integers that are not divisible by six"
    rows = [{**row, "question": long} if row["id"] == "a" else row for row in PROBLEMS]
    world.write_problems([{**row, "answer": "3"} if row["id"] == "b" else row for row in rows])
    (world.folder / "bench.txt").write_text(long + "\n")
    world.data["filter"]["checks"]["contamination"] = {"benchmarks": ["bench.txt"]}
    world.harvest(ANSWERS)
    text = text_of(world)
    assert "compared with bench.txt: 1 problem (4 traces) removed by the check contamination" in text
    assert "2 references may be wrong" in text  # of b and c
    assert "| contamination: like bench.txt | 4 |" in text
    found = [row for row in world.rows("verdicts") if row["check"] == "contamination"]
    pairs = [row["detail"] for row in found if row["outcome"] == "FAIL"]
    assert len(pairs) == 4 and all(pair.startswith('bench.txt:1: "what is the sum of the') for pair in pairs)
    assert not any("detail" in row for row in found if row["outcome"] == "PASS")
    why = [row for row in world.rows("reasons") if "contamination: like bench.txt" in row["reasons"]]
    assert [row["details"]["contamination"] for row in why] == pairs
    assert sum("details" in row for row in world.rows("reasons")) == 4


def test_the_head_names_the_files_that_have_rows(world: World) -> None:
    world.harvest(ANSWERS)
    head = text_of(world).split("---")[1]
    assert (
        "  - split: train\n    path: train.jsonl\n- config_name: pairs\n  data_files: pairs.jsonl\n" in head
    )
    assert "validation" not in head
    world.data["filter"]["checks"]["length"] = {"max_tokens": 1}
    assert "configs" not in text_of(world).split("---")[1]


def test_what_is_cut_off_is_told(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(cards, "MOST_ROWS", 1)
    tags = [{"topic": name, "licence": name} for name in ("sums", "roots", "sets", "sets")]
    world.write_problems([{**row, "tags": tag} for row, tag in zip(PROBLEMS, tags, strict=True)])
    world.data["filter"]["checks"] = {"finish": {}, "correct": {}}
    world.harvest(ANSWERS)
    text = text_of(world)
    assert "| topic | and 2 more | " in text and "\n| and 2 more | " in text


def test_the_title_is_the_same_with_changed_settings(tmp_path: Path) -> None:
    row = {"question": "q", "response": "<think>so</think>\\boxed{4}"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    command = ["filter", str(tmp_path / "t.jsonl"), "--to", str(tmp_path / "out"), "-q"]
    for more in ([], ["--set", "filter.checks.length.max_tokens=400"]):
        assert main([*command, *more]) == 0
        assert "\n# curated traces\n" in (tmp_path / "out/README.md").read_text()


def test_files_of_others_tell_the_licence_of_the_model_that_they_name(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{n}", "response": "<think>so</think>\\boxed{4}", "model": model}
        for n, model in enumerate(
            (
                "meta-llama/Llama-3.3-70B-Instruct",
                "deepseek-r1",
                "openai/gpt-4o",
                "gpt-oss-120b",
                "claude-opus-4",
            )
        )
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["filter", str(tmp_path / "t.jsonl"), "--to", str(tmp_path / "out"), "-q"]) == 0
    lines = (tmp_path / "out/README.md").read_text().splitlines()
    (llama,) = (line for line in lines if line.startswith("| meta-llama/"))
    (deepseek,) = (line for line in lines if line.startswith("| deepseek-r1"))
    assert "Built with Llama" in llama
    known = {
        name: next(line for line in lines if line.startswith(f"| {name} "))
        for name in ("openai/gpt-4o", "gpt-oss-120b", "claude-opus-4")
    }
    assert "OpenAI's terms" in known["openai/gpt-4o"] and "Anthropic" in known["claude-opus-4"]
    assert "not known here" in known["gpt-oss-120b"]
    assert "not known here; look them up" in deepseek


def test_plain_files_say_what_is_known(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "question": f"q{n}",
            "response": "<think>so</think>\\boxed{4}",
            "reference": "4",
            "model": "[x](y)|`z`",
        }
        for n in range(3)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    filter_files([tmp_path / "t.jsonl"], tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert "rows from 3 of 3 problems" in text
    assert "| \\[x](y)\\|\\`z\\` | 3 | \\[x](y)\\|\\`z\\` | not known here; look them up |" in text
    assert "# curated traces" in text and "3 of 3 rows have a reference answer." in text
