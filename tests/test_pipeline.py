"""The whole job against a fake teacher: every stage once, then nothing to do, and what a stop in the middle leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import FakeTeacher, Request, answer, error

from r1distill import pipeline
from r1distill.errors import NothingKeptError, RecipeError, StopRunError
from r1distill.pipeline import Preview, check_recipe, run_all
from r1distill.problems import load_problems
from r1distill.recipe import Recipe, parse_recipe
from r1distill.run import Run
from r1distill.show import Show

PROBLEMS = 4


def solve(request: Request) -> Any:
    """Right for every number but 3; says so with hostile characters."""
    number = int("".join(c for c in request.text if c.isdigit()))
    said = 7 if number == 3 else number
    return answer(f"It is \\boxed{{{said}}}.", reasoning=f"Look\x1b[31m: {number}.")


@pytest.fixture
def project(tmp_path: Path) -> Any:
    rows = [{"id": f"p{n}", "question": f"Say {n}.", "answer": str(n)} for n in range(PROBLEMS)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.jinja").write_text("{{ question }}")

    def recipe(base_url: str, **more: Any) -> Recipe:
        teacher = {"provider": "openai-compatible", "base_url": base_url, "model": "m"}
        data = {
            "name": "x", "prompts": {"problems": "p.jsonl", "template": "t.jinja"}, "teacher": {"t": teacher},
            "harvest": {"samples": 1}, "filter": {"workers": 1}, **more,
        }  # fmt: skip
        return parse_recipe(data, folder=tmp_path)

    return recipe


def test_run_all_and_again(project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "runs" / "x")
    with FakeTeacher(solve) as teacher:
        recipe = project(teacher.base_url)
        summary = run_all(recipe, run, show=Show())
        told = capsys.readouterr().err
        assert teacher.count == PROBLEMS
        assert list(summary.stages) == list(summary.elapsed_s) == ["harvest", "filter", "report"]
        assert (summary.stages["filter"]["kept"], summary.still_owed, summary.interrupted) == (
            PROBLEMS - 1,
            0,
            False,
        )
        assert (run.folder / "report.html").exists()
        for words in (
            "== harvest",
            "first trace kept",
            "first trace rejected (correct: ",
            "the reference is 3",
            "== report",
        ):
            assert words in told, words
        assert "\x1b" not in told

        again = run_all(recipe, run, show=Show())
        assert teacher.count == PROBLEMS
        assert again.stages["filter"]["up_to_date"]
        assert capsys.readouterr().err.count("up to date") == 1


def test_dry_run_writes_nothing(project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    run = Run(tmp_path / "runs" / "x")
    summary = run_all(project("http://127.0.0.1:9/v1"), run, dry_run=True, show=Show())
    assert summary.stages["harvest"]["still_owed"] == PROBLEMS
    assert "Can't be told before" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_kept_ends_the_job(project: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "x")
    with (
        FakeTeacher(answer("It is \\boxed{99}.", reasoning="No.")) as teacher,
        pytest.raises(NothingKeptError, match="correct removed 4"),
    ):
        run_all(project(teacher.base_url), run)
    assert not (run.folder / "report.html").exists()


def test_a_refusing_teacher_stops_the_job(project: Any, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "x")
    with FakeTeacher(error(401, "bad key")) as teacher, pytest.raises(StopRunError, match="bad key"):
        run_all(project(teacher.base_url, harvest={"samples": 1, "max_in_flight": 1}), run)
    assert not (run.folder / "filter").exists()


def test_an_interrupted_harvest_stops_the_job(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import msgspec

    from r1distill.harvest import HarvestSummary

    def interrupted(*_: Any, **__: Any) -> HarvestSummary:
        return HarvestSummary(prompts=4, wanted=4, had=0, still_owed=3, interrupted=True)

    monkeypatch.setattr(pipeline, "harvest", interrupted)
    summary = run_all(project("http://127.0.0.1:9/v1"), Run(tmp_path / "x"), show=Show())
    assert (list(summary.stages), summary.interrupted, summary.still_owed) == (["harvest"], True, 3)
    assert "The same command goes on from here" in capsys.readouterr().err
    assert msgspec.json.encode(summary)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"filter": {"checks": {"corect": {}}}}, "did you mean 'correct'?"),
        (
            {"filter": {"checks": {"length": {"max_token": 5}}}},
            "unknown key 'max_token'; did you mean 'max_tokens'?",
        ),
        ({"student": {"base": "embedded", "template": "gone.jinja"}}, "There is no template"),
        ({"teacher": {"t": {"provider": "depseek", "model": "m"}}}, "did you mean 'deepseek'?"),
        ({"teacher": {"t": {"provider": "openai-compatible", "model": "m"}}}, "teacher.t needs a base_url"),
    ],
)
def test_faults_of_later_stages_are_found_before_anything_is_asked(
    project: Any, more: Any, words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(project("http://127.0.0.1:9/v1", **more))
    assert words in str(caught.value)


def test_preview_leaves_a_users_own_check_alone(project: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from r1distill.checks import Check\n"
        "class Own(Check):\n    def measure(self, prompt, trace):\n        raise OSError\n"
        "    def judge(self, value):\n        raise OSError\n"
    )
    recipe = project(
        "http://127.0.0.1:9/v1", filter={"checks": {"mine": {"use": "own.py:Own"}, "finish": {}}}
    )
    assert list(Preview(recipe, load_problems(recipe)[0], Show(0)).checks) == ["finish"]
