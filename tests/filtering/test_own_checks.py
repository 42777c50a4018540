"""A check of the user's own: whatever it gives back, its traces are UNJUDGED and the filter goes on; a kill loses little."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from r1distill.cli import main
from r1distill.errors import RecipeError
from r1distill.filter import FilterSummary, filter_files
from r1distill.recipe import parse_recipe

HEAD = "import sys, time\nfrom r1distill.checks import *\nfrom r1distill.checks import Check, Judgement\n"
MEASURE = "    def measure(self, prompt, trace): return {'n': len(trace.answer)}\n"
JUDGE = "    def judge(self, value): return passed(f'n = {value}')\n"


def source(body: str) -> str:
    """A check with a method of ours; what it lacks is sound."""
    text = f"{HEAD}class Mine(Check):\n    {body}\n"
    text += MEASURE if "def measure" not in body else ""
    return text + (JUDGE if "def judge" not in body else "")


def traces(folder: Path, count: int = 3) -> Path:
    rows = [
        {"question": f"q{n}?", "response": f"<think>so</think>\\boxed{{{n}}}", "finish_reason": "stop"}
        for n in range(count)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "t.jsonl"


def filtered(
    folder: Path, body: str, workers: int = 1, alone: bool = False, **keywords: Any
) -> FilterSummary:
    (folder / "mine.py").write_text(source(body))
    checks = {"mine": {"use": "mine.py:Mine", "unjudged": "keep"}} | ({} if alone else {"length": {}})
    data = {"name": "r", "filter": {"workers": workers, "checks": checks}}
    recipe = parse_recipe(data, folder=folder)
    return filter_files([folder / "t.jsonl"], folder / "out", recipe, **keywords)


def said(folder: Path) -> set[tuple[str, str]]:
    rows = [json.loads(line) for line in (folder / "out/verdicts.jsonl").read_text().splitlines()]
    return {(row["outcome"], row["reason"]) for row in rows if row["check"] == "mine"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("def judge(self, value): return None", "TypeError"),
        ("def judge(self, value): return 'fine'", "TypeError"),
        ("def judge(self, value): return ('PASS', None, 'ok', '')", "TypeError"),
        ("def judge(self, value): return {'unmeasured': 3}", "TypeError"),
        ("def judge(self, value): return Judgement('MAYBE', None, 'hi')", "ValueError"),
        ("def judge(self, value): return Judgement(['PASS'], None, 'hi')", "ValueError"),
        ("def judge(self, value): return Judgement('PASS', None, 5)", "TypeError"),
        ("def judge(self, value): return Judgement('PASS', 'high', 'ok')", "ValueError"),
        ("def judge(self, value): return passed('\\ud800')", "UnicodeEncodeError"),
        ("def judge(self, value): return passed(score=float('nan'))", "ValueError"),
        ("def judge(self, value): return passed(score=float('inf'))", "ValueError"),
        ("def judge(self, value): sys.exit(3)", "SystemExit"),
        ("def judge_all(self, rows, name): return [None] * len(rows)", "TypeError"),
        ("def judge_all(self, rows, name): return [('PASS', None, 'ok', '')] * len(rows)", "TypeError"),
        ("def judge_all(self, rows, name): return [Judgement([], None, 'x')] * len(rows)", "ValueError"),
        ("def judge_all(self, rows, name): return [passed(score=float('nan')) for _ in rows]", "ValueError"),
        ("def judge_all(self, rows, name): return None", "TypeError"),
        ("def judge_all(self, rows, name): return (1 // 0 for _ in rows)", "ZeroDivisionError"),
        ("def judge_all(self, rows, name): sys.exit(3)", "SystemExit"),
        ("def measure(self, prompt, trace): sys.exit(3)", "SystemExit"),
        ("def measure(self, prompt, trace): return b'{}'", "TypeError"),
        ("def measure(self, prompt, trace): return {'n': float('nan')}", "ValueError"),
        ("def measure(self, prompt, trace): return {'n': [1.5, None, {'m': (float('-inf'),)}]}", "ValueError"),
    ],
)  # fmt: skip
def test_what_is_no_judgement_or_no_measurement(body: str, error: str, tmp_path: Path) -> None:
    traces(tmp_path)
    summary = filtered(tmp_path, body)
    assert said(tmp_path) == {("UNJUDGED", f"mine: error: {error}")}
    assert summary.kept == 3
    assert any("mine" in note and error in note for note in summary.notes)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def judge_all(self, rows, name): return (passed('one') for _ in rows)", "one"),
        ("def judge_all(self, rows, name): return tuple(passed('one', True) for _ in rows)", "one"),
        ("def judge(self, value): return Judgement('PASS', 10**30, 'big')", "big"),
        ("def measure(self, prompt, trace): return {'n': None, 'm': ('null', 0.5)}", "n = {'n': None, 'm': ['null', 0.5]}"),
    ],
)  # fmt: skip
def test_what_is_odd_and_sound(body: str, reason: str, tmp_path: Path) -> None:
    traces(tmp_path)
    assert not filtered(tmp_path, body).notes
    assert said(tmp_path) == {("PASS", f"mine: {reason}")}


def test_one_bad_judgement_of_a_set_is_its_own(tmp_path: Path) -> None:
    traces(tmp_path)
    body = "def judge_all(self, rows, name): return [passed(), None, Judgement('PASS', None, 'ok')]"
    summary = filtered(tmp_path, body)
    assert said(tmp_path) == {("PASS", "mine: ok"), ("UNJUDGED", "mine: error: TypeError")}
    assert next(row for row in summary.funnel if row.check == "mine").unjudged == 1


@pytest.mark.parametrize("flag", ["anywhere", "in_worker"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("sys.exit(3)", "SystemExit"),
        ("return {'n': float('nan')}", "ValueError"),
        ("return None", "TypeError"),
    ],
)
def test_the_same_in_worker_processes(flag: str, body: str, error: str, tmp_path: Path) -> None:
    traces(tmp_path)
    filtered(tmp_path, f"{flag} = True\n    def measure(self, prompt, trace): {body}", workers=2)
    assert said(tmp_path) == {("UNJUDGED", f"mine: error: {error}")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("from threading import Thread\nclass Mine(Check):\n    z: Thread | None = None\n" + MEASURE + JUDGE,
         "can't be loaded: PydanticSchemaGenerationError"),
        ("class Mine(Check):\n    z: 'Undefined' = 1\n" + MEASURE + JUDGE, "can't be loaded: "),
        ("class Mine(Check):\n" + MEASURE, "Mine has no method judge (or judge_all)."),
        ("class Mine(Check):\n" + JUDGE, "Mine has no method measure."),
    ],
)  # fmt: skip
def test_a_class_that_is_no_whole_check(text: str, words: str, tmp_path: Path) -> None:
    traces(tmp_path)
    (tmp_path / "mine.py").write_text(HEAD + text)
    recipe = parse_recipe(
        {"name": "r", "filter": {"checks": {"mine": {"use": "mine.py:Mine"}}}}, folder=tmp_path
    )
    with pytest.raises(RecipeError) as caught:
        filter_files([tmp_path / "t.jsonl"], tmp_path / "out", recipe)
    assert str(caught.value).startswith(f"filter.checks.mine: {tmp_path}/mine.py") and words in str(
        caught.value
    )


def test_what_a_check_prints_is_no_part_of_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces(tmp_path)
    (tmp_path / "mine.py").write_text(
        source("def judge(self, value):\n        print('HELLO')\n        return passed()")
    )
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[filter]\nworkers = 1\n[filter.checks.mine]\nuse = "mine.py:Mine"\n'
    )
    files = [str(tmp_path / "t.jsonl"), "--to", str(tmp_path / "out"), "--recipe", str(tmp_path / "r.toml")]
    assert main(["filter", *files, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["kept"] == 3
    assert "HELLO" in said.err


@pytest.mark.parametrize(
    "method", ["prepared(self, folder, checks)", "reads(self, prompt)", "keeps(self, judgement)", "notes(self)",
               "measuring(self)", "settled(self, value)", "compares(self)"]
)  # fmt: skip
@pytest.mark.parametrize("body", ["raise ValueError('oops')", "sys.exit(3)"])
def test_an_error_about_the_check_itself_is_one_sentence(method: str, body: str, tmp_path: Path) -> None:
    traces(tmp_path)
    filtered(tmp_path, "min_n: int = 0")
    before = (tmp_path / "out/verdicts.jsonl").read_bytes()
    name = method.partition("(")[0]
    with pytest.raises(RecipeError) as caught:
        filtered(tmp_path, f"def {method}: {body}")
    error = "ValueError: oops" if "oops" in body else "SystemExit: 3"
    assert (
        str(caught.value)
        == f"{tmp_path}/mine.py, line 5: {name}() raised {error}. The check has to be mended."
    )
    assert (tmp_path / "out/verdicts.jsonl").read_bytes() == before


def test_a_file_that_ends_the_program_is_an_error_of_its_own(tmp_path: Path) -> None:
    traces(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(RecipeError, match=r"can't be loaded: SystemExit: 3"):
        filtered(tmp_path, "n: int = sys.exit(3)")


PROGRAM = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[2])
from r1distill.filtering import measuring; measuring.SAVE_EVERY_S = 0.1
from test_own_checks import filtered
filtered(Path(sys.argv[1]), sys.argv[3])
"""


