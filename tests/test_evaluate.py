"""The evaluation: teacher, base and student asked at a fake server, graded, compared, resumed, traceable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, answer, error
from small_run import KEY, KEY_VARIABLE, SmallRun, holds_key

from r1distill.errors import InputError, RecipeError, StopRunError
from r1distill.evaluate import evaluate
from r1distill.evaluate_summary import EvaluateSummary, tell
from r1distill.show import Show
from r1distill.teachers import retry

pytest.importorskip("scipy")
N = 12


def solve(request: Request) -> Act:
    """The teacher and the student are right (the student in form), the base is right on every third and never marks it."""
    found = re.search(r"What is (\d+) \+ 1", request.text)
    assert found, request.text
    number = int(found[1])
    model = request.body["model"]
    if model == "base-model":
        return answer(f"I guess {number + 1 if number % 3 == 0 else 999}")
    return answer(
        f"The answer is \\boxed{{{number + 1}}}.", reasoning="count on" if model == "student-model" else ""
    )


class World(SmallRun):
    """A run whose three models are served by one fake server."""

    def __init__(self, folder: Path) -> None:
        self.act: Any = solve
        self.server = FakeTeacher(lambda request: self.act(request))
        self.server.__enter__()
        super().__init__(folder, self.server.base_url)
        self.write_problems(N, "heldout.jsonl")
        self.data["student"] = {
            "base": "unused", "base_url": self.server.base_url, "base_model": "base-model",
            "student_model": "student-model", "api_key_env": KEY_VARIABLE,
        }  # fmt: skip
        self.data["evaluate"] = {"problems": "heldout.jsonl"}

    def evaluate(self, **how: Any) -> EvaluateSummary:
        return evaluate(self.recipe, self.run, **how)

    def asked(self) -> int:
        count = self.server.count
        self.server.requests.clear()
        return count


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    world = World(tmp_path)
    yield world
    world.server.close()


def test_three_models_are_scored_and_compared(world: World) -> None:
    summary = world.evaluate()
    scores = {s.who: s for s in summary.scores}
    assert [(w, s.lenient.value, s.strict.value, s.in_form) for w, s in scores.items()] == [
        ("teacher", 1.0, 1.0, 0.0), ("base", pytest.approx(1 / 3), 0.0, 0.0), ("student", 1.0, 1.0, 1.0)]  # fmt: skip
    assert {s.n_problems for s in summary.scores} == {N}
    assert all(s.lenient.low < s.lenient.high for s in summary.scores)
    found = {(d.second, d.mode): d for d in summary.differences}
    assert found["base", "lenient"].difference.value == pytest.approx(2 / 3)
    assert found["base", "lenient"].shown
    assert not found["teacher", "lenient"].shown
    assert (summary.asked, summary.still_owed, summary.unanswered) == (3 * N, 0, 0)
    assert {request.body["model"] for request in world.server.requests} == {
        "m",
        "base-model",
        "student-model",
    }
    assert {request.headers["authorization"] for request in world.server.requests} == {f"Bearer {KEY}"}
    assert holds_key(world.run.folder) == []


def test_every_graded_row_leads_to_its_trace(world: World) -> None:
    summary = world.evaluate()
    rows = [json.loads(line) for line in (Path(summary.folder) / "answers.jsonl").open()]
    traces = {row["id"]: row for row in world.rows("evaluate/traces/part-*.jsonl")}
    assert len(rows) == len(traces) == 3 * N
    for row in rows:
        trace = traces[row["trace_id"]]
        assert (row["who"], row["prompt_id"], row["sample"]) == (
            trace["teacher"],
            trace["prompt_id"],
            trace["sample"],
        )
        assert row["extracted"] in trace["answer"]
    assert world.rows("traces/part-*.jsonl") == []
    assert (world.run.folder / "evaluate" / "latest").resolve() == Path(summary.folder).resolve()
    assert world.run.manifest()["evaluate"]["stage_id"] == summary.stage_id


def test_the_second_evaluation_asks_nothing(world: World) -> None:
    first = world.evaluate()
    world.asked()
    second = world.evaluate()
    assert (second.asked, second.up_to_date, world.asked()) == (0, True, 0)
    assert (second.stage_id, second.scores) == (first.stage_id, first.scores)


def test_new_samples_and_problems_are_asked_alone(world: World) -> None:
    world.evaluate()
    world.data["evaluate"]["samples"] = 2
    summary = world.evaluate()
    assert (summary.asked, summary.up_to_date) == (3 * N, False)
    assert {s.samples for s in summary.scores} == {2}
    assert all(s.maj_at_k is not None for s in summary.scores)
    world.write_problems(N + 1, "heldout.jsonl")
    assert world.evaluate().asked == 6
    world.data["evaluate"]["samples"] = 1
    world.write_problems(N, "heldout.jsonl")
    back = world.evaluate()
    assert (back.asked, {s.n_problems for s in back.scores}) == (0, {N})


def test_a_corrected_reference_is_graded_anew_without_asking(world: World) -> None:
    first = world.evaluate()
    path = world.folder / "heldout.jsonl"
    path.write_text(path.read_text().replace('"answer": "1"}', '"answer": "77"}'))
    second = world.evaluate()
    assert (second.asked, second.up_to_date) == (0, False)
    assert second.stage_id != first.stage_id
    assert {s.who: s.lenient.value for s in second.scores}["teacher"] == pytest.approx((N - 1) / N)
    world.data["evaluate"]["answer_kind"] = "text"
    assert not world.evaluate().up_to_date


def test_a_new_training_is_asked_again_under_the_same_name(world: World) -> None:
    world.evaluate()
    stage = world.run.folder / "train" / "abc"
    stage.mkdir(parents=True)
    (stage / "summary.json").write_text("{}")
    world.run.point_latest("train", "abc")
    world.asked()
    assert world.evaluate().asked == N
    assert {request.body["model"] for request in world.server.requests} == {"student-model"}


def test_the_students_card_gets_the_scores(world: World) -> None:
    card = world.run.folder / "train" / "t1" / "adapter" / "README.md"
    card.parent.mkdir(parents=True)
    card.write_text("# A student\n\n## Scores\nNot evaluated.\n")
    world.run.finish_stage("train", "t1", {})
    world.evaluate(dry_run=True)
    assert "Not evaluated" in card.read_text()
    summary = world.evaluate()
    text = card.read_text()
    assert "| student on heldout, pass@1 lenient (12 problems, 95%) | 100.0% (" in text
    assert all(difference.sentence() in text for difference in summary.differences)
    world.evaluate()
    assert card.read_text() == text


def test_several_sets_and_chosen_models(world: World) -> None:
    world.write_problems(3, "unseen.jsonl")
    (world.folder / "unseen.jsonl").write_text(
        (world.folder / "unseen.jsonl").read_text().replace("What is", "Now: What is")
    )
    world.data["evaluate"] = {
        "problems": {"a": "heldout.jsonl", "b": "unseen.jsonl"},
        "models": ["base", "student"],
        "limit": 5,
    }
    summary = world.evaluate()
    assert [(s.problems, s.who, s.n_problems) for s in summary.scores] == [
        ("a", "base", 5), ("b", "base", 3), ("a", "student", 5), ("b", "student", 3)]  # fmt: skip


def test_answers_that_fail_are_counted_as_what_they_are(world: World) -> None:
    def act(request: Request) -> Act:
        if "What is 0 " in request.text:
            return error(400, code="context_length_exceeded")
        return error(500) if "What is 1 " in request.text else solve(request)

    world.act = act
    world.data["harvest"]["max_attempts"] = 1
    summary = world.evaluate()
    assert (summary.still_owed, summary.unanswered) == (3, 3)
    assert {s.n_problems for s in summary.scores} == {N - 1}  # a final failure counts as a wrong answer
    rows = [json.loads(line) for line in (Path(summary.folder) / "answers.jsonl").open()]
    lost = [row for row in rows if row["outcome"] == "failed"]
    assert [row["lenient"] for row in lost] == [False] * 3
    world.act = solve
    world.asked()
    again = world.evaluate()
    assert (again.asked, again.still_owed, again.unanswered) == (3, 0, 3)


def test_a_dry_run_asks_and_writes_nothing(world: World) -> None:
    summary = world.evaluate(dry_run=True)
    assert (summary.asked, summary.dry_run, world.asked()) == (3 * N, True, 0)
    assert not world.run.folder.exists()


def test_own_sampling_is_sent_to_all(world: World) -> None:
    world.data["evaluate"]["sampling"] = {"temperature": 0.0, "max_tokens": 7}
    world.evaluate()
    assert {(r.body["temperature"], r.body["max_tokens"]) for r in world.server.requests} == {(0.0, 7)}


@pytest.mark.parametrize(
    ("section", "change", "kind", "said"),
    [
        ("evaluate", None, RecipeError, "no \\[evaluate\\] table"),
        ("student", None, RecipeError, "no \\[student\\] table"),
        ("student", {"base_model": None}, RecipeError, "base_model"),
        ("student", {"base_url": "http://user:hunter22@host/v1"}, RecipeError, "user name|must not carry"),
        ("student", {"base_url": None}, InputError, "no trained student"),
        ("evaluate", {"sampling": {"n": 3}}, RecipeError, "can't set n"),
    ],
)
def test_what_is_missing_is_said(
    world: World, section: str, change: Any, kind: type[Exception], said: str
) -> None:
    if change is None:
        del world.data[section]
    else:
        world.data[section].update(change)
    world.data.get("evaluate", {})["models"] = ["student", "base"]
    with pytest.raises(kind, match=said) as caught:
        world.evaluate()
    assert "hunter22" not in str(caught.value)
    assert world.asked() == 0


def test_a_server_that_refuses_ends_it_with_a_sentence(world: World) -> None:
    world.act = lambda request: (
        error(404, "no such model") if request.body["model"] == "student-model" else solve(request)
    )
    with pytest.raises(StopRunError, match="student refuses"):
        world.evaluate()
    world.act = solve
    world.asked()
    assert world.evaluate().asked == N


def test_what_people_read(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    tell(world.evaluate(), Show(1))
    said = capsys.readouterr().err
    assert "student beats base on heldout (lenient) by 66.7 points" in said
    assert "student against teacher on heldout (lenient): no difference shown" in said
    assert "parameters unknown" in said
