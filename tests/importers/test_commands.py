"""A newcomer's one command, for every format: a curated set, what was rejected with reasons, and a funnel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_formats import EXPECTED, files_of

from r1distill.cli import main


def out(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """(exit code, JSON summary, what people read) of a command."""
    code = main([*map(str, arguments), "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out.strip() else {}, told.err


@pytest.mark.parametrize("name", EXPECTED)
def test_filter(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary, told = out(capsys, "filter", *files_of(name), "--to", tmp_path / "out")
    assert code == 0
    assert summary["traces"] == len(EXPECTED[name])
    assert summary["kept"] + summary["rejected"] == len(EXPECTED[name])
    assert summary["train"] + summary["val"] >= 1
    assert "removed only by this" in told
    for line in (tmp_path / "out" / "train.jsonl").open():
        (said,) = json.loads(line)["completion"]
        assert said["content"].count("<think>") == 1 and said["content"].count("</think>") == 1
        assert "<|" not in said["content"]


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for name in ("openr1-math", "s1k-1.1", "limo") for path in files_of(name)]
    (tmp_path / "recipe.toml").write_text(
        '[student]\nbase = "x"\ntemplate = "t.jinja"\n[filter.checks.correct]\n[filter.checks.format]\n'
    )
    (tmp_path / "t.jinja").write_text("{{ question }}")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "r"\n' + recipe.read_text())
    code, summary, told = out(capsys, "import", *files, "--to", recipe)
    assert (code, summary["traces"], summary["from_files"]) == (0, 6, 6)
    assert "Read as openr1-math (1 rows), s1k-1.1 (1 rows), limo (2 rows)" in told
    code, summary, told = out(capsys, "filter", recipe)
    assert (code, summary["kept"], summary["reasons"]) == (0, 3, {"correct: wrong": 3})


def test_format_and_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"q": "1 + 1?", "data": {"out": "<think>r</think>2"}, "gold": "2"}) + "\n")
    code, _, told = out(capsys, "filter", path, "--to", tmp_path / "out")
    assert code == 1 and "use --map question=COLUMN,answer=COLUMN" in told
    mapping = "question=q,answer=data.out,reference=gold"
    code, summary, _ = out(capsys, "filter", path, "--to", tmp_path / "out", "--map", mapping)
    assert (code, summary["kept"]) == (0, 1)
    code, _, told = out(capsys, "filter", path, "--to", tmp_path / "out", "--format", "nix")
    assert code == 2 and "the formats are: r1distill, bedrock" in told
    code, _, told = out(capsys, "filter", tmp_path, "--map", mapping)
    assert code == 2 and "go with trace files" in told
    code, _, told = out(capsys, "import", path, "--to", tmp_path, "--map", "question")
    assert code == 2


def test_the_same_line_read_otherwise_is_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"q": "1 + 1?", "a": "1 and 1\n2", "b": "<think>r</think>2"}) + "\n")
    kept = []
    for mapping in ("question=q,answer=a", "question=q,trace=a", "question=q,answer=b"):
        code, summary, _ = out(capsys, "filter", path, "--to", tmp_path / "out", "--map", mapping)
        kept.append((code, summary.get("kept")))
    assert kept == [(1, None), (0, 1), (0, 1)]


def test_measuring_alone_reads_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"q": "1 + 1?", "a": "<think>r</think>2"}) + "\n")
    to = tmp_path / "out"
    code, summary, _ = out(
        capsys, "filter", path, "--to", to, "--map", "question=q,answer=a", "--measure-only"
    )
    assert (code, summary["traces"]) == (0, 1)
    code, summary, _ = out(capsys, "filter", path, "--to", to, "--map", "question=q,answer=a")
    assert (code, summary["measured"]) == (0, 0)