@pytest.mark.parametrize("flag", ["in_worker = True\n    ", ""])
def test_a_kill_within_a_batch_loses_seconds_and_not_the_batch(flag: str, tmp_path: Path) -> None:
    traces(tmp_path, 400)
    log = tmp_path / "log"
    body = (
        f"{flag}def measure(self, prompt, trace):\n        with open({str(log)!r}, 'a') as f: f.write('.')\n"
    )
    body += "        time.sleep(0.05)\n        return {}"
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), here, body])
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.stat().st_size >= 20:
                break
            time.sleep(0.02)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    known = filtered(tmp_path, body, alone=True, dry_run=True)
    assert known.measured + known.cached == 400
    assert 5 <= known.cached <= log.stat().st_size


IN_BATCHES = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[2])
from r1distill.filtering import measure, measuring; measuring.SAVE_EVERY_S = 0.3; measure.BATCH = 40
from test_own_checks import filtered
filtered(Path(sys.argv[1]), sys.argv[3], workers=2)
"""


def test_kills_cost_seconds_too_when_many_batches_wait_for_jobs(tmp_path: Path) -> None:
    """The jobs of several batches are under way at once; `length` is measured ahead by the workers."""
    traces(tmp_path, 600)
    log, here = tmp_path / "log", str(Path(__file__).parent)
    body = (
        "in_worker = True\n    def measure(self, prompt, trace):\n"
        f"        with open({str(log)!r}, 'a') as f: f.write('.')\n        time.sleep(0.02)\n        return {{}}"
    )
    log.touch()
    for _ in range(3):
        process, before = (
            subprocess.Popen([sys.executable, "-c", IN_BATCHES, str(tmp_path), here, body]),
            log.stat().st_size,
        )
        try:
            deadline = time.monotonic() + 60
            while (
                process.poll() is None and time.monotonic() < deadline and log.stat().st_size < before + 150
            ):
                time.sleep(0.02)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    assert filtered(tmp_path, body, workers=2).traces == 600
    # 0.3 s of two workers are 30 traces for each kill; without saving all batches it would be some 150.
    assert 600 <= log.stat().st_size <= 600 + 3 * 75


def test_a_threshold_of_ones_own_check_measures_nothing(tmp_path: Path) -> None:
    """The check that README shows."""
    traces(tmp_path)
    body = "measure_settings = ()\n    least: int = {}\n    def judge(self, value): return passed(str(self.least))"
    assert filtered(tmp_path, body.format(1)).measured == 6
    checks = {"mine": {"use": "mine.py:Mine", "least": 2}, "length": {}}
    again = parse_recipe({"name": "r", "filter": {"workers": 1, "checks": checks}}, folder=tmp_path)
    assert filter_files([tmp_path / "t.jsonl"], tmp_path / "out", again).measured == 0
    assert said(tmp_path) == {("PASS", "mine: 2")}
