"""status: counts what is there, writes nothing but its cache, works with half of the files gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_run import SyntheticRun

from r1distill.errors import InputError
from r1distill.ledger import Ledger
from r1distill.recipe import load_recipe
from r1distill.records import Failure
from r1distill.run import open_run
from r1distill.show import Show
from r1distill.status import status, tell


def test_status_of_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = SyntheticRun(tmp_path)
    made.all()
    state = status(made.recipe, made.run)
    assert (state.prompts, state.wanted, state.owed) == (12, 36, 0)
    assert state.teachers[0]["traces"] == 36
    assert (state.there, state.failed, state.given_up) == (
        36,
        0,
        [],
    )  # the failed request was of another recipe
    assert set(state.stages) == {"filter", "train", "evaluate"}
    tell(state, Show())
    err = capsys.readouterr().err
    for words in (
        "12 problems, 36 answers wanted: 36 there, 0 still owed",
        "r1",
        "$0.0360",
        f"train: {made.run.folder}",
    ):
        assert words in err, words


def test_what_is_owed_follows_the_recipe(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest(cost=None)
    more = load_recipe(tmp_path / "recipe.toml", ("harvest.samples=5",))
    assert (status(more, made.run).wanted, status(more, made.run).owed) == (60, 24)
    assert status(more, made.run).stages == {}


def test_status_beside_a_running_harvest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest(cost=None)
    part = made.run.ledger_folder("traces") / "part-1-of-1.jsonl"
    with part.open("ab") as file:
        file.write(b'not a row\n{"torn": ')
    with Ledger(made.run.folder / "other.jsonl"):
        state = status(made.recipe, made.run)
    assert (state.teachers[0]["traces"], len(state.unreadable)) == (36, 1)
    tell(state, Show())
    err = capsys.readouterr().err
    assert "cost unknown" in err
    assert "an unreadable row was passed over" in err
    assert part.read_bytes().endswith(b'{"torn": ')


def test_a_missing_template_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest()
    gone = load_recipe(tmp_path / "recipe.toml", ("prompts.template=gone.jinja",))
    state = status(gone, made.run)
    assert (state.wanted, state.owed, state.teachers[0]["traces"]) == (None, None, 36)
    tell(state, Show())
    assert "unknown answers wanted, unknown still owed" in capsys.readouterr().err


def test_the_index_may_be_deleted(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest()
    before = status(made.recipe, made.run)
    for path in made.run.folder.glob("index.sqlite*"):
        path.unlink()
    assert status(made.recipe, made.run) == before
    (made.run.folder / "index.sqlite").write_bytes(b"no data base")
    assert status(*open_run(made.run.folder)) == before


def test_no_run_yet(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    with pytest.raises(InputError, match="has no problems yet"):
        status(made.recipe, made.run)
    assert not made.run.folder.exists()


def test_what_is_there_failed_and_owed_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest()
    part = made.run.ledger_folder("traces") / "part-1-of-1.jsonl"
    rows = part.read_text().splitlines(keepends=True)
    slots = [json.loads(row)["slot"] for row in rows]
    part.write_text("".join(rows[5:]))
    (part.parent / "part-import-0123456789ab.jsonl").write_text(
        "".join(rows[4:7])
    )  # one of its own, two twice
    with Ledger(made.run.failures_file("traces")) as ledger:
        for slot, error_class, final in [
            (slots[0], "timeout", False), (slots[0], "server", False), (slots[1], "content_filter", True),
            (slots[1], "server", False), (slots[20], "timeout", False),
        ]:  # fmt: skip
            ledger.append(
                Failure(
                    slot=slot,
                    prompt_id="p",
                    sample=0,
                    teacher="r1",
                    error_class=error_class,
                    http_status=500,
                    attempts=1,
                    final=final,
                    message="no",
                    created="2026-11-22T00:00:00Z",
                )
            )
    state = status(made.recipe, made.run)
    assert (state.wanted, state.there, state.failed, state.owed) == (36, 32, 1, 3)
    assert {(g.error_class, g.final, g.count) for g in state.given_up} == {
        ("server", False, 1), ("content_filter", True, 1)
    }  # fmt: skip
    assert (state.traces, state.duplicates, state.imported, state.earlier) == (34, 2, 3, 0)
    assert (state.spent_usd, state.teachers[0]["own_cost_usd"]) == pytest.approx((0.031, 0.031))
    fewer = load_recipe(tmp_path / "recipe.toml", ("harvest.samples=1",))
    state = status(fewer, made.run)
    assert (state.wanted, state.there, state.earlier) == (12, 10, 22)
    tell(state, Show())
    err = capsys.readouterr().err
    for words in (
        "12 answers wanted: 10 there, 2 still owed",
        "22 more answers on disk, of earlier recipes",
        "2 duplicates",
        "3 traces imported",
        "Requests given up",
    ):
        assert words in err, words
