"""The command line: exit codes, one sentence for every error, JSON that a script can read, and a light start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import FakeTeacher, answer, error
from synthetic_run import SyntheticRun

import r1distill
from r1distill.cli import cli, main

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "openai", "matplotlib", "scipy", "numpy")
VERBS = ("run", "harvest", "filter", "train", "evaluate", "report", "status")


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def fails(says: Any) -> Any:
    """Run a command that must fail with one sentence on stderr: (exit code, the sentence)."""

    def run(*arguments: object) -> tuple[int, str]:
        code, out, err = says(*arguments)
        assert out == ""
        assert "Traceback" not in err
        last = err.strip().splitlines()[-1]
        assert last.startswith("r1distill: ")
        assert last.endswith((".", "?")), last
        return code, last

    return run


def project(folder: Path, base_url: str = "http://127.0.0.1:9/v1", **teacher: str) -> Path:
    lines = {"provider": "openai-compatible", "base_url": base_url, "model": "m", **teacher}
    table = "\n".join(f'{key} = "{value}"' for key, value in lines.items())
    (folder / "recipe.toml").write_text(
        f'name = "x"\n[prompts]\nproblems = "p.jsonl"\n[teacher.t]\n{table}\n[harvest]\nsamples = 2\nmax_attempts = 1\n'
    )
    (folder / "p.jsonl").write_text(
        '{"question": "1+1?", "answer": "2"}\n{"question": "2+2?", "answer": "4"}\n'
    )
    return folder / "recipe.toml"


# --- start-up and help


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from r1distill.cli import main; assert main(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout.startswith("Usage: r1distill")


def test_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "r1distill", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"r1distill, version {r1distill.__version__}"


def test_the_overview_lists_the_verbs_in_the_order_of_work(says: Any) -> None:
    code, out, _ = says("--help")
    assert code == 0
    places = [out.index(f"\n  {name} ") for name in ("init", *VERBS, "recipe")]
    assert places == sorted(places)
    assert "r1distill init demo && r1distill run demo/recipe.toml" in out


@pytest.mark.parametrize("name", list(cli.commands))
def test_every_help_is_readable(says: Any, name: str) -> None:
    code, out, _ = says(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: r1distill {name} ")
    first = out.splitlines()[2]
    assert first.endswith((".", ","))
    assert max(map(len, out.splitlines())) <= 110
    if name in VERBS:
        assert all(option in out for option in ("--set", "--run", "-q", "-v", "--json"))
        assert ("--dry-run" in out) is (name != "status")


def test_no_command_shows_the_help(says: Any) -> None:
    code, _, err = says()
    assert code == 2
    assert "Commands:" in err


# --- wrong usage: exit code 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("harvst",), "No such command 'harvst'. Did you mean 'harvest'?"),
        (("harvest", "--lmit", "3", "x"), "No such option '--lmit'"),
        (("harvest",), "Missing argument 'RECIPE'"),
        (("harvest", "--limit", "0", "x"), "--limit"),
        (("recipe",), "Name a RECIPE to check, or use --explain."),
        (("init", "x", "--example", "y"), "There is no example 'y'; there are arithmetic, hosted."),
        (("filter", "a.jsonl"), "needs --to DIR"),
        (("filter", "a.toml", "b.toml"), "needs --to DIR"),
        (("filter", "a.jsonl", "--to", "d", "--set", "a=1"), "unknown key 'a'"),
        (("filter", "a.jsonl", "--to", "d", "--run", "r"), "--run and --to don't go together"),
        (("filter", "a.toml", "--recipe", "r.toml"), "--recipe goes with trace files"),
    ],
)
def test_wrong_usage(fails: Any, arguments: tuple[str, ...], words: str) -> None:
    code, sentence = fails(*arguments)
    assert code == 2
    assert words in sentence


def test_wrong_recipes(fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = project(tmp_path)
    code, sentence = fails("harvest", recipe, "--set", "harvest.smaples=1")
    assert code == 2
    assert sentence.endswith("unknown key 'harvest.smaples'; did you mean 'harvest.samples'?")
    code, sentence = fails("harvest", recipe, "--shard", "3/2")
    assert (code, "--shard wants i/n" in sentence) == (2, True)
    code, sentence = fails("harvest", recipe, "--set", "teacher.t.provider=depseek")
    assert (code, "Unknown provider 'depseek'; did you mean 'deepseek'?" in sentence) == (2, True)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    code, sentence = fails("harvest", recipe, "--set", "teacher.t.api_key_env=NO_SUCH_KEY")
    assert (code, "NO_SUCH_KEY, which is not set: export NO_SUCH_KEY=" in sentence) == (2, True)
    for verb, words in (("train", "no [student] table"), ("evaluate", "no [evaluate] table")):
        code, sentence = fails(verb, recipe)
        assert (code, words in sentence) == (2, True), sentence
    assert not any(path.read_bytes() for path in tmp_path.rglob("part-*.jsonl"))


# --- errors: exit code 1


def test_missing_and_broken_files(fails: Any, tmp_path: Path) -> None:
    code, sentence = fails("run", tmp_path / "no.toml")
    assert (code, "There is no recipe" in sentence) == (1, True)
    code, sentence = fails("status", tmp_path)
    assert (code, "is no run folder" in sentence) == (1, True)
    recipe = project(tmp_path)
    for verb in ("status", "report"):
        code, sentence = fails(verb, recipe)
        assert (code, "harvest first" in sentence) == (1, True)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "p.jsonl").write_text("")
    code, sentence = fails("harvest", recipe)
    assert (code, "p.jsonl holds no problem" in sentence) == (1, True)
    (tmp_path / "p.jsonl").write_text('{"question": "a"}\n{"answer": "b"}\n')
    code, sentence = fails("harvest", recipe)
    assert (code, "p.jsonl:2: the row has no question" in sentence) == (1, True)
    run = tmp_path / "broken"
    run.mkdir()
    (run / "recipe.resolved.json").write_text("{")
    code, sentence = fails("status", run)
    assert (code, "recipe.resolved.json is broken" in sentence) == (1, True)


def test_files_in_the_way(fails: Any, tmp_path: Path) -> None:
    recipe = project(tmp_path)
    (tmp_path / "runs").write_text("a file")
    code, sentence = fails("harvest", recipe)
    assert (code, "runs" in sentence) == (1, True)


def test_internal_errors_are_one_sentence(
    says: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Any
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by \x1b[31mzero\n")

    made = SyntheticRun(tmp_path)
    monkeypatch.setattr("r1distill.run.open_run", broken)
    code, sentence = fails("status", made.run.folder)
    assert code == 1
    assert "Internal error: ZeroDivisionError: by" in sentence
    assert "\x1b" not in sentence
    code, _, err = says("status", made.run.folder, "-v")
    assert code == 1
    assert "Traceback" in err

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "file.txt")

    monkeypatch.setattr("r1distill.run.open_run", full)
    code, sentence = fails("status", made.run.folder)
    assert (code, "file.txt can't be used: No space left on device" in sentence) == (1, True)


def test_interrupt(fails: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("r1distill.run.open_run", stopped)
    code, sentence = fails("status", tmp_path)
    assert code == 130
    assert "goes on from here" in sentence


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "r1distill", "recipe", "--explain"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


# --- success, and what is still owed


def test_harvest_filter_report_status(says: Any, tmp_path: Path) -> None:
    with FakeTeacher(
        lambda r: answer("\\boxed{2}" if "1+1" in r.text else "\\boxed{5}", reasoning="so")
    ) as teacher:
        recipe = project(tmp_path, teacher.base_url)
        code, out, err = says("harvest", recipe, "--limit", "3", "--json")
        assert (code, json.loads(out)["still_owed"], out.count("\n")) == (3, 1, 1)
        assert "1 answer is still owed" in err
        code, out, err = says("harvest", recipe, "-q")
        assert (code, out, err) == (0, "", "")
        code, out, _ = says("filter", recipe, "--json")
        assert (code, json.loads(out)["kept"]) == (0, 1)
        code, out, _ = says("report", tmp_path / "runs" / "x", "--json")
        assert (code, json.loads(out)["sections"]) == (0, ["harvest", "filter"])
        code, out, err = says("status", tmp_path / "runs" / "x", "--json")
        assert (code, json.loads(out)["owed"]) == (0, 0)
        assert "2 problems, 4 answers wanted: 4 there, 0 still owed" in err
        code, out, _ = says("run", recipe, "--json")
        assert (code, list(json.loads(out)["stages"])) == (0, ["harvest", "filter", "report"])
        assert teacher.count == 4


def test_a_teacher_that_fails_leaves_slots_owed(says: Any, tmp_path: Path) -> None:
    with FakeTeacher(error(503, "busy")) as teacher:
        code, out, _ = says("harvest", project(tmp_path, teacher.base_url), "--json")
    assert (code, json.loads(out)["still_owed"]) == (3, 4)


@pytest.mark.parametrize("verb", ["run", "harvest"])
def test_dry_run_writes_nothing(says: Any, tmp_path: Path, verb: str) -> None:
    recipe = project(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = says(verb, recipe, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)
    assert "would ask for 4" in err
    assert sorted(tmp_path.rglob("*")) == before


def test_dry_runs_of_a_whole_run_change_nothing(says: Any, tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.all()
    says("status", made.run.folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for verb in ("harvest", "filter", "report"):
        code, _, _ = says(verb, made.run.folder, "--dry-run")
        assert code == 0, verb
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path for path in before if after[path] != before[path]] == []


def test_nothing_kept(fails: Any, tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest()
    code, sentence = fails("filter", made.run.folder, "--set", "filter.checks.length.max_tokens=1")
    assert code == 1
    assert "No trace is left after filtering: of 36 traces length removed 36" in sentence


def test_filter_files(says: Any, tmp_path: Path) -> None:
    row = {"question": "1+1?", "response": "<think>\nso\n</think>\n\n\\boxed{2}", "ground_truth": "2"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    code, out, _ = says("filter", tmp_path / "t.jsonl", "--to", tmp_path / "out", "--json")
    assert (code, json.loads(out)["kept"]) == (0, 1)


def test_init_and_recipe(says: Any, tmp_path: Path) -> None:
    code, out, err = says("init", tmp_path / "demo", "--example", "hosted")
    assert (code, out) == (0, "")
    assert f"Next: r1distill harvest --dry-run {tmp_path / 'demo' / 'recipe.toml'}" in err
    code, out, _ = says("recipe", tmp_path / "demo" / "recipe.toml", "--set", "harvest.samples=9")
    assert (code, json.loads(out)["harvest"]["samples"]) == (0, 9)
    code, out, _ = says("recipe", "--explain")
    assert code == 0
    assert "harvest.samples  (whole number, default 4)" in out
