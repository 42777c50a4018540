"""Which answers are wanted and owed: the rules of a slot, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.errors import RecipeError
from r1distill.index import TraceRef
from r1distill.owed import Wanted, harvest_wanted, is_settled, owed, teacher_parties
from r1distill.prompts import load_problems
from r1distill.recipe import Recipe, parse_recipe
from r1distill.records import Message, slot_of


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    rows = [{"id": f"p{i}", "question": f"Q{i}?"} for i in range(3)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.jinja").write_text("<|user|>\nSolve: {{ question }}")
    (tmp_path / "u.jinja").write_text("<|user|>\nAnswer: {{ question }}")
    teacher = {"provider": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    return {
        "name": "r", "prompts": {"problems": "problems.jsonl", "template": "t.jinja"}, "harvest": {"samples": 2},
        "teacher": {"t": {**teacher, "sampling": {"max_tokens": 9}}, "u": {**teacher, "template": "u.jinja"}},
    }  # fmt: skip


def wanted_of(data: dict[str, Any], folder: Path) -> tuple[Recipe, list[Wanted]]:
    recipe = parse_recipe(data, folder=folder)
    return recipe, list(harvest_wanted(recipe, load_problems(recipe)[0]))


def test_all_teachers_are_asked_with_their_own_words(data: dict[str, Any], tmp_path: Path) -> None:
    _, wanted = wanted_of(data, tmp_path)
    assert [(w.prompt_id, w.sample, w.teacher) for w in wanted] == [
        (f"p{p}", s, t) for p in range(3) for s in range(2) for t in "tu"]  # fmt: skip
    assert [w.messages[0].content for w in wanted[:2]] == ["Solve: Q0?", "Answer: Q0?"]
    assert [w.max_tokens for w in wanted[:2]] == [9, None]
    assert len({w.slot for w in wanted}) == 12
    assert wanted[0].slot == slot_of("t", "m", [Message("user", "Solve: Q0?")], {"max_tokens": 9}, 0)


def test_a_mix_asks_each_once_and_does_not_move(data: dict[str, Any], tmp_path: Path) -> None:
    data["harvest"]["assign"] = "mix"
    _, wanted = wanted_of(data, tmp_path)
    assert [(w.prompt_id, w.sample) for w in wanted] == [(f"p{p}", s) for p in range(3) for s in range(2)]
    data["harvest"]["samples"] = 40
    _, more = wanted_of(data, tmp_path)
    assert {w.slot for w in wanted} <= {w.slot for w in more}
    assert {w.teacher for w in more} == {"t", "u"}


def test_a_recipe_without_a_teacher(data: dict[str, Any], tmp_path: Path) -> None:
    data["teacher"] = {}
    with pytest.raises(RecipeError, match="no teacher"):
        teacher_parties(parse_recipe(data, folder=tmp_path))


def item(ceiling: int | None) -> Wanted:
    return Wanted("s", "p", 0, "t", "m", [], {} if ceiling is None else {"max_tokens": ceiling})


def have(finish: Any, ceiling: int | None) -> TraceRef:
    return TraceRef("s", "id", "part-1-of-1.jsonl", 0, 1, finish, ceiling, "content")


@pytest.mark.parametrize(
    ("asks", "trace", "settled"),
    [
        (100, None, False),
        (100, have("stop", 100), True),
        (200, have("stop", 100), True),
        (None, have("stop", 100), True),
        (200, have("unknown", 100), True),
        (200, have("content_filter", 100), True),
        (100, have("length", 100), True),
        (50, have("length", 100), True),
        (101, have("length", 100), False),
        (None, have("length", 100), False),
        (100, have("length", None), True),
        (None, have("length", None), True),
    ],
)
def test_when_a_slot_is_settled(asks: int | None, trace: TraceRef | None, settled: bool) -> None:
    assert is_settled(item(asks), trace) is settled


class FakeIndex:
    """Says what it is told."""

    def __init__(self, newest: dict[str, TraceRef], failed: set[str]) -> None:
        self._newest, self._failed = newest, failed

    def newest(self, ledger: str) -> dict[str, TraceRef]:
        return self._newest

    def final_failures(self, ledger: str) -> set[str]:
        return self._failed


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.booleans())
def test_owed_is_wanted_minus_had_once_each(
    asked: list[int], had: set[int], failed: set[int], retry: bool
) -> None:
    wanted = [item(100)._replace(slot=str(n)) for n in asked]
    index: Any = FakeIndex({str(n): have("stop", 100) for n in had}, {str(n) for n in failed})
    left, settled = owed(wanted, index, "traces", retry)
    assert [int(w.slot) for w in left] == list(
        dict.fromkeys(n for n in asked if n not in had | (set() if retry else failed))
    )
    assert settled + len(left) == len(set(asked))
