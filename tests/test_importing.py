"""Taking over the traces of another run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher, Request, answer, error
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.errors import InputError, UsageError
from r1distill.importing import import_runs
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
