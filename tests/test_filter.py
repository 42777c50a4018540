"""The filter verb on a run folder: outputs, cache, resume, funnel, and what it says when nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1distill.asking.owed import harvest_wanted
from r1distill.checks.finish import Finish
from r1distill.errors import InputError, NothingKeptError
from r1distill.filter import FilterSummary, filter
from r1distill.filtering import measure
from r1distill.ledger import Ledger
from r1distill.problems import load_problems
from r1distill.recipe import Recipe, parse_recipe
from r1distill.records import Trace, Usage, trace_id_of
from r1distill.run import Run

PROBLEMS = [
    {"id": "a", "question": "What is 9 * 2?", "answer": "18"},
    {"id": "b", "question": "What is 1 + 1?", "answer": "2"},
    {"id": "c", "question": "Name a root of x^2 - 2.", "answer": r"\sqrt{2}"},
    {"id": "d", "question": "Say it.", "answer": "7"},
]
SAMPLES = {
    "a": ["The answer is 18.", "So \\boxed{18}.", "The answer is 19.", "about 18 then"],
    "b": ["\\boxed{2}", "\\boxed{2}", "\\boxed{3}", ""],
    "c": ["\\boxed{2^{1/2}}", "\\boxed{\\sqrt{3}}", "\\boxed{2^{1/2}}", "\\boxed{9^{9^{9^{9}}}}"],
    "d": ["\\boxed{7}", "\\boxed{7} ", "The answer is 7.", "\\boxed{7}<|im_end|>"],
}


class World:
    """A recipe and a run folder that a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data: dict[str, Any] = {
            "name": "r",
            "prompts": {"problems": "problems.jsonl", "template": "t.jinja"},
            "teacher": {
                "t": {"provider": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
            },
            "filter": {
                "workers": 1,
                "checks": {name: {} for name in ("finish", "format", "length", "duplicate")},
            },
        }
        self.data["filter"]["checks"]["correct"] = {"timeout_s": 0.3}
        (folder / "t.jinja").write_text(
            "<|system|>\nBe brief.\n<|user|>\nQ\n<|assistant|>\nA\n<|user|>\nSolve: {{ question }}"
        )
        self.write_problems(PROBLEMS)
        self.run = Run(folder / "runs" / "r")

    def write_problems(self, rows: list[dict[str, Any]]) -> None:
        (self.folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def recipe(self) -> Recipe:
        return parse_recipe(self.data, folder=self.folder)

    def harvest(self, answers: dict[str, list[str]] = SAMPLES, **changes: Any) -> None:
        prompts, _ = load_problems(self.recipe)
        self.run.save_prompts(prompts)
        with Ledger(self.run.ledger_folder("traces") / "part-1-of-1.jsonl") as ledger:
            for wanted in harvest_wanted(self.recipe, prompts):
                answer = answers[wanted.prompt_id][wanted.sample]
                fields: dict[str, Any] = {
                    "id": trace_id_of(wanted.slot, None), "slot": wanted.slot, "prompt_id": wanted.prompt_id,
                    "sample": wanted.sample, "teacher": "t", "model": "m", "messages": wanted.messages,
                    "reasoning": f"Thinking about {wanted.prompt_id}.", "answer": answer, "finish": "stop",
                    "usage": Usage(9, 20 + wanted.sample),
                }  # fmt: skip
                ledger.append(Trace(**{**fields, **changes}))

    def filter(self, **keywords: Any) -> FilterSummary:
        return filter(self.recipe, self.run, **keywords)

    def rows(self, name: str) -> list[dict[str, Any]]:
        text = (self.run.folder / "filter" / "latest" / f"{name}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def bytes(self) -> dict[str, bytes]:
        folder = (self.run.folder / "filter" / "latest").resolve()
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


@pytest.fixture
def world(tmp_path: Path) -> World:
    pytest.importorskip("math_verify")
    return World(tmp_path)


@pytest.fixture
def harvested(world: World) -> World:
    world.harvest()
    return world


@pytest.fixture
def cheap(world: World) -> World:
    """Without algebra, so that no worker is started."""
    world.harvest({**SAMPLES, "c": ["\\boxed{\\sqrt{2}}"] * 4})
    return world


def test_outputs(harvested: World) -> None:
    summary = harvested.filter()
    assert (summary.traces, summary.kept, summary.rejected, summary.unjudged) == (16, 6, 10, 1)
    funnel = {row.check: row for row in summary.funnel}
    assert list(funnel) == ["finish", "format", "length", "duplicate", "correct"]
    correct = funnel["correct"]
    assert (correct.passed, correct.failed, correct.unjudged, correct.removed) == (10, 5, 1, 6)
    assert (funnel["duplicate"].removed, funnel["duplicate"].removed_only_by_this) == (3, 3)
    assert summary.reasons == {
        "duplicate: exact": 3, "correct: wrong": 3, "correct: answer not marked as final": 1, "correct: no answer found": 1,
        "correct: timeout": 1, "format: control token <|im_end|>": 1, "format: no answer after the reasoning": 1,
    }  # fmt: skip
    verdicts = harvested.rows("verdicts")
    assert len(verdicts) == 16 * 5 and all(row["reason"] for row in verdicts)
    assert set(verdicts[0]) == {"trace_id", "check", "outcome", "score", "reason"}
    kept, rejected = harvested.rows("kept"), harvested.rows("rejected")
    source = (harvested.run.ledger_folder("traces") / "part-1-of-1.jsonl").read_bytes()
    files = harvested.bytes()
    assert sorted((files["kept.jsonl"] + files["rejected.jsonl"]).splitlines()) == sorted(source.splitlines())
    assert {row["trace_id"] for row in harvested.rows("reasons")} == {row["id"] for row in rejected}
    assert len(kept) == len(harvested.rows("train")) + len(harvested.rows("val"))
    manifest = harvested.run.manifest()["filter"]
    assert manifest["stage_id"] == summary.stage_id and manifest["funnel"][0]["check"] == "finish"


def test_training_rows_have_the_students_prompt(cheap: World) -> None:
    cheap.filter()
    row = next(row for row in cheap.rows("train") + cheap.rows("val") if "18" in str(row))
    assert row["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Solve: What is 9 * 2?"},
    ]
    assert row["completion"] == [
        {"role": "assistant", "content": "<think>\nThinking about a.\n</think>\n\nThe answer is 18."}
    ]


def test_same_again_is_nothing_to_do(cheap: World) -> None:
    first = cheap.filter()
    again = cheap.filter()
    assert again.up_to_date and not first.up_to_date
    assert (again.stage_id, again.kept, again.funnel) == (first.stage_id, first.kept, first.funnel)
    cheap.data["filter"]["workers"] = 2
    assert cheap.filter().up_to_date


def test_same_bytes_with_any_number_of_workers_and_without_the_index(harvested: World) -> None:
    harvested.filter()
    first = harvested.bytes()
    stage = (harvested.run.folder / "filter" / "latest").resolve()
    for workers in (2, 3):
        (harvested.run.folder / "index.sqlite").unlink()
        (stage / "summary.json").unlink()
        harvested.data["filter"]["workers"] = workers
        again = harvested.filter()
        assert again.measured == 80 and again.cached == 0
        assert harvested.bytes() == first


def test_a_changed_threshold_measures_nothing(cheap: World) -> None:
    first = cheap.filter()
    assert (first.measured, first.cached) == (80, 0)
    cheap.data["filter"]["checks"]["length"] = {"max_tokens": 21}
    cheap.data["filter"]["checks"]["correct"]["extraction"] = "lenient"
    second = cheap.filter()
    assert (second.measured, second.cached) == (0, 80)
    assert second.kept != first.kept and second.stage_id != first.stage_id
    assert {path.name for path in (cheap.run.folder / "filter").iterdir()} == {
        "latest",
        first.stage_id,
        second.stage_id,
    }


def test_a_corrected_reference_measures_its_traces_only(cheap: World) -> None:
    before = cheap.filter()
    cheap.write_problems([{**row, "answer": "19"} if row["id"] == "a" else row for row in PROBLEMS])
    after = cheap.filter()
    assert (after.measured, after.cached) == (4, 76)
    assert before.kept - after.kept == 1  # two were right before, one is now


def test_other_answers_under_the_same_slots_are_measured_anew(cheap: World) -> None:
    before = cheap.filter()
    (cheap.run.ledger_folder("traces") / "part-1-of-1.jsonl").unlink()
    cheap.harvest({**SAMPLES, "c": ["\\boxed{\\sqrt{2}}"] * 4, "a": ["The answer is 81.", *SAMPLES["a"][1:]]})
    after = cheap.filter()
    assert after.stage_id != before.stage_id and (after.measured, after.cached) == (5, 75)
    assert before.kept - after.kept == 1
    assert not [row for row in cheap.rows("train") + cheap.rows("val") if "answer is 81" in str(row)]


def test_an_added_check_costs_only_itself(cheap: World) -> None:
    cheap.filter()
    (cheap.folder / "mine.py").write_text(
        "from r1distill.checks import Check, failed, passed\n"
        "class Brief(Check):\n"
        "    max_chars: int = 1000\n"
        "    def measure(self, prompt, trace): return {'chars': len(trace.reasoning)}\n"
        "    def judge(self, value): return passed() if value['chars'] < self.max_chars else failed('wordy')\n"
    )
    cheap.data["filter"]["checks"]["brief"] = {"use": "mine.py:Brief", "max_chars": 5}
    with pytest.raises(NothingKeptError, match=r"brief removed 16"):
        cheap.filter()
    assert cheap.run.manifest()["filter"]["measured"] == 16


def test_an_error_in_a_check_is_unjudged_and_told(cheap: World) -> None:
    source = "from r1distill.checks import Check, passed\nclass Odd(Check):\n"
    (cheap.folder / "odd.py").write_text(
        source
        + "    def measure(self, prompt, trace): return {'n': 1 // len(trace.answer)}\n"
        + "    def judge(self, value): return passed()\n"
    )
    cheap.data["filter"]["checks"]["odd"] = {"use": "odd.py:Odd", "unjudged": "keep"}
    summary = cheap.filter()
    odd = next(row for row in summary.funnel if row.check == "odd")
    assert (odd.unjudged, odd.removed) == (1, 0)
    assert "odd" in summary.notes[0] and "ZeroDivisionError" in summary.notes[0]
    bad = [row for row in cheap.rows("verdicts") if row["reason"] == "odd: error: ZeroDivisionError"]
    assert len(bad) == 1 and bad[0]["outcome"] == "UNJUDGED"


def test_a_stuck_check_of_ones_own_is_killed(cheap: World) -> None:
    (cheap.folder / "slow.py").write_text(
        "from r1distill.checks import Check, passed\n"
        "class Slow(Check):\n"
        "    timeout_s: float = 0.3\n"
        "    in_worker = True\n"
        "    def measure(self, prompt, trace):\n"
        "        while 'The answer is 19' in trace.answer: pass\n"
        "        return {'prompt': prompt.id}\n"
        "    def judge(self, value): return passed(value['prompt'])\n".replace(
            "    in_worker", "    in_worker: 'ClassVar[bool]'"
        ).replace("import Check, passed\n", "import Check, passed\nfrom typing import ClassVar\n")
    )
    cheap.data["filter"]["checks"]["slow"] = {"use": "slow.py:Slow"}
    summary = cheap.filter()
    assert summary.reasons["slow: timeout"] == 1
    assert next(row for row in summary.funnel if row.check == "slow").passed == 15


def test_interrupted_measuring_resumes(cheap: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BATCH", 5)
    calls = 0

    def interrupted(self: Finish, prompt: Any, trace: Trace) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return {"finish": trace.finish}

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Finish, "measure", interrupted)
        cheap.filter()
    assert not list((cheap.run.folder / "filter").glob("*/*"))
    summary = cheap.filter()
    assert (summary.cached, summary.measured) == (50, 30)


def test_selection(cheap: World) -> None:
    cheap.data["filter"]["select"] = {"per_prompt": 1, "prefer": "shortest", "val_fraction": 0.0}
    summary = cheap.filter()
    assert (summary.train, summary.val, summary.prompts_covered, summary.prompts) == (4, 0, 4, 4)
    assert summary.not_selected == summary.kept - 4
    chosen = [row["completion"][0]["content"].split("\n\n")[1] for row in cheap.rows("train")]
    assert chosen == ["So \\boxed{18}.", "\\boxed{2}", "\\boxed{\\sqrt{2}}", "\\boxed{7}"]
    spare = [row for row in cheap.rows("reasons") if not row["rejected"]]
    assert len(spare) == summary.not_selected and spare[0]["reasons"] == ["select: more than per_prompt"]
    cheap.data["filter"]["select"]["prefer"] = "longest"
    cheap.filter()
    assert cheap.rows("train")[0]["completion"][0]["content"].endswith("The answer is 18.")


def test_split_is_by_problem_and_never_empties_train(cheap: World) -> None:
    seen = set()
    for seed in range(6):
        cheap.data["filter"]["select"] = {"val_fraction": 0.5, "seed": seed}
        summary = cheap.filter()
        train, val = ({str(row["prompt"]) for row in cheap.rows(name)} for name in ("train", "val"))
        assert not train & val and train and len(train | val) == 4
        seen.add((summary.train, summary.val))
    assert len(seen) > 1
    assert len([p for p in (cheap.run.folder / "filter").iterdir() if not p.is_symlink()]) == 5


def test_a_new_trace_costs_only_itself(cheap: World) -> None:
    cheap.data["harvest"] = {"samples": 3}
    assert cheap.filter().measured == 4 * 3 * 5
    cheap.data["harvest"] = {"samples": 4}
    summary = cheap.filter()
    assert (summary.measured, summary.cached) == (4 * 5, 4 * 3 * 5)


def test_a_changed_check_costs_only_itself(cheap: World) -> None:
    source = (
        "from r1distill.checks import Check, passed\n"
        "class Mine(Check):\n"
        "    def measure(self, prompt, trace): return {'n': NUMBER}\n"
        "    def judge(self, value): return passed(str(value['n']))\n"
    )
    cheap.data["filter"]["checks"]["mine"] = {"use": "mine.py:Mine"}
    for number, measured in ((1, 96), (2, 16)):
        (cheap.folder / "mine.py").write_text(source.replace("NUMBER", str(number)))
        summary = cheap.filter()
        assert summary.measured == measured
        assert {r["reason"] for r in cheap.rows("verdicts") if r["check"] == "mine"} == {f"mine: {number}"}


def test_what_correct_could_not_measure_is_not_known_to_others(harvested: World) -> None:
    """Sample 3 of problem c times out: its own verdicts say so, its neighbours are judged without it."""
    harvested.data["filter"]["checks"] |= {"difficulty": {"min_samples": 3}, "agreement": {}}
    summary = harvested.filter()
    assert (
        summary.reasons["difficulty: correct: timeout"] == summary.reasons["agreement: correct: timeout"] == 1
    )
    funnel = {row.check: row for row in summary.funnel}
    assert (funnel["difficulty"].unjudged, funnel["agreement"].unjudged) == (1, 1)
    verdicts = {(row["trace_id"], row["check"]): row for row in harvested.rows("verdicts")}
    timed_out = next(row["trace_id"] for row in verdicts.values() if row["reason"] == "correct: timeout")
    lines = (harvested.run.ledger_folder("traces") / "part-1-of-1.jsonl").read_text().splitlines()
    of_c = [row["id"] for row in map(json.loads, lines) if row["prompt_id"] == "c"]
    assert timed_out == of_c[3]
    assert [verdicts[one, "difficulty"]["score"] for one in of_c] == [0.667, 0.667, 0.667, None]
    assert [verdicts[one, "agreement"]["score"] for one in of_c] == [0.667, 0.333, 0.667, None]


def test_odd_values_of_a_check_of_ones_own(cheap: World) -> None:
    (cheap.folder / "odd.py").write_text(
        "from r1distill.checks import Check, passed\n"
        "class Odd(Check):\n"
        "    def measure(self, prompt, trace):\n"
        "        return {'a': {'n': float('nan')}, 'b': None, 'c': {'n': object()}, 'd': {'n': (1, 2)}}[prompt.id]\n"
        "    def judge(self, value): return passed(repr(value['n']))\n"
    )
    cheap.data["filter"]["checks"]["odd"] = {"use": "odd.py:Odd", "unjudged": "keep"}
    said: list[set[tuple[str, str]]] = []
    for maximum in (10_000, 20_000):  # fresh measurements and cached ones say the same
        cheap.data["filter"]["checks"]["length"] = {"max_tokens": maximum}
        cheap.filter()
        odd = [row for row in cheap.rows("verdicts") if row["check"] == "odd"]
        said.append({(row["outcome"], row["reason"]) for row in odd})
    assert said[0] == said[1] == {
        ("UNJUDGED", "odd: error: ValueError"), ("PASS", "odd: [1, 2]"), ("UNJUDGED", "odd: error: TypeError"),
    }  # fmt: skip


def test_nothing_kept(cheap: World) -> None:
    cheap.data["filter"]["checks"] = {"length": {"max_tokens": 1}, "correct": {}}
    with pytest.raises(NothingKeptError) as caught:
        cheap.filter()
    text = str(caught.value)
    assert text.startswith(
        "No trace is left after filtering: of 16 traces length removed 16, correct removed "
    )
    assert "length: over 1 tokens" in text and caught.value.exit_code == 1
    assert (
        cheap.rows("train") == [] and len(cheap.rows("rejected")) == 16 and len(cheap.rows("verdicts")) == 32
    )
    with pytest.raises(NothingKeptError):
        cheap.filter()


def test_a_check_that_can_judge_nothing_names_the_cure(world: World) -> None:
    world.harvest({**SAMPLES, "c": ["\\boxed{\\sqrt{2}}"] * 4}, finish="unknown")
    with pytest.raises(NothingKeptError) as caught:
        world.filter()
    assert (
        'finish can\'t judge any of them: unjudged = "keep" in [filter.checks.finish] lets them pass.'
        in str(caught.value)
    )
    world.data["filter"]["checks"]["finish"] = {"unjudged": "keep"}
    assert world.filter().kept


def test_a_selection_that_leaves_nothing_is_named(cheap: World) -> None:
    cheap.write_problems([{**row, "tags": {"topic": "sums"}} for row in PROBLEMS])
    cheap.data["filter"]["select"] = {"caps": {"topic": {"sums": 0}}}
    with pytest.raises(NothingKeptError) as caught:
        cheap.filter()
    assert str(caught.value) == (
        "No trace is left to train on: 6 of 16 traces passed every check, and the selection took none of them "
        "(cap of topic=sums: 6); see [filter.select]."
    )


def test_no_traces(world: World) -> None:
    world.run.save_prompts(load_problems(world.recipe)[0])
    with pytest.raises(InputError, match="harvest first"):
        world.filter()


def test_dry_run_writes_nothing(cheap: World) -> None:
    def listing() -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in cheap.folder.rglob("*"))

    before = listing()
    summary = cheap.filter(dry_run=True)
    assert summary.dry_run and (summary.traces, summary.measured, summary.cached) == (16, 80, 0)
    assert listing() == before
    cheap.filter()
    before = listing()
    assert cheap.filter(dry_run=True).up_to_date
    cheap.data["filter"]["checks"]["length"] = {"min_tokens": 3}
    assert cheap.filter(dry_run=True).cached == 80
    assert listing() == before


def test_traces_of_earlier_recipes(cheap: World) -> None:
    cheap.data["harvest"] = {"samples": 2}
    summary = cheap.filter()
    assert (summary.traces, summary.from_earlier_recipes) == (8, 8)
    cheap.data["filter"]["traces"] = "all"
    assert cheap.filter().traces == 16
    cheap.write_problems(PROBLEMS[:2])
    summary = cheap.filter()
    assert (summary.traces, summary.unknown_problem, summary.prompts) == (16, 0, 4)
    cheap.run.save_prompts(load_problems(cheap.recipe)[0])
    summary = cheap.filter()
    assert (summary.traces, summary.unknown_problem) == (8, 8)


def test_the_newest_trace_of_a_slot_counts(cheap: World) -> None:
    cheap.harvest(
        {**SAMPLES, "c": ["\\boxed{\\sqrt{2}}"] * 4, "a": ["The answer is 18."] + ["\\boxed{18}"] * 3},
        max_tokens=9,
        id="x",
    )
    summary = cheap.filter()
    assert summary.traces == 16


def test_a_finished_answer_counts_more_than_a_longer_cut_one(cheap: World) -> None:
    before = cheap.filter()
    cheap.harvest({name: ["cut"] * 4 for name in SAMPLES}, max_tokens=9, id="x", finish="length")
    cheap.harvest({name: ["cut"] * 4 for name in SAMPLES}, max_tokens=None, id="y", finish="length")
    assert cheap.filter().kept == before.kept


def test_parts_of_killed_processes_are_swept(cheap: World) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    before = cheap.filter()
    folder = cheap.run.folder / "filter" / before.stage_id
    (folder / "summary.json").unlink()
    alive, other = folder / f"kept.jsonl.{os.getppid()}.part", folder / f"notes.{done.pid}.part"
    for path in (folder / f"kept.jsonl.{done.pid}.part", alive, other):
        path.write_text("half")
    assert not cheap.filter().up_to_date
    assert sorted(folder.glob("*.part")) == sorted([alive, other])
    alive.unlink()
    other.unlink()


def test_broken_lines_are_counted(cheap: World) -> None:
    path = cheap.run.ledger_folder("traces") / "part-1-of-1.jsonl"
    with path.open("ab") as file:
        file.write(b'{"id": "x", "slot": 5}\n{"torn')
    summary = cheap.filter()
    assert summary.traces == 16 and summary.unreadable == 1
    assert "part-1-of-1.jsonl" in summary.notes[0]


@pytest.fixture(autouse=True)
def _no_parts_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.part"))
