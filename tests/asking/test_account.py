"""Money of a harvest against a real server: a budget that holds, over retries, kills and shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, answer, completion, cut_body, error, http
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.asking.account import spent
from r1distill.asking.spending import Row, read_book, spending_file
from r1distill.errors import RecipeError
from r1distill.harvest_summary import lines
from r1distill.ledger import Ledger
from r1distill.status import status
from r1distill.teachers import pace, retry

COST = (10 * 1.0 + 20 * 100.0) / 1e6
"""Of the fake teacher's usual answer at the prices below."""
CEILING = 100 * 100.0 / 1e6
"""Of an answer as long as its ceiling, its prompt left out."""


class World(SmallRun):
    """A small run whose teacher has a price, and adds up what it would bill."""

    def __init__(self, folder: Path) -> None:
        self.act: Any = lambda request: answer("42", reasoning="because")
        self.server = FakeTeacher(lambda request: self.act(request))
        self.server.__enter__()
        super().__init__(folder, self.server.base_url, problems=30)
        self.teacher["price"] = {"input": 1.0, "output": 100.0}

    def spent(self, shard: tuple[int, int] = (1, 1)) -> Any:
        with self.run.index() as index:
            index.catch_up("traces", self.run.ledger_folder("traces"))
            return spent(self.recipe, self.run, index, shard)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    monkeypatch.setattr(pace, "LONGEST_HOLD_S", 0.0)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    made = World(tmp_path)
    yield made
    made.server.release()
    made.server.close()


@pytest.mark.parametrize("in_flight", [1, 8, 64])
def test_a_budget_is_used_and_never_overshot(world: World, in_flight: int) -> None:
    world.data["harvest"].update(budget_usd=0.05, max_in_flight=in_flight)
    billed = [0.0]

    def act(request: Request) -> Act:
        tokens = 100 if request.number % 5 == 0 else 20  # some use their whole ceiling
        billed[0] += (10 + tokens * 100.0) / 1e6
        return answer("42", usage={"prompt_tokens": 10, "completion_tokens": tokens})

    world.act = act
    summary = world.harvest()
    assert summary.over_budget and summary.still_owed > 0
    assert summary.spent_usd == pytest.approx(billed[0])
    assert 0.05 - 1.2 * CEILING <= billed[0] <= 0.05
    assert any("Stopped at the budget: $0.0" in line for line in lines(summary))
    assert world.failures() == []
    again = world.harvest()
    assert billed[0] <= 0.05 and again.still_owed > 0
    world.data["harvest"]["budget_usd"] = 1.0
    assert world.harvest().still_owed == 0


def test_attempts_that_gave_nothing_count(world: World) -> None:
    """An empty answer is billed by its usage; a body that broke off, nobody knows: its whole reservation."""
    world.data["harvest"].update(budget_usd=10.0, samples=1, max_attempts=2)
    empty = completion("", usage={"prompt_tokens": 10, "completion_tokens": 50})

    def act(request: Request) -> Act:
        number = int(request.text.split()[3])
        if number == 0:
            return Act((http(200, json.dumps(empty).encode()),), keep_alive=True)
        return cut_body() if number == 1 else error(500) if number == 2 else answer("42")

    world.act = act
    summary = world.harvest()
    empties, broken = 2 * (10 + 50 * 100) / 1e6, summary.lost_usd - 2 * (10 + 50 * 100) / 1e6
    assert summary.failed_open == 3
    assert 2 * CEILING < broken < 2.1 * CEILING
    assert summary.spent_usd == pytest.approx(27 * COST + empties + broken)
    assert read_book(spending_file(world.run.folder, (1, 1))).lost_usd == pytest.approx(empties + broken)
    assert any("gave no usable answer" in line for line in lines(summary))


def test_refusals_cost_nothing_and_give_their_reservation_back(world: World) -> None:
    world.data["harvest"].update(budget_usd=10.0, samples=1, max_attempts=3)
    world.act = lambda request: error(500) if request.number % 2 else answer("42")
    summary = world.harvest()
    assert summary.lost_usd == 0
    assert summary.spent_usd == pytest.approx(summary.traces * COST)
    assert set(read_book(spending_file(world.run.folder, (1, 1))).open) == {row["id"] for row in world.rows()}


