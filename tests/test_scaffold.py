"""init: all files are written, nothing is overwritten, and what it writes can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1distill.errors import InputError, R1DistillError, UsageError
from r1distill.exam import problem_sets
from r1distill.pipeline import check_recipe
from r1distill.problems import load_problems
from r1distill.prompts import load_template
from r1distill.recipe import load_recipe
from r1distill.scaffold import EXAMPLES, init


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_loads_and_checks(tmp_path: Path, example: str) -> None:
    files = init(tmp_path / "new" / "demo", example)
    assert files[0] == tmp_path / "new" / "demo" / "recipe.toml"
    on_disk = {path for path in (tmp_path / "new" / "demo").rglob("*") if path.is_file()}
    assert on_disk == set(files)
    recipe = load_recipe(files[0])
    check_recipe(recipe)
    problems, warnings = load_problems(recipe)
    assert problems
    assert warnings == []
    for name in EXAMPLES[example]:
        assert load_template(f"prompts/{name}.jinja", recipe).messages(problems[0])
    if recipe.evaluate is not None:
        files_named = recipe.evaluate.problems
        for name in files_named.values() if isinstance(files_named, dict) else [files_named]:
            assert recipe.path(name).is_file()


@pytest.mark.parametrize("there", ["recipe.toml", "data/problems.jsonl", "prompts/math.jinja"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already, and nothing is overwritten"):
        init(tmp_path, "hosted")
    assert path.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no example 'x'; there are arithmetic, hosted"):
        init(tmp_path, "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(R1DistillError, match="file"):
        init(tmp_path / "file", "hosted")


def test_the_hosted_example_has_all_that_the_readme_walks_through(tmp_path: Path) -> None:
    init(tmp_path / "hosted", "hosted")
    recipe = load_recipe(tmp_path / "hosted" / "recipe.toml")
    assert recipe.student is not None
    assert recipe.evaluate is not None
    assert len(load_problems(recipe)[0]) == 12
    assert {len(problems) for problems in problem_sets(recipe, recipe.evaluate).values()} == {6}
