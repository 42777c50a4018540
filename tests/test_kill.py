"""Nothing received is ever paid for twice: over kill -9 at random moments, over budgets, and over changes of the recipe.

The harvests that are killed are real child processes, `python -m r1distill harvest`, against a server in this process that
counts every request. What tells one wanted answer from another at the server is model, question and seed (see `Request.slot`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, answer, stream_answer
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.run import Run

ROOT = Path(__file__).resolve().parent.parent
IN_FLIGHT = 8
TOKENS = {"prompt_tokens": 10, "completion_tokens": 100}
RECIPE = """
name = "r"
[prompts]
problems = "problems.jsonl"
template = "t.jinja"
[teacher.t]
provider = "openai-compatible"
base_url = "{base_url}"
model = "m"
api_key_env = "{variable}"
sampling = {{ max_tokens = 100, seed = 0 }}
price = {{ input = 1, output = 1000 }}
[harvest]
samples = 2
max_in_flight = {in_flight}
{harvest}
"""


class Storm:
    """A run that is killed again and again, and the books that this test keeps of it."""

    def __init__(self, folder: Path, prompts: int, seed: int, shards: int = 1, harvest: str = "") -> None:
        self.folder, self.shards, self.dice = folder, shards, random.Random(seed)
        self.server = FakeTeacher(self._answer).__enter__()
        self.run = Run(folder / "runs" / "r")
        self.requests: Counter[str] = Counter()
        """Requests of all rounds, by slot."""
        self.interrupted: Counter[str] = Counter()
        """Kills (or torn rows) that took the answer to a request with them, by slot."""
        self.stderr = b""
        rows = [
            {"id": f"p{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(prompts)
        ]
        (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "t.jinja").write_text("<|user|>\nSolve: {{ question }}")
        recipe = RECIPE.format(
            base_url=self.server.base_url, variable=KEY_VARIABLE, harvest=harvest, in_flight=IN_FLIGHT
        )
        (folder / "recipe.toml").write_text(recipe)

    def _answer(self, request: Request) -> Act:
        delay_s = self.dice.uniform(0.0, 0.04)
        if request.body.get("stream"):
            return stream_answer(request.text.split()[-3], "because")
        return answer(request.text.split()[-3], reasoning="because", delay_s=delay_s, usage=TOKENS)

    def start(self, shard: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "r1distill", "harvest", str(self.folder / "recipe.toml"), "--json"]
        command += ["--shard", f"{shard}/{self.shards}"] if self.shards > 1 else []
        environment = {**os.environ, KEY_VARIABLE: KEY, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder
        )

    def kill_once(self) -> None:
        """Start all shards, kill each at a random moment, and look at what was asked and what came of it."""
        before = self.stood()
        self.server.requests.clear()
        children = [self.start(shard) for shard in range(1, self.shards + 1)]
        for child in self.dice.sample(children, len(children)):
            self._await_a_moment(child)
            child.kill()
        for child in children:
            self.stderr += child.communicate(timeout=30)[1]
            assert child.returncode in (-9, 0, 3), self.stderr.decode()
        self._close_round(before)
        self._tear()

    def finish(self) -> int:
        """Run all shards to their end; the highest exit code."""
        before = self.stood()
        self.server.requests.clear()
        children = [self.start(shard) for shard in range(1, self.shards + 1)]
        for child in children:
            self.stderr += child.communicate(timeout=120)[1]
        self._close_round(before)
        return max(child.returncode for child in children)

    def _await_a_moment(self, child: subprocess.Popen[bytes]) -> None:
        """A random time after the start, or a little after a random number of requests."""
        if self.dice.random() < 0.2:
            time.sleep(self.dice.uniform(0.0, 1.5))
            return
        count, ends = self.server.count + self.dice.randint(1, 30), time.monotonic() + 20
        while self.server.count < count and child.poll() is None:
            assert time.monotonic() < ends, "the harvest asks nothing"
            time.sleep(0.002)
        time.sleep(self.dice.uniform(0.0, 0.03))

    def _close_round(self, before: set[str]) -> None:
        self.server.settle()
        asked = self.server.per_slot
        assert not asked.keys() & before, "asked again for what stood in the ledger"
        assert max(asked.values(), default=0) <= 1, "asked twice by one process"
        lost = asked.keys() - self.stood()
        assert len(lost) <= IN_FLIGHT * self.shards, "answers that had arrived were not in the ledger"
        self.requests.update(asked)
        self.interrupted.update(lost)

    def _tear(self) -> None:
        """Sometimes leave a torn tail, as a power loss does: half a row more, or the last row cut."""
        parts = sorted((self.run.folder / "traces").glob("part-*.jsonl"))
        if not parts or self.dice.random() < 0.5:
            return
        before, path = self.stood(), self.dice.choice(parts)
        if self.dice.random() < 0.5:
            with path.open("ab") as file:
                file.write(b'{"id": "torn in the mid')
        else:
            with path.open("rb+") as file:
                file.truncate(max(0, path.stat().st_size - self.dice.randint(1, 30)))
        self.interrupted.update(before - self.stood())

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows of the traces; one that lacks only its newline is whole."""
        found = []
        for path in sorted((self.run.folder / "traces").glob("part-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def stood(self) -> set[str]:
        """The slots in the ledgers, as the server calls them."""
        return {
            f"{row['model']}|{row['messages'][-1]['content']}|{row['sampling']['seed'] + row['sample']}"
            for row in self.rows()
        }


@pytest.fixture
def storms(tmp_path: Path) -> Iterator[Callable[..., Storm]]:
    made: list[Storm] = []

    def make(**how: Any) -> Storm:
        made.append(Storm(tmp_path, **how))
        return made[-1]

    yield make
    for storm in made:
        storm.server.close()


def survives(storm: Storm, kills: int, prompts: int) -> None:
    for _ in range(kills):
        storm.kill_once()
    assert storm.finish() == 0, storm.stderr.decode()
    rows = storm.rows()
    assert len(rows) == len({row["slot"] for row in rows}) == len({row["id"] for row in rows}) == 2 * prompts
    assert all(row["answer"] == row["messages"][-1]["content"].split()[-3] for row in rows)
    for path in (storm.run.folder / "traces").glob("part-*.jsonl"):
        assert all(json.loads(line) for line in path.read_bytes().splitlines())  # no torn tail is left inside
    assert storm.requests == {slot: 1 + storm.interrupted[slot] for slot in storm.stood()}
    assert b"Traceback" not in storm.stderr
    storm.server.requests.clear()
    assert (storm.finish(), storm.server.count) == (0, 0)


def test_kills_at_random_moments(storms: Callable[..., Storm]) -> None:
    storm = storms(prompts=60, seed=1)
    survives(storm, kills=5, prompts=60)
    assert storm.interrupted  # else the kills came when nothing was under way


def test_kills_of_shards_side_by_side(storms: Callable[..., Storm]) -> None:
    survives(storms(prompts=60, seed=2, shards=2), kills=2, prompts=60)


@pytest.mark.long
@pytest.mark.parametrize(("shards", "harvest"), [(1, ""), (2, ""), (1, "stream = true")])
def test_a_storm_of_kills(storms: Callable[..., Storm], shards: int, harvest: str) -> None:
    storm = storms(prompts=600, seed=3, shards=shards, harvest=harvest)
    survives(storm, kills=60, prompts=600)
    assert storm.interrupted


BUDGET_USD = 4.0
ONE_USD = (TOKENS["prompt_tokens"] * 1 + TOKENS["completion_tokens"] * 1000) / 1e6
"""What the server bills for each request that reaches it, answered or not: all of the ceiling."""


def spends_within(storm: Storm, kills: int) -> None:
    for _ in range(kills):
        storm.kill_once()
        assert storm.requests.total() * ONE_USD <= BUDGET_USD
    code = storm.finish()
    assert code == 3, storm.stderr.decode()  # answers are still owed, and there is no money for them
    assert b"budget" in storm.stderr
    assert storm.requests.total() * ONE_USD <= BUDGET_USD
    assert len(storm.rows()) * ONE_USD > 0.25 * BUDGET_USD  # it is not kept by asking hardly anything
    spent = storm.requests.total()
    assert storm.finish() == 3
    assert storm.requests.total() == spent


def test_a_budget_holds_over_kills(storms: Callable[..., Storm]) -> None:
    spends_within(storms(prompts=60, seed=4, harvest=f"budget_usd = {BUDGET_USD}"), kills=3)


def test_a_budget_holds_over_kills_of_shards(storms: Callable[..., Storm]) -> None:
    spends_within(storms(prompts=60, seed=5, shards=2, harvest=f"budget_usd = {BUDGET_USD}"), kills=2)


def test_a_budget_is_used_up_to_its_last_request(storms: Callable[..., Storm]) -> None:
    storm = storms(prompts=60, seed=6, harvest=f"budget_usd = {BUDGET_USD}")
    assert storm.finish() == 3
    assert BUDGET_USD - 2 * ONE_USD <= storm.requests.total() * ONE_USD <= BUDGET_USD


# --- changes of the recipe


class World(SmallRun):
    """A small run with seeds, whose server counts the requests of each wanted answer over the run's whole life."""

    def __init__(self, folder: Path) -> None:
        self.server = FakeTeacher(self._answer).__enter__()
        super().__init__(folder, self.server.base_url)
        self.teacher["sampling"] = {"max_tokens": 100, "seed": 0}

    def _answer(self, request: Request) -> Act:
        cut = request.body["max_tokens"] < 200 and "What is 1 " in request.text
        return answer("42", reasoning="because", finish="length" if cut else "stop")

    def paid_for(self) -> int:
        """Harvest, and count the requests that this took."""
        before = self.server.count
        summary = self.harvest()
        assert summary.still_owed == 0
        assert summary.asked == self.server.count - before
        return self.server.count - before


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv("R1DISTILL_OTHER_KEY", "another-key-0123456789")
    world = World(tmp_path)
    yield world
    world.server.close()


def test_the_life_of_a_run(world: World) -> None:
    """3 problems, 2 samples; the answers to problem 1 are cut below a ceiling of 200."""
    harvest, teacher = world.data["harvest"], world.teacher
    assert world.paid_for() == 6
    assert world.paid_for() == 0
    world.write_problems(5)
    assert world.paid_for() == 2 * 2  # two problems more
    harvest["samples"] = 3
    assert world.paid_for() == 5  # one sample more of each
    world.data["teacher"]["u"] = {**teacher, "model": "m2", "template": "u.jinja"}
    (world.folder / "u.jinja").write_text("<|user|>\nAnswer: {{ question }}")
    assert world.paid_for() == 5 * 3  # a second teacher
    (world.folder / "u.jinja").write_text("<|user|>\nPlease answer: {{ question }}")
    assert world.paid_for() == 5 * 3  # its template is edited; the first teacher's answers stay
    teacher["sampling"] = {"max_tokens": 300, "seed": 0}
    assert world.paid_for() == 3  # a higher ceiling: only what was cut
    assert world.server.requests[-1].body["max_tokens"] == 300
    teacher["sampling"] = {"max_tokens": 100, "seed": 0}
    assert world.paid_for() == 0  # and a lower one nothing
    cut = [slot for slot, count in world.server.per_slot.items() if count > 1]
    assert len(cut) == 3
    assert all(slot.startswith("m|") and "What is 1 " in slot for slot in cut)
    assert len(world.rows()) == world.server.count == len(world.slots()) + len(cut)


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": {"price": {"input": 1, "output": 2}}},
        {"teacher": {"api_key_env": "R1DISTILL_OTHER_KEY"}},
        {"teacher": {"requests_per_min": 1000.0, "tokens_per_min": 1e6, "max_in_flight": 2}},
        {"teacher": {"extra_body": {"provider": {"order": ["x"]}}}},
        {
            "harvest": {
                "max_in_flight": 1,
                "stream": True,
                "idle_timeout_s": 3.0,
                "total_timeout_s": 5.0,
                "max_attempts": 1,
            }
        },
    ],
    ids=["price", "key", "pace", "routing", "harvest"],
)
def test_what_is_no_part_of_a_slot_pays_nothing(world: World, change: dict[str, dict[str, Any]]) -> None:
    assert world.paid_for() == 6
    world.teacher.update(change.get("teacher", {}))
    world.data["harvest"].update(change.get("harvest", {}))
    assert world.paid_for() == 0


def test_a_moved_endpoint_pays_nothing(world: World) -> None:
    assert world.paid_for() == 6
    with FakeTeacher(answer("42")) as moved:
        world.teacher["base_url"] = moved.base_url
        assert world.paid_for() == 0
        world.write_problems(4)
        world.harvest()
    assert moved.count == 2  # what is new goes to the new place