def test_what_a_kill_left_under_way_counts_as_spent(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 1.0
    world.harvest(limit=4)
    with Ledger(spending_file(world.run.folder, (1, 1))) as ledger:
        ledger.append(Row(0.4, reserve="killed-1"))
        ledger.append(Row(0.3, reserve="killed-2"))
    assert world.spent().total == pytest.approx(4 * COST + 0.7)
    world.harvest(limit=1)
    assert world.spent().total == pytest.approx(5 * COST + 0.7)
    assert read_book(spending_file(world.run.folder, (1, 1))).lost_usd == pytest.approx(0.7)
    world.data["harvest"]["budget_usd"] = 0.71
    assert world.harvest().asked == 0


def test_shards_share_what_is_left(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 0.06
    world.harvest(limit=3)
    first, second = world.harvest(shard=(1, 2)), world.harvest(shard=(2, 2))
    assert first.over_budget and second.over_budget
    assert world.spent().total <= 0.06
    own = [world.spent(shard=(n, 2)) for n in (1, 2)]
    for part in own:
        assert part.others == pytest.approx(3 * COST)
        assert part.own <= (0.06 - 3 * COST) / 2
        assert part.own + 1.2 * CEILING >= (0.06 - 3 * COST) / 2
    assert own[0].own == pytest.approx(own[1].same_split)


def test_traces_without_a_cost_count_by_todays_price(world: World) -> None:
    price = world.teacher.pop("price")
    world.harvest(limit=4)
    assert world.spent().total == 0
    world.teacher["price"] = price
    assert world.spent().total == pytest.approx(4 * COST)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"price": None}, r"needs the price of teacher\.t: price = "),
        ({"sampling": {}}, r"needs a ceiling for teacher\.t: sampling = \{ max_tokens"),
        ({"provider": "xai"}, "can't be kept with teacher.t: xai bills reasoning tokens beside"),
    ],
)
def test_a_budget_that_nobody_could_keep_is_refused(world: World, change: dict[str, Any], said: str) -> None:
    world.data["harvest"]["budget_usd"] = 1.0
    world.teacher.update({key: value for key, value in change.items() if value is not None})
    for key in [key for key, value in change.items() if value is None]:
        del world.teacher[key]
    if "provider" in change:
        world.teacher["sampling"] = {"max_completion_tokens": 100}
    with pytest.raises(RecipeError, match=said):
        world.harvest()
    assert world.server.count == 0
    assert not world.run.folder.exists()


def test_status_and_manifest_tell_what_was_spent(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 5.0
    world.harvest(limit=10)
    state = status(world.recipe, world.run)
    assert (state.spent_usd, state.budget_usd) == (pytest.approx(10 * COST), 5.0)
    assert world.run.manifest()["harvest"]["spent_usd"] == pytest.approx(10 * COST)
    assert state.harvesting == {}


def test_a_budget_holds_over_splits_of_different_kinds(world: World) -> None:
    """One of two shards, then all in one, then the other shard."""
    world.data["harvest"]["budget_usd"] = 0.08
    for shard in ((1, 2), (1, 1), (2, 2), (1, 3), (1, 1)):
        world.harvest(shard=shard)
        assert world.spent().total <= 0.08
    billed = world.server.count * COST
    assert billed == pytest.approx(world.spent().total)
    assert billed > 0.08 - 1.2 * CEILING


def test_a_cost_of_zero_in_the_replies_is_not_believed(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 0.05
    world.act = lambda request: answer("42", usage={"prompt_tokens": 10, "completion_tokens": 20, "cost": 0})
    summary = world.harvest()
    assert summary.over_budget
    assert world.server.count * COST <= 0.05


def test_two_ceilings_are_refused(world: World) -> None:
    world.teacher["sampling"] = {"max_tokens": 50, "max_completion_tokens": 1000}
    with pytest.raises(RecipeError, match="has two ceilings"):
        world.harvest()


def test_a_request_that_waits_after_a_refusal_holds_no_money(world: World) -> None:
    """Killed while all wait for a rate limit: nothing was paid, so nothing counts."""
    world.data["harvest"].update(budget_usd=5.0, max_attempts=50)
    world.act = lambda request: error(429, Retry_After="30")
    process = world.start()
    world.server.wait_for(5)
    world.server.settle()
    process.kill()
    process.wait()
    assert world.spent().total == 0


def test_what_may_have_been_billed_is_told_apart(world: World) -> None:
    world.data["harvest"].update(budget_usd=10.0, samples=1, max_attempts=1)
    world.act = lambda request: cut_body() if "What is 1 " in request.text else answer("42")
    summary = world.harvest()
    assert CEILING < summary.maybe_usd < 1.2 * CEILING
    assert summary.spent_usd == pytest.approx(29 * COST + summary.maybe_usd)


def test_a_retry_that_does_not_fit_any_more_ends_at_once(world: World) -> None:
    world.data["harvest"].update(budget_usd=1.1 * CEILING, samples=1, max_attempts=6)
    world.act = lambda request: cut_body()
    summary = world.harvest()
    assert (world.server.count, summary.over_budget) == (1, True)


def test_a_teacher_that_bills_more_than_a_request_can_use_is_told(world: World) -> None:
    world.act = lambda request: answer("42", usage={"prompt_tokens": 500_000, "completion_tokens": 20})
    summary = world.harvest()
    assert len([w for w in summary.warnings if "bills more than a request can use" in w]) == 1


def test_the_ledger_of_reservations_is_not_held_in_memory(tmp_path: Path) -> None:
    path = spending_file(tmp_path, (1, 1))
    with Ledger(path) as ledger:
        for number in range(5_000):
            ledger.append(Row(0.01, reserve=f"t{number}"))
    most = [0]

    def answered(ids: Any) -> set[str]:
        most[0] = max(most[0], len(ids))
        return set(ids) - {"t7"}

    assert read_book(path, answered).open == {"t7": 0.01}
    assert most[0] <= 2_100
