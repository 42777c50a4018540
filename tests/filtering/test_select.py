"""From kept traces to training rows: per problem, by cap, and what is said of the rest."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from judged_rows import judged, problems, settings
from test_filter import World

from r1distill.errors import RecipeError
from r1distill.filter import filter
from r1distill.filtering.select import OVER_PER_PROMPT, select, validation_prompts
from r1distill.show import Show

ANSWERS = {
    name: [f"\\boxed{{{value}}}"] * 4
    for name, value in zip("abcd", ("18", "2", "\\sqrt{2}", "7"), strict=True)
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.data["filter"]["checks"] = {"finish": {}, "correct": {}}
    made.data["filter"]["select"] = {"val_fraction": 0}
    made.harvest(ANSWERS)
    return made


def harvest_again(world: World, answers: dict[str, list[str]]) -> None:
    (world.run.ledger_folder("traces") / "part-1-of-1.jsonl").unlink()
    world.harvest(answers)


def test_all_that_passed_without_a_setting() -> None:
    made = problems(3)
    rows = [judged(p, n, s) for n, p in made.items() for s in range(2)]
    assert select(rows, settings(), {}, made) == (rows, {}, None)


@limits(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 4), st.sampled_from(["shortest", "longest", "random"]),
    st.one_of(st.none(), st.integers(1, 15)), st.integers(0, 9),
)  # fmt: skip
def test_every_kept_trace_is_chosen_or_has_a_reason_in_any_order(
    count: int, most: int, prefer: str, cap: int | None, seed: int
) -> None:
    made = problems(count, topic=lambda n: n % 2)
    rows = [judged(p, n, s, "x" * (7 * s % 5)) for n, p in made.items() for s in range(1 + n % 4)]
    caps: dict[str, Any] = {} if cap is None else {"topic": cap}
    wish = settings(per_prompt=most, prefer=prefer, caps=caps, seed=seed)
    chosen, left_out, _ = select(rows, wish, {}, made)
    assert sorted(map(id, chosen)) == sorted({id(row) for row in rows} - set(left_out))
    assert chosen == [row for row in rows if id(row) not in left_out]
    assert set(left_out.values()) <= {OVER_PER_PROMPT, "cap of topic=0", "cap of topic=1"}
    by_prompt = list(made.items())
    random.Random(seed).shuffle(by_prompt)
    turned = [row for n, _ in by_prompt for row in rows if row.order == n]
    assert {id(row) for row in select(turned, wish, {}, made).chosen} == {id(row) for row in chosen}


def test_a_split_by_problem_that_never_moves() -> None:
    names = [f"p{n}" for n in range(400)]
    held = validation_prompts(names, settings(val_fraction=0.1))
    assert 20 < len(held) < 60
    assert validation_prompts(names[:200], settings(val_fraction=0.1)) == held & set(names[:200])
    assert validation_prompts(["p1"], settings(val_fraction=0.999)) == set()


def test_caps_of_a_run_are_told_trace_by_trace(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": n, "question": f"q {n}", "answer": a, "tags": {"topic": t}} for n, a, t in zip(
        "abcd", ("18", "2", "\\sqrt{2}", "7"), ("sums", "sums", "roots", "sums"), strict=True)]  # fmt: skip
    world.write_problems(rows)
    harvest_again(world, ANSWERS)
    world.data["filter"]["select"] |= {"per_prompt": 3, "caps": {"topic": {"sums": 4, "sumz": 1}}}
    summary = filter(world.recipe, world.run, show=Show(1))
    assert (summary.kept, summary.train, summary.not_selected) == (16, 7, 9)
    assert summary.not_selected_reasons == {"cap of topic=sums": 5, "more than per_prompt": 4}
    reasons = [row["reasons"] for row in world.rows("reasons") if not row["rejected"]]
    assert (
        reasons.count(["select: cap of topic=sums"]) == 5
        and reasons.count(["select: more than per_prompt"]) == 4
    )
    said = capsys.readouterr().err
    assert "Not selected: 5 kept traces (cap of topic=sums)." in said
    assert "filter.select.caps: no problem has topic = 'sumz'." in said
    assert filter(world.recipe, world.run).up_to_date


def test_long_and_short_in_a_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.data["filter"]["select"] |= {"per_prompt": 2, "long_share": 0.5}
    summary = filter(world.recipe, world.run, show=Show(1))
    assert summary.mix is not None
    assert (summary.mix.long, summary.mix.short, summary.mix.unit) == (4, 4, "usage")
    assert (summary.mix.long_median_tokens, summary.mix.short_median_tokens) == (23, 20)
    said = capsys.readouterr().err
    assert (
        "Mixture: 4 long (median 23 tokens) and 4 short (median 20 tokens) traces; tokens by usage." in said
    )
    assert filter(world.recipe, world.run).mix == summary.mix


def test_the_most_confident_by_agreement(world: World) -> None:
    harvest_again(world, {**ANSWERS, "b": ["\\boxed{3}", "\\boxed{2}", "\\boxed{2}", "\\boxed{2}"]})
    world.data["filter"]["checks"] = {"correct": {"extraction": "lenient"}, "agreement": {"min_share": 0.1}}
    world.data["filter"]["select"] |= {"per_prompt": 1, "prefer": "most_confident"}
    filter(world.recipe, world.run)
    first = {row["trace_id"] for row in world.rows("train")}
    scores = {r["trace_id"]: r["score"] for r in world.rows("verdicts") if r["check"] == "agreement"}
    assert {scores[one] for one in first} == {1.0, 0.75}


def test_diverse_reads_what_near_duplicate_measured(world: World) -> None:
    turns = [
        "First the sum of both",
        "First the sum of both, so",
        "Half of it twice makes it",
        "First the sum of both too",
    ]
    harvest_again(
        world,
        {
            name: [f"{turn}: {answer}" for turn, answer in zip(turns, found, strict=True)]
            for name, found in ANSWERS.items()
        },
    )
    world.data["filter"]["checks"]["near_duplicate"] = {"threshold": 1.0}
    world.data["filter"]["select"] |= {"per_prompt": 2, "prefer": "diverse"}
    filter(world.recipe, world.run)
    texts = [row["completion"][0]["content"] for row in world.rows("train")]
    assert len(texts) == 8 and sum("Half of it" in text for text in texts) == 4


@pytest.mark.parametrize(
    ("prefer", "words"), [("most_confident", "has neither"), ("diverse", "near_duplicate")]
)
def test_what_a_selection_needs_is_said_before_anything_is_measured(
    world: World, prefer: str, words: str
) -> None:
    world.data["filter"]["select"]["prefer"] = prefer
    with pytest.raises(RecipeError, match=words):
        filter(world.recipe, world.run)
    assert not (world.run.folder / "filter").exists()
