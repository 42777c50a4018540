"""Taking over the traces of another run."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher, Request, answer, error
from small_run import KEY, KEY_VARIABLE, SmallRun
from test_import_logprobs import record_of, texts_of

from r1distill.errors import InputError, UsageError
from r1distill.filter import filter
from r1distill.import_summary import lines
from r1distill.importing import import_runs
from r1distill.logprobs.store import LogprobStore
from r1distill.recipe import parse_recipe
from r1distill.run import Run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallRun]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)

    def act(request: Request) -> object:
        return (
            error(400, code="content_filter") if "What is 5 " in request.text else answer("42", reasoning="r")
        )

    with FakeTeacher(act) as server:  # type: ignore[arg-type]
        made = SmallRun(tmp_path, server.base_url, problems=6)
        made.server = server  # type: ignore[attr-defined]
        made.harvest()
        yield made


def other(world: SmallRun) -> Run:
    world.run = Run(world.folder / "runs" / "other")
    return world.run


def test_what_another_run_paid_for_is_not_asked_again(world: SmallRun) -> None:
    source = world.run.folder
    before = sorted((source / "traces" / "part-1-of-1.jsonl").read_bytes().splitlines())
    summary = import_runs([source], other(world))
    assert (summary.files, summary.traces, summary.had, summary.failures) == (1, 10, 0, 2)
    count = world.server.count  # type: ignore[attr-defined]
    assert world.harvest().asked == 0
    assert world.server.count == count  # type: ignore[attr-defined]
    (part,) = world.run.folder.glob("traces/part-import-*.jsonl")
    assert sorted(part.read_bytes().splitlines()) == before


def test_importing_again_adds_nothing(world: SmallRun) -> None:
    source, run = world.run.folder, other(world)
    import_runs([source], run)
    again = import_runs([source, source], run)
    assert (again.traces, again.had, again.failures) == (0, 20, 0)
    moved = world.folder / "moved"
    shutil.copytree(source, moved)
    assert import_runs([moved], run).traces == 0


def test_a_dry_run_takes_nothing(world: SmallRun) -> None:
    source, run = world.run.folder, other(world)
    assert import_runs([source], run, dry_run=True).traces == 10
    assert not run.folder.exists()


def test_imported_money_is_not_this_runs(world: SmallRun) -> None:
    source = world.run.folder
    world.teacher["price"] = {"input": 1.0, "output": 100.0}
    import_runs([source], other(world))
    world.data["harvest"]["budget_usd"] = 0.0001
    assert world.harvest().spent_usd == 0


def test_what_is_no_trace_is_told_and_left(world: SmallRun) -> None:
    source = world.run.folder
    path = source / "traces" / "part-1-of-1.jsonl"
    path.write_bytes(b"no json\n" + path.read_bytes())
    summary = import_runs([path], other(world))
    assert summary.traces == 10
    assert summary.unreadable == [f"{path}: byte 0"]


def test_a_file_without_a_trace_is_refused_in_one_sentence(world: SmallRun) -> None:
    recipe = world.folder / "recipe.toml"
    recipe.write_text('name = "r"\n[teacher.t]\nmodel = "m"\n')
    run = other(world)
    with pytest.raises(InputError, match=r"No trace can be read from .*recipe\.toml") as told:
        import_runs([world.folder / "runs" / "r", recipe], run)
    assert "\n" not in str(told.value)
    assert not run.folder.exists()  # refused before anything is taken over
    empty = world.folder / "part-2-of-2.jsonl"
    empty.touch()
    assert import_runs([empty], run).traces == 0


def test_a_few_unreadable_rows_are_named_and_the_others_counted(world: SmallRun) -> None:
    path = world.run.folder / "traces" / "part-1-of-1.jsonl"
    path.write_bytes(b"no json\n" * 8 + path.read_bytes())
    summary = import_runs([path], other(world))
    assert summary.unreadable == [f"{path}: byte {8 * number}" for number in range(5)]
    assert summary.unreadable_rows == 8
    told = lines(summary)
    assert len(told) == 6
    assert told[-1] == "... and 3 more rows that are no trace of ours."


def test_how_many_traces_the_recipe_wants(world: SmallRun) -> None:
    source = world.run.folder
    assert import_runs([source], other(world), dry_run=True).wanted is None
    summary = import_runs([source], world.run, world.recipe, dry_run=True)
    assert (summary.traces, summary.wanted) == (10, 10)
    world.data["harvest"]["samples"] = 1
    assert import_runs([source], world.run, world.recipe, dry_run=True).wanted == 5
    world.teacher["model"] = "another"
    summary = import_runs([source], world.run, world.recipe)
    assert (summary.traces, summary.wanted) == (10, 0)
    assert lines(summary) == [
        "Wanted by this recipe: 0 of 10 traces: other teacher, model, template, problems or sampling."
    ]
    world.teacher["model"] = "m"
    again = import_runs([source], world.run, world.recipe)  # what was there is not counted
    assert (again.had, again.wanted, lines(again)) == (10, 0, [])


def test_an_import_does_not_need_the_recipes_problems(world: SmallRun) -> None:
    source, run = world.run.folder, other(world)
    (world.folder / "problems.jsonl").unlink()
    summary = import_runs([source], run, world.recipe)
    assert (summary.traces, summary.wanted) == (10, None)


def test_log_probabilities_come_along(world: SmallRun) -> None:
    source, run = world.run.folder, other(world)
    with LogprobStore(source / "logprobs", "part-1-of-1") as store:
        store.append("a", "slot", record_of("kept"))
    assert import_runs([source], run, dry_run=True).logprob_files == 1
    assert not run.folder.exists()
    assert import_runs([source], run).logprob_files == 1
    assert texts_of(run) == {"a": "kept"}
    assert import_runs([source], run).logprob_files == 0


def test_what_is_no_run(world: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder with traces"):
        import_runs([tmp_path / "nowhere"], other(world))
    with pytest.raises(UsageError, match="name another one"):
        import_runs([world.run.folder], world.run)


def test_shards_join_by_copying(world: SmallRun) -> None:
    """Two machines harvest a shard each; the files of one are copied to the other."""
    first, second = Run(world.folder / "a"), Run(world.folder / "b")
    for run, shard in ((first, (1, 2)), (second, (2, 2))):
        world.run = run
        world.harvest(shard=shard)
    shutil.copytree(second.folder / "traces", first.folder / "traces", dirs_exist_ok=True)
    for path in second.folder.glob("failures-*.jsonl"):
        shutil.copy(path, first.folder)
    world.run = first
    assert world.harvest().asked == 0
    assert set(world.slots().values()) == {1}


THEIRS = [
    {"question": f"What is {i} + 1?", "response": f"<think>{i} and 1</think>\nThe answer is {i + 1}.", "source": "made",
     "finish_reason": "stop"}
    for i in (1, 2, 30)
]  # fmt: skip


def theirs(folder: Path, name: str = "theirs.jsonl", rows: list[dict[str, str]] = THEIRS) -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def test_files_of_others_join_a_run_and_are_filtered_with_it(world: SmallRun) -> None:
    source = theirs(world.folder)
    source.write_bytes(source.read_bytes() + b"{torn\n")
    summary = import_runs([source], world.run, world.recipe)
    assert (summary.files, summary.traces, summary.had, summary.from_files, summary.skipped) == (
        1,
        3,
        0,
        3,
        1,
    )
    listed = json.loads(Path(summary.skipped_file).read_text())
    assert (listed["file"], listed["line"]) == (str(source), 4)
    told = lines(summary)
    assert told[-1] == "From files of others: 3 traces; filter uses all of them."
    assert "1 lines can't be read as traces and are listed in skipped-files-" in told[0]
    again = import_runs([source], world.run, world.recipe)
    assert (again.traces, again.had) == (0, 3)
    world.data["filter"] = {"checks": {"correct": {"without_reference": "drop"}}}
    found = filter(world.recipe, world.run)
    # The first two questions stand in the recipe too, with references; the third has none.
    assert (found.traces, found.kept, found.reasons["correct: no reference"]) == (13, 2, 1)


def test_files_alone_make_a_run(world: SmallRun) -> None:
    run = other(world)
    data = {
        "name": "r",
        "filter": {"checks": {"format": {}}},
        "student": {"base": "x", "template": "t.jinja"},
    }
    recipe = parse_recipe(data, folder=world.folder)
    assert import_runs([theirs(world.folder)], run, recipe).traces == 3
    assert {p.tags["source"] for p in run.prompts()} == {"made"}
    assert filter(recipe, run).kept == 3


def test_imported_traces_go_on_to_another_run_with_their_problems(world: SmallRun) -> None:
    first, recipe = other(world), parse_recipe({"name": "r"}, folder=world.folder)
    rows = [{**row, "reference": "7"} for row in THEIRS]
    import_runs([theirs(world.folder, rows=rows)], first, recipe)
    (part,) = (first.folder / "traces").glob("part-*.jsonl")
    for place in (first.folder, part):
        run = Run(world.folder / "runs" / f"third-{place.name}")
        summary = import_runs([place], run, recipe)
        assert (summary.traces, summary.from_files) == (3, 3)
        (copy,) = (run.folder / "traces").glob("part-*.jsonl")
        assert copy.read_bytes() == part.read_bytes()
        assert [p.answer for p in run.prompts()] == ["7"] * 3
        assert import_runs([place], run, recipe).traces == 0


def test_our_own_traces_packed(world: SmallRun) -> None:
    part = world.run.folder / "traces" / "part-1-of-1.jsonl"
    packed = world.folder / "part.jsonl.gz"
    packed.write_bytes(gzip.compress(part.read_bytes()))
    run = other(world)
    assert import_runs([packed], run).traces == 10
    assert import_runs([packed, world.folder / "runs" / "r"], run).traces == 0
    (copy,) = (path for path in (run.folder / "traces").glob("part-*.jsonl") if path.stat().st_size)
    assert sorted(copy.read_bytes().splitlines()) == sorted(part.read_bytes().splitlines())
    assert world.harvest().asked == 0


def test_a_dry_run_of_files_writes_nothing(world: SmallRun) -> None:
    run = other(world)
    assert import_runs([theirs(world.folder)], run, world.recipe, dry_run=True).traces == 3
    assert not list(run.folder.glob("**/*.jsonl"))


def test_by_format_and_map(world: SmallRun) -> None:
    rows = [{"q": row["question"], "a": row["response"]} for row in THEIRS]
    path = theirs(world.folder, "odd.jsonl", rows)
    run = other(world)
    with pytest.raises(InputError, match="fields seen are: q, a"):
        import_runs([path], run)
    with pytest.raises(UsageError, match="no format 'nix'"):
        import_runs([path], run, format="nix")
    assert not run.folder.exists()
    assert import_runs([path], run, columns={"question": "q", "answer": "a"}).traces == 3


def test_a_conversation_of_several_turns_does_not_join_a_run(world: SmallRun) -> None:
    """Its student would be asked the last question alone."""
    turns = [
        ("user", "Hello."),
        ("assistant", "Hello!"),
        ("user", "What is 1 + 1?"),
        ("assistant", "<think>r</think>2"),
    ]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    path = world.folder / "turns.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(THEIRS[0])}\n")
    summary = import_runs([path], other(world))
    assert (summary.traces, summary.skipped) == (1, 1)
    assert "a conversation of several turns" in Path(summary.skipped_file).read_text()
