"""The tree itself: the import contract, what travels inside the wheel, one version, no path of anybody's machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import r1distill
from r1distill import shipped

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
SHOWN = ("r1distill", "prompts", "data", "scripts", "tests", "docs", ".ci")


def tree() -> list[Path]:
    """The files of the project that git would take."""
    found = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")]
    for name in SHOWN:
        found += [
            path for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
    return found


def test_import_contract() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_module_is_in_the_layers() -> None:
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    there = {
        f"r1distill.{path.stem}"
        for path in (ROOT / "r1distill").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"r1distill.__init__"}
    assert there == named


def test_the_wheel_holds_prompts_and_data(tmp_path: Path) -> None:
    """Lays out a site-packages folder as the build does, and starts a project from it far from the checkout."""
    for package in WHEEL["packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in WHEEL["force-include"].items():
        assert Path(target) == Path("r1distill/shipped") / source
        shutil.copytree(ROOT / source, tmp_path / target)
    code = (
        "import sys; from pathlib import Path; from r1distill.scaffold import init, EXAMPLES; from r1distill import shipped\n"
        "assert Path(shipped.__file__).is_relative_to(sys.argv[1])\n"
        "for name in EXAMPLES: init(Path(sys.argv[1]) / name, name)\n"
        "print(shipped.shipped_folder('prompts'), (Path(shipped.__file__).parent / 'report.html.jinja').exists())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "r1distill/shipped/prompts"), "True"]
    assert (tmp_path / "arithmetic" / "recipe.toml").exists()
    assert (tmp_path / "r1distill" / "py.typed").exists()


def test_in_a_checkout_the_shipped_folders_are_the_top_level_ones() -> None:
    assert shipped.shipped_folder("prompts") == ROOT / "prompts"
    assert shipped.shipped_folder("data") == ROOT / "data"


def test_one_version() -> None:
    assert PYPROJECT["project"]["version"] == r1distill.__version__


def test_all_names_of_the_package_are_there() -> None:
    for verb in (
        "harvest",
        "filter",
        "filter_files",
        "train",
        "evaluate",
        "report",
        "status",
        "load_recipe",
        "open_run",
    ):
        assert callable(getattr(r1distill, verb))
        assert verb in r1distill.__all__
    assert set(r1distill.__all__) <= set(vars(r1distill))


def test_no_path_of_a_machine() -> None:
    pattern = re.compile(rb"(?<![\w.])/(?:home|root|Users|work|tmp/w)/[\w.]")
    ours = Path(__file__)
    hits = [
        f"{path.relative_to(ROOT)}: {match[0]!r}"
        for path in tree()
        if path != ours
        for match in [pattern.search(path.read_bytes())]
        if match
    ]
    assert hits == []


def test_scripts_are_sound() -> None:
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        if path.suffix == "" and path.is_file():
            assert os.access(path, os.X_OK), path
            assert path.read_text().startswith("#!/usr/bin/env bash\n")
            assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
