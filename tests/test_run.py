"""Run folders: small files are written whole, stages are found again, the last five are kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from r1distill import ledger
from r1distill import run as module
from r1distill.errors import InputError, RecipeError, StorageError
from r1distill.ledger import Ledger
from r1distill.recipe import load_recipe, parse_recipe
from r1distill.records import Message, Prompt, Trace
from r1distill.run import Run, open_run, read_json, stage_id

RECIPE = """name = "r"
[prompts]
problems = "data/p.jsonl"
[harvest]
samples = 3
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    path = tmp_path / "project" / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_stage_id_depends_on_settings_and_the_set_of_inputs() -> None:
    assert stage_id({"a": 1}, ["x", "y"]) == stage_id({"a": 1}, ["y", "x"]) == "052f7c1eae68"
    assert len({stage_id({"a": 1}, ["x"]), stage_id({"a": 2}, ["x"]), stage_id({"a": 1}, ["x", "x"])}) == 3


def test_manifest_is_whole_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "r")
    assert run.manifest() == {}
    run.update_manifest("harvest", {"traces": 1})
    run.update_manifest("filter", {"kept": "ä"})
    assert run.manifest() == {"harvest": {"traces": 1}, "filter": {"kept": "ä"}}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.os, "fsync", full)
        with pytest.raises(StorageError, match="no space left"):
            run.update_manifest("harvest", {"traces": 2})
    assert run.manifest()["harvest"] == {"traces": 1}


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff", ""])
def test_broken_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"manifest\.json is broken .*; remove it and run the command again"):
        Run(tmp_path).manifest()


def test_read_json_without_a_file(tmp_path: Path) -> None:
    assert read_json(tmp_path / "no") is None
    (tmp_path / "file").write_text("")
    assert read_json(tmp_path / "file" / "summary.json") is None


def finish(run: Run, name: str, second: int) -> None:
    run.finish_stage("filter", name, {"stage_id": name})
    os.utime(run.stage("filter", name) / "summary.json", (second, second))


