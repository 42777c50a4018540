"""Which answers are wanted and owed: the rules of a slot, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.asking.owed import (
    FAILED,
    HIGHER,
    OTHER,
    OUT,
    OWED,
    SETTLED,
    Plan,
    Wanted,
    harvest_plan,
    harvest_wanted,
    owed,
    state_of,
)
from r1distill.asking.parties import Party, teacher_parties
from r1distill.errors import RecipeError
from r1distill.index import Index
from r1distill.ledger import Ledger
from r1distill.problems import load_problems
from r1distill.prompts import Template
from r1distill.queries import Standing
from r1distill.recipe import Recipe, parse_recipe
from r1distill.recipe_sections import EscalateSection
from r1distill.records import Failure, Message, Prompt, Trace, slot_of, trace_id_of


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


NO = None
WHOLE, CUT_100, CUT_FREE = (
    Standing(True, None, False),
    Standing(False, 100, False),
    Standing(False, None, True),
)
TWICE = EscalateSection(factor=2.0, max_tokens=150)


@pytest.mark.parametrize(
    ("asks", "have", "escalate", "state"),
    [
        (100, NO, None, OWED),
        (100, WHOLE, None, SETTLED),
        (200, WHOLE, None, SETTLED),
        (None, WHOLE, None, SETTLED),
        (100, CUT_100, None, SETTLED),
        (50, CUT_100, None, SETTLED),
        (101, CUT_100, None, OWED),
        (None, CUT_100, None, OWED),
        (100, CUT_FREE, None, SETTLED),
        (None, CUT_FREE, None, SETTLED),
        (100, NO, TWICE, OWED),
        (100, WHOLE, TWICE, SETTLED),
        (100, CUT_100, TWICE, HIGHER),
        (100, Standing(False, 150, False), TWICE, SETTLED),
        (120, CUT_100, TWICE, OWED),
        (150, Standing(False, 150, False), TWICE, SETTLED),
        (None, CUT_FREE, TWICE, SETTLED),
    ],
)
def test_how_far_a_slot_is(
    asks: int | None, have: Standing | None, escalate: EscalateSection | None, state: int
) -> None:
    assert state_of(asks, have, escalate) == state


@given(
    st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text()), min_size=1, max_size=3),
    st.text(min_size=1), st.text(), st.dictionaries(st.sampled_from(["temperature", "top_p", "max_tokens"]), st.integers(1, 9)),
    st.integers(0, 10**6),
)  # fmt: skip
def test_a_party_makes_the_same_slots_as_records(
    said: list[tuple[str, str]], name: str, model: str, sampling: dict[str, Any], sample: int
) -> None:
    messages = [Message(role, text) for role, text in said]
    party = Party(name, model, Template("{{ question }}", "t"), sampling)
    assert party.slot(party.said(messages), sample) == slot_of(name, model, messages, sampling, sample)


class World:
    """A ledger folder whose rows a test writes, and plans over it."""

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder, self.data = folder, data

    @property
    def recipe(self) -> Recipe:
        return parse_recipe(self.data, folder=self.folder)

    def wanted(self, teacher: str, number: int, sample: int) -> Wanted:
        _, found = wanted_of(self.data, self.folder)
        return next(w for w in found if (w.teacher, w.prompt_id, w.sample) == (teacher, f"p{number}", sample))

    def put(self, item: Wanted, finish: Any = "stop") -> None:
        with Ledger(self.folder / "run" / "traces" / "part-1-of-1.jsonl") as ledger:
            ledger.append(Trace(
                id=trace_id_of(item.slot, item.max_tokens), slot=item.slot, prompt_id=item.prompt_id, sample=item.sample,
                teacher=item.teacher, model=item.model, messages=item.messages, reasoning="r", answer="a", finish=finish,
                max_tokens=item.max_tokens))  # fmt: skip

    def fail(self, item: Wanted) -> None:
        with Ledger(self.folder / "run" / "failures.jsonl") as ledger:
            ledger.append(Failure(
                slot=item.slot, prompt_id=item.prompt_id, sample=item.sample, teacher=item.teacher, final=True,
                error_class="content_filter", http_status=400, attempts=1, message="", created=""))  # fmt: skip

    def plan(self, **how: Any) -> Plan:
        recipe = self.recipe
        with Index(self.folder / "run" / "index.sqlite") as index:
            index.catch_up("traces", self.folder / "run" / "traces")
            return harvest_plan(recipe, load_problems(recipe)[0]).look(index, "traces", **how)


@pytest.fixture
def world(tmp_path: Path, data: dict[str, Any]) -> World:
    return World(tmp_path, data)


def asked(plan: Plan) -> set[tuple[str, str, int, int | None]]:
    items = [item for party in plan.parties for item in plan.items(party.name)]
    assert len(items) == plan.left().total()
    return {(item.teacher, item.prompt_id, item.sample, item.max_tokens) for item in items}


def test_a_plan_is_wanted_minus_had(world: World) -> None:
    plan = world.plan()
    assert (plan.wanted, plan.had, plan.still_owed, plan.left()) == (12, 0, 12, {"t": 6, "u": 6})
    world.put(world.wanted("t", 0, 1))
    world.put(world.wanted("u", 1, 0))
    world.fail(world.wanted("u", 2, 1))
    plan = world.plan()
    assert (plan.wanted, plan.had, plan.had_failed, plan.still_owed) == (12, 3, 1, 9)
    assert len(asked(plan)) == 9
    assert not {("t", "p0", 1, 9), ("u", "p1", 0, None), ("u", "p2", 1, None)} & asked(plan)
    assert ("u", "p2", 1, None) in asked(world.plan(retry_failed=True))


def test_items_are_the_same_as_the_wanted_ones(world: World) -> None:
    _, every = wanted_of(world.data, world.folder)
    plan = world.plan()
    assert sorted([*plan.items("t"), *plan.items("u")]) == sorted(every)


def test_chosen_positions_only(world: World) -> None:
    plan = world.plan()
    assert plan.first(3) == {0, 1, 2}
    assert plan.left(plan.first(3)) == {"t": 2, "u": 1}
    assert [(w.prompt_id, w.sample) for w in plan.items("t", plan.first(3))] == [("p0", 0), ("p0", 1)]
    assert plan.spread(4) == {0, 3, 6, 9}
    assert plan.spread(100) == set(range(12))


def test_what_is_out_in_a_batch_is_not_asked(world: World) -> None:
    out = world.wanted("t", 0, 0)
    plan = world.plan(out={out.slot})
    assert (plan.out, plan.still_owed, plan.states[0]) == (1, 11, OUT)


def test_a_shard_has_its_own_slots_only(world: World) -> None:
    parts = [world.plan(mine=lambda slot, n=n: int(slot[:2], 16) % 2 == n) for n in (0, 1)]
    assert parts[0].wanted + parts[1].wanted == 12
    assert not asked(parts[0]) & asked(parts[1])


def test_two_problems_in_the_same_words_are_asked_once(world: World) -> None:
    (world.folder / "u.jinja").write_text("<|user|>\nAlways the same")
    plan = world.plan()
    assert plan.left() == {"t": 6, "u": 2}
    assert plan.states.count(OTHER) == 4


def test_a_cut_answer_is_asked_once_more_with_the_ceiling_of_the_escalation(world: World) -> None:
    world.data["harvest"]["escalate"] = {"factor": 3, "max_tokens": 20}
    item = world.wanted("t", 0, 0)
    world.put(item, "length")
    assert ("t", "p0", 0, 20) in asked(world.plan())
    world.put(item.with_ceiling(20), "length")
    assert {ask[:3] for ask in asked(world.plan())}.isdisjoint({("t", "p0", 0)})


def test_by_tag_the_first_teacher_that_fits(world: World) -> None:
    rows = [{"id": f"p{i}", "question": f"Q{i}?", "tags": {"language": language, "topic": ["sums", "easy"]}}
            for i, language in enumerate(["zh", "en", "zh"])]  # fmt: skip
    (world.folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    world.data["harvest"]["assign"] = "tag"
    world.data["teacher"]["t"]["tags"] = {"language": ["zh", "ja"], "topic": ["easy"]}
    assert {(teacher, prompt) for teacher, prompt, _, _ in asked(world.plan())} == {
        ("t", "p0"),
        ("u", "p1"),
        ("t", "p2"),
    }
    world.data["teacher"]["u"]["tags"] = {"language": ["fr"]}
    with pytest.raises(RecipeError, match=r"no teacher takes problem p1 .*leave the tags of one teacher out"):
        world.plan()


def test_a_fallback_owes_an_answer_once_whoever_gives_it(world: World) -> None:
    world.data["harvest"]["assign"] = "fallback"
    assert {ask[0] for ask in asked(world.plan())} == {"t"}
    assert world.plan().wanted == 6
    world.put(world.wanted("u", 0, 0))  # the second teacher has answered it
    world.fail(world.wanted("t", 1, 1))  # the first teacher never will
    plan = world.plan()
    assert (plan.had, plan.left()) == (1, {"t": 4, "u": 1})
    assert ("u", "p1", 1, None) in asked(plan)
    given_up = world.wanted("t", 2, 0)
    assert world.plan(passed={given_up.slot}).left() == {"t": 3, "u": 2}
    assert world.plan(gone={"t"}).left() == {"u": 5}
    assert world.plan(gone={"t", "u"}).left() == {}
    assert world.plan(gone={"t", "u"}).still_owed == 5
    world.fail(world.wanted("u", 1, 1))
    plan = world.plan()
    assert (plan.had, plan.had_failed, plan.states.count(FAILED)) == (2, 1, 1)


def test_a_fallback_keeps_all_teachers_of_an_answer_in_one_shard(world: World) -> None:
    world.data["harvest"]["assign"] = "fallback"
    parts = [world.plan(mine=lambda slot, n=n: int(slot[:2], 16) % 2 == n, gone={"t"}) for n in (0, 1)]
    assert sum(part.wanted for part in parts) == 6
    assert not {a[1:3] for a in asked(parts[0])} & {a[1:3] for a in asked(parts[1])}


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_owed_is_wanted_minus_had_once_each(wished: list[int], had: set[int], failed: set[int]) -> None:
    class FakeIndex:
        def standing(self, ledger: str, slots: list[str]) -> dict[str, Standing]:
            return {slot: WHOLE for slot in slots if int(slot) in had}

        def final_failures(self, ledger: str) -> set[str]:
            return {str(n) for n in failed}

    items = [Wanted(str(n), "p", 0, "t", "m", [], {"max_tokens": 100}) for n in wished]
    index: Any = FakeIndex()
    left = owed(items, index, "evaluate")
    assert [int(w.slot) for w in left] == list(dict.fromkeys(n for n in wished if n not in had | failed))


def test_prompt_is_not_needed_beyond_its_fields() -> None:
    """A problem may be read again for every pass: equal rows give equal slots."""
    party = Party("t", "m", Template("{{ question }}", "t"), {})
    one, two = (party.said(party.template.messages(Prompt("p", "Q"))) for _ in range(2))
    assert party.slot(one, 3) == party.slot(two, 3)
