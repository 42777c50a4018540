"""What is imported first changes no verdict: each trace is judged by the reference of its own row."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from r1distill.filter import FilterSummary, filter
from r1distill.import_summary import ImportSummary
from r1distill.imported_problems import imported_id, imported_problems, question_id
from r1distill.importing import import_runs
from r1distill.recipe import Recipe, parse_recipe
from r1distill.records import Prompt, prompt_id_of
from r1distill.run import Run

QUESTION = "What is 3 + 4?"
ROWS: dict[str, dict[str, Any]] = {
    "none": {"answer": "7"},
    "seven": {"answer": "8", "reference": "7"},
    "seven again": {"answer": "7", "reference": "7"},
    "nine": {"answer": "9", "reference": "9"},
    "licensed": {"answer": "7", "license": "mit"},
}
WITH_ONE = {"none": "PASS", "seven": "FAIL", "seven again": "PASS", "licensed": "PASS"}
WITH_TWO = {"none": "UNJUDGED", "seven": "FAIL", "nine": "PASS"}


def write(folder: Path, name: str, **more: Any) -> Path:
    """A file of one row; its reasoning is its name."""
    row = {"question": QUESTION, "reasoning": name, **ROWS[name], **more}
    path = folder / f"{name.replace(' ', '-')}.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


def recipe_in(folder: Path, **more: Any) -> Recipe:
    (folder / "t.jinja").write_text("{{ question }}")
    data = {
        "name": "r",
        "filter": {"workers": 1, "checks": {"length": {}, "correct": {"without_reference": "keep"}}},
        "student": {"base": "x", "template": "t.jinja"},
        **more,
    }
    return parse_recipe(data, folder=folder)


class World:
    """A run in which files are imported one after the other."""

    def __init__(self, folder: Path, name: str, **more: Any) -> None:
        self.folder, self.run, self.recipe = folder, Run(folder / "runs" / name), recipe_in(folder, **more)

    def take(self, *places: Path) -> ImportSummary:
        return import_runs(list(places), self.run, self.recipe)

    def filter(self) -> FilterSummary:
        return filter(self.recipe, self.run)

    def verdicts(self) -> dict[str, str]:
        """What `correct` says of each row, by its name."""
        stage = Path(self.filter().folder)
        traces = [json.loads(line) for path in self.run.folder.glob("traces/*.jsonl") for line in path.open()]
        name_of = {trace["id"]: trace["reasoning"] for trace in traces}
        rows = [json.loads(line) for line in (stage / "verdicts.jsonl").open()]
        return {name_of[row["trace_id"]]: row["outcome"] for row in rows if row["check"] == "correct"}


@pytest.mark.parametrize("expected", [WITH_ONE, WITH_TWO], ids=["one reference", "two references"])
def test_any_order_gives_the_same_verdicts(tmp_path: Path, expected: dict[str, str]) -> None:
    files = [write(tmp_path, name) for name in expected]
    orders = list(itertools.permutations(files)) if len(files) == 3 else [files, files[::-1]]
    problems = []
    for number, order in enumerate(orders):
        world = World(tmp_path, f"r{number}")
        for path in order:
            world.take(path)
        assert world.verdicts() == expected
        problems.append({(p.id, p.answer) for p in world.run.prompts()})
    at_once = World(tmp_path, "at-once")
    at_once.take(*files)
    assert at_once.verdicts() == expected
    problems.append({(p.id, p.answer) for p in at_once.run.prompts()})
    assert len(set(map(frozenset, problems))) == 1


def test_several_references_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, "r")
    files = [write(tmp_path, name) for name in WITH_TWO]
    told = [note for path in files for note in world.take(path).notes]
    assert [note[:52] for note in told] == ["1 question from files with more than one reference: "]
    assert world.take(*files).notes == []
    before = sorted(path.read_bytes() for path in world.run.folder.glob("prompts*"))
    assert world.take(*files[::-1]).traces == 0
    assert sorted(path.read_bytes() for path in world.run.folder.glob("prompts*")) == before


def test_traces_without_a_reference_join_the_problem_that_has_one(tmp_path: Path) -> None:
    """So that its samples are counted together; another licence is another problem, with the same reference."""
    world = World(tmp_path, "r")
    world.take(*[write(tmp_path, name) for name in WITH_ONE])
    assert [(p.answer, p.tags) for p in world.run.prompts()] == [("7", {}), ("7", {"license": "mit"})]
    assert world.filter().prompts_covered == 2


def test_a_reference_that_comes_later_measures_its_own_traces_again(tmp_path: Path) -> None:
    world = World(tmp_path, "r")
    other = tmp_path / "other.jsonl"
    other.write_text(
        json.dumps({"question": "1 + 1?", "reasoning": "x", "answer": "2", "reference": "2"}) + "\n"
    )
    world.take(write(tmp_path, "none"), other)
    first = world.filter()
    assert (first.measured, first.unjudged) == (4, 1)
    world.take(write(tmp_path, "seven"))
    second = world.filter()
    assert (second.measured, second.cached, second.unjudged) == (
        3,
        3,
        0,
    )  # both of `seven`, and one of `none`


@pytest.mark.parametrize("packed", [False, True])
def test_traces_of_ours_come_before_their_problems(tmp_path: Path, packed: bool) -> None:
    """A file that was moved away from its run does not tell references; they come with the run."""
    first, second = World(tmp_path, "first"), World(tmp_path, "second")
    first.take(*[write(tmp_path, name) for name in WITH_TWO])
    lines = b"".join(path.read_bytes() for path in sorted(first.run.folder.glob("traces/part-*.jsonl")))
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(gzip.compress(lines) if packed else lines)
    second.take(moved)
    assert set(second.verdicts().values()) == {"UNJUDGED"}
    second.take(write(tmp_path, "nine"))  # its reference is not that of the others
    assert second.verdicts() == {"none": "FAIL", "seven": "UNJUDGED", "nine": "PASS"}
    assert second.take(first.run.folder).traces == 0
    assert second.verdicts() == WITH_TWO


@pytest.mark.parametrize("packed", [False, True])
def test_an_import_of_an_import_judges_as_the_first(tmp_path: Path, packed: bool) -> None:
    for name, expected in (("one", WITH_ONE), ("two", WITH_TWO)):
        first, second = World(tmp_path, f"{name}-1"), World(tmp_path, f"{name}-2")
        first.take(*[write(tmp_path, name) for name in expected])
        place = first.run.folder
        if packed:
            (part,) = place.glob("traces/part-*.jsonl")
            place = part.with_suffix(".jsonl.gz")
            place.write_bytes(gzip.compress(part.read_bytes()))
        second.take(place)
        assert second.verdicts() == first.verdicts() == expected
        assert imported_problems(second.run.folder) == imported_problems(first.run.folder)


def test_a_problem_of_the_recipe_counts_before_those_of_files(tmp_path: Path) -> None:
    """So that a reference can be corrected; one without a reference leaves that of the row."""
    problems = tmp_path / "problems.jsonl"
    for answer, expected in (("8", ["PASS", "FAIL"]), ("7", ["FAIL", "PASS"]), (None, ["FAIL", "PASS"])):
        problems.write_text(json.dumps({"id": "p", "question": QUESTION, "answer": answer}) + "\n")
        world = World(tmp_path, f"r{answer}", prompts={"problems": "problems.jsonl"})
        names = ["seven", "seven again"]
        world.take(*[write(tmp_path, name) for name in names])
        assert world.verdicts() == dict(zip(names, expected, strict=True))


def test_ids_say_all_that_makes_a_problem() -> None:
    plain = Prompt(prompt_id_of(QUESTION), QUESTION)
    others = [
        plain, Prompt(plain.id, QUESTION, "7"), Prompt(plain.id, QUESTION, "9"), Prompt(plain.id, QUESTION, "7", "text"),
        Prompt(plain.id, QUESTION, None, "code", ["assert 1"]), Prompt(plain.id, QUESTION, tags={"license": "mit"}),
        Prompt(plain.id, QUESTION, "7", tags={"license": "mit"}),
    ]  # fmt: skip
    ids = [imported_id(prompt) for prompt in others]
    assert ids[0] == plain.id and len(set(ids)) == len(ids)
    assert {question_id(one) for one in ids} == {plain.id}
    assert imported_id(Prompt(plain.id, QUESTION, "7", tags={"source": "x"})) == ids[1]
    assert question_id("p-1") == "p-1"


def test_what_an_earlier_version_imported_is_one_problem_with_what_comes_now(tmp_path: Path) -> None:
    """It stored a problem under the id of its question, whatever its reference was."""
    world = World(tmp_path, "r")
    world.take(write(tmp_path, "seven"))
    (new,) = imported_problems(world.run.folder)
    for path in [*world.run.folder.glob("prompts*.jsonl"), *world.run.folder.glob("traces/*.jsonl")]:
        path.write_text(path.read_text().replace(new, question_id(new)))
    (world.run.folder / "index.sqlite").unlink()
    world.take(write(tmp_path, "seven again"))
    assert world.verdicts() == {"seven": "FAIL", "seven again": "PASS"}
    assert [p.answer for p in world.run.prompts()] == ["7"]


def test_an_id_that_two_runs_use_for_two_references_is_told(tmp_path: Path) -> None:
    world, notes = World(tmp_path, "r"), []
    for name in ("seven", "nine"):
        folder = tmp_path / name
        (folder / "traces").mkdir(parents=True)
        row = {"id": "p", "question": QUESTION, "answer": ROWS[name]["reference"]}
        (folder / "prompts-files-x.jsonl").write_text(json.dumps(row) + "\n")
        trace = {"id": name, "slot": name, "prompt_id": "p", "sample": 0, "teacher": "t", "model": "m", "messages": [],
                 "reasoning": name, "answer": "7", "finish": "stop"}  # fmt: skip
        (folder / "traces" / "part-1-of-1.jsonl").write_text(json.dumps(trace) + "\n")
        notes.append(world.take(folder).notes)
    assert notes[0] == []
    assert [note[:38] for note in notes[1]] == ["1 problem of other runs under an id th"]