def test_latest_and_the_last_five(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.latest("filter") is None
    run.stage("filter", "unfinished").mkdir(parents=True)
    for second, name in enumerate("abcdefg"):
        finish(run, name, second)
        found = run.latest("filter")
        assert found is not None
        assert (found[0].name, found[1]) == (name, {"stage_id": name})
    names = {path.name for path in (tmp_path / "filter").iterdir()}
    assert names == {*"cdefg", "latest", "unfinished"}
    assert (tmp_path / "filter" / "latest").readlink() == Path("g")
    finish(run, "c", 9)  # an old one comes back
    assert {path.name for path in (tmp_path / "filter").iterdir()} == names
    assert run.manifest()["filter"] == {"stage_id": "c"}


def test_latest_survives_a_move(tmp_path: Path) -> None:
    finish(Run(tmp_path / "a"), "x", 1)
    (tmp_path / "a").rename(tmp_path / "b")
    found = Run(tmp_path / "b").latest("filter")
    assert found is not None
    assert found[0] == tmp_path / "b" / "filter" / "x"
    shutil.rmtree(found[0])
    assert Run(tmp_path / "b").latest("filter") is None


def test_open_recipe(recipe_file: Path) -> None:
    recipe, run = open_run(recipe_file, overrides=("harvest.samples=5",))
    assert (recipe.harvest.samples, run.folder) == (5, recipe_file.parent / "runs" / "r")
    assert open_run(recipe_file, recipe_file.parent / "other")[1].folder == recipe_file.parent / "other"
    assert not run.folder.exists()


def test_open_run_folder(recipe_file: Path, tmp_path: Path) -> None:
    recipe, run = open_run(recipe_file, overrides=("harvest.samples=5",))
    run.save_recipe(recipe)
    assert (run.folder / "recipe.toml").read_text() == RECIPE
    again, same = open_run(run.folder, overrides=("harvest.max_attempts=2",))
    assert (again.harvest.samples, again.harvest.max_attempts, same.folder) == (5, 2, run.folder)
    assert again.path("data/p.jsonl") == recipe_file.parent / "data/p.jsonl"
    run.save_recipe(again)  # came from the folder, so what is there stays
    assert json.loads((run.folder / "recipe.resolved.json").read_text())["harvest"]["max_attempts"] == 6

    (tmp_path / "project").rename(tmp_path / "moved")
    moved, _ = open_run(tmp_path / "moved" / "runs" / "r")
    assert moved.path("data/p.jsonl") == tmp_path / "moved" / "data/p.jsonl"


def test_run_folder_elsewhere_finds_the_recipes_files(recipe_file: Path, tmp_path: Path) -> None:
    recipe, run = open_run(recipe_file, tmp_path / "elsewhere" / "deep")
    run.save_recipe(recipe)
    assert open_run(run.folder)[0].path("x") == recipe_file.parent / "x"
    assert str(tmp_path) not in (run.folder / "manifest.json").read_text()


def test_a_recipe_from_python_is_saved_too(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "r")
    run.save_recipe(parse_recipe({"name": "r", "harvest": {"samples": 2}}, folder=tmp_path))
    recipe, _ = open_run(run.folder)
    assert (recipe.harvest.samples, recipe.folder) == (2, tmp_path)
    assert not (run.folder / "recipe.toml").exists()


def test_what_is_no_run_is_said(tmp_path: Path, recipe_file: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        open_run(tmp_path)
    with pytest.raises(InputError, match="There is no recipe"):
        open_run(tmp_path / "nothing")
    run = Run(tmp_path / "r")
    run.save_recipe(load_recipe(recipe_file))
    (run.folder / "recipe.resolved.json").write_text('{"name": "x", "nmae": 1}')
    with pytest.raises(RecipeError, match="nmae"):
        open_run(run.folder)


def test_prompts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(InputError, match="has no problems yet"):
        run.prompts()
    run.save_prompts([Prompt("a", "ä?"), Prompt("b", "b?")])
    assert [p.id for p in run.prompts()] == ["a", "b"]
    (tmp_path / "prompts.jsonl").write_text('{"id": "a", "question": "q"}\n{"id": 5}\n')
    with pytest.raises(InputError, match=r"prompts\.jsonl: the row at byte 29"):
        run.prompts()


def test_read_traces(tmp_path: Path) -> None:
    run = Run(tmp_path)
    traces = [
        Trace(
            id=f"i{n}", slot=f"s{n}", prompt_id="p", sample=n, teacher="t", model="m", messages=[Message("user", "ä")],
            reasoning="", answer=str(n), finish="stop",
        )
        for n in range(3)
    ]  # fmt: skip
    with Ledger(run.ledger_folder("traces") / "part-1-of-1.jsonl") as file:
        for trace in traces:
            file.append(trace)
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        refs = [index.newest("traces")[f"s{n}"] for n in (2, 0)]
    assert [trace for _, trace in run.read_traces("traces", refs)] == [traces[2], traces[0]]
    part = run.ledger_folder("traces") / "part-1-of-1.jsonl"
    part.write_bytes(part.read_bytes().replace(b'"finish"', b'"fixish"'))
    with pytest.raises(InputError, match=r"part-1-of-1\.jsonl: the row at byte \d+ can't be read"):
        list(run.read_traces("traces", refs))


def test_log_files_and_shards(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.log_file("teacher-a") == tmp_path / "logs" / "teacher-a.log"
    assert run.failures_file("traces").relative_to(tmp_path) == Path("failures.jsonl")
    assert run.failures_file("traces", (2, 8)).name == "failures-2-of-8.jsonl"
    assert run.failures_file("evaluate").relative_to(tmp_path) == Path("evaluate/failures.jsonl")
    assert module.KEPT_STAGES == 5
