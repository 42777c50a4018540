"""Several teachers, escalation, hidden reasoning, log-probabilities: what a harvest does beyond one answer a problem."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, answer, error, event, stream_answer, streamed
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.errors import StopRunError
from r1distill.harvest_summary import lines
from r1distill.logprob_store import read
from r1distill.teachers import pace, retry


class World(SmallRun):
    """Two teachers t and u, each a server of its own."""

    def __init__(self, folder: Path, stack: list[FakeTeacher]) -> None:
        self.acts: dict[str, Any] = {name: lambda request: answer("42", reasoning="because") for name in "tu"}
        self.servers = {
            name: FakeTeacher(lambda request, name=name: self.acts[name](request)) for name in "tu"
        }
        stack += self.servers.values()
        for server in self.servers.values():
            server.__enter__()
        super().__init__(folder, self.servers["t"].base_url, problems=6, samples=2)

    def with_second(self, assign: str) -> None:
        self.data["teacher"]["u"] = {**self.teacher, "base_url": self.servers["u"].base_url, "model": "m2"}
        self.data["harvest"].update(assign=assign, max_attempts=2)

    def by_teacher(self) -> Counter[str]:
        return Counter(row["teacher"] for row in self.rows())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    monkeypatch.setattr(pace, "LONGEST_HOLD_S", 0.0)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    servers: list[FakeTeacher] = []
    yield World(tmp_path, servers)
    for server in servers:
        server.release()
        server.close()


def test_a_teacher_that_stops_does_not_stop_the_other(world: World) -> None:
    world.with_second("all")
    world.acts["t"] = lambda request: error(401)
    with pytest.raises(StopRunError, match="Teacher t refuses"):
        world.harvest()
    assert world.by_teacher() == {"u": 12}
    noted = world.run.manifest()["harvest"]
    assert noted["traces"] == 12
    assert "Teacher t refuses" in noted["stopped"]


def test_a_fallback_asks_the_next_one_for_what_the_first_could_not(world: World) -> None:
    world.with_second("fallback")

    def act(request: Request) -> Act:
        number = int(request.text.split()[3])
        return (
            error(500) if number == 0 else error(400, code="content_filter") if number == 1 else answer("42")
        )

    world.acts["t"] = act
    summary = world.harvest()
    assert (summary.wanted, summary.traces, summary.still_owed) == (12, 12, 0)
    assert world.by_teacher() == {"t": 8, "u": 4}
    assert {row["prompt_id"] for row in world.rows() if row["teacher"] == "u"} == {"p0", "p1"}
    count = world.servers["t"].count + world.servers["u"].count
    assert world.harvest().asked == 0
    assert world.servers["t"].count + world.servers["u"].count == count


def test_a_fallback_goes_on_when_the_first_teacher_is_out_of_money(world: World) -> None:
    world.with_second("fallback")
    world.acts["t"] = lambda request: answer("42") if request.number < 3 else error(402)
    summary = world.harvest()
    assert summary.still_owed == 0
    assert world.by_teacher()["u"] >= 6
    assert sum(world.by_teacher().values()) == 12
    assert any("money" in warning for warning in summary.warnings)


def test_a_fallback_with_nobody_left_says_why(world: World) -> None:
    world.with_second("fallback")
    world.acts = {"t": lambda request: error(402), "u": lambda request: error(401)}
    with pytest.raises(StopRunError, match="Teacher u refuses"):
        world.harvest()
    assert world.run.manifest()["harvest"]["still_owed"] == 12


def test_totals_are_split_by_teacher(world: World) -> None:
    world.with_second("all")
    summary = world.harvest()
    assert {t["teacher"]: t["traces"] for t in summary.teachers} == {"t": 12, "u": 12}


def test_a_cut_answer_is_asked_once_more_with_a_higher_ceiling(world: World) -> None:
    world.data["harvest"]["escalate"] = {"factor": 2, "max_tokens": 150}

    def act(request: Request) -> Act:
        number = int(request.text.split()[3])
        cut = number == 1 or (number == 0 and request.body["max_tokens"] == 100)
        return answer("42", finish="length" if cut else "stop")

    world.acts["t"] = act
    summary = world.harvest()
    assert (summary.traces, summary.escalated, summary.truncated, summary.still_owed) == (16, 4, 6, 0)
    assert Counter(request.body["max_tokens"] for request in world.servers["t"].requests) == {100: 12, 150: 4}
    assert any("4 were asked once more" in line for line in lines(summary))
    assert world.harvest().asked == 0  # also what was cut twice is settled
    assert {
        row["finish"] for row in world.rows() if row["prompt_id"] == "p0" and row["max_tokens"] == 150
    } == {"stop"}


def test_an_escalation_that_was_killed_goes_on(world: World) -> None:
    world.acts["t"] = lambda request: answer(
        "42", finish="length" if request.body["max_tokens"] == 100 else "stop"
    )
    world.harvest()
    world.data["harvest"]["escalate"] = {"factor": 2, "max_tokens": 150}
    summary = world.harvest()
    assert (summary.asked, summary.traces, summary.still_owed) == (12, 12, 0)


HIDDEN = {
    "prompt_tokens": 10,
    "completion_tokens": 900,
    "completion_tokens_details": {"reasoning_tokens": 880},
}


def test_hidden_reasoning_is_told(world: World) -> None:
    world.acts["t"] = lambda request: answer("42", usage=HIDDEN)
    summary = world.harvest()
    assert summary.traces == 12
    assert len([w for w in summary.warnings if "reasoning" in w]) == 1


def test_required_reasoning_stops_after_a_few_answers(world: World) -> None:
    world.write_problems(300)
    world.data["harvest"].update(reasoning="required", max_in_flight=200)
    world.acts["t"] = lambda request: answer("42", usage=HIDDEN, delay_s=0.01)
    with pytest.raises(StopRunError, match=r'harvest\.reasoning = "required", so the harvest stops'):
        world.harvest()
    assert world.servers["t"].count <= 12
    world.acts["t"] = lambda request: answer("42", reasoning="Let me see. " * 40, delay_s=0.01)
    assert world.harvest().still_owed == 0
    assert world.servers["t"].peak > 50  # once it is seen, the gate opens


def logprobs(words: list[str]) -> dict[str, Any]:
    def one(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    return {"content": [{**one(w, -0.5), "top_logprobs": [one(w, -0.5), one("x", -1.5)]} for w in words]}


def test_log_probabilities_are_stored_beside_the_traces(world: World) -> None:
    world.data["harvest"]["top_logprobs"] = 2

    def act(request: Request) -> Act:
        made = answer("42", reasoning="because")
        head, body = made.chunks[0].split(b"\r\n\r\n", 1)
        data = json.loads(body)
        data["choices"][0]["logprobs"] = logprobs(["because", "</think>", "4", "2"])
        payload = json.dumps(data).encode()
        head = head.replace(
            f"Content-Length: {len(body)}".encode(), f"Content-Length: {len(payload)}".encode()
        )
        return Act((head + b"\r\n\r\n" + payload,), keep_alive=True)

    world.acts["t"] = act
    world.harvest()
    body = world.servers["t"].requests[0].body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    found = dict(read(world.run.folder / "logprobs"))
    assert set(found) == {row["id"] for row in world.rows()}
    record = next(iter(found.values()))
    assert record.token_list() == [b"because", b"</think>", b"4", b"2"]
    assert (record.k, record.reasoning_ends, record.logprobs()) == (2, 2, [-0.5] * 4)
    world.data["harvest"]["top_logprobs"] = 0
    assert world.harvest().asked == 0  # no part of the slot


def test_log_probabilities_of_a_stream(world: World) -> None:
    world.data["harvest"].update(top_logprobs=2, stream=True)

    def chunk(text: str, finish: str | None = None) -> bytes:
        choice = {
            "index": 0,
            "delta": {"content": text},
            "logprobs": logprobs([text]),
            "finish_reason": finish,
        }
        return event({"model": "fake", "choices": [choice]})

    world.acts["t"] = lambda request: streamed(chunk("4"), chunk("2", "stop"), event(b"[DONE]"))
    world.harvest()
    found = dict(read(world.run.folder / "logprobs"))
    assert {tuple(record.token_list()) for record in found.values()} == {(b"4", b"2")}
    assert len(found) == 12


def test_log_probabilities_that_do_not_come_are_told_once(world: World) -> None:
    world.data["harvest"]["top_logprobs"] = 2
    summary = world.harvest()
    assert len([w for w in summary.warnings if "no log-probabilities" in w]) == 1


def test_a_stream_and_its_extras(world: World) -> None:
    world.data["harvest"]["stream"] = True
    world.acts["t"] = lambda request: stream_answer("42", "because")
    assert world.harvest().traces == 12
