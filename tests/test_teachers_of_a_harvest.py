"""Several teachers, escalation, hidden reasoning, log-probabilities: what a harvest does beyond one answer a problem."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, answer, error, event, raw, stream_answer, streamed
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.errors import StopRunError
from r1distill.harvest_summary import lines
from r1distill.logprobs.reading import read
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
    assert world.servers["t"].peak > 20  # once it is seen, the gate opens


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


def test_a_fallback_after_final_refusals_only(world: World) -> None:
    world.with_second("fallback")

    def act(request: Request) -> Act:
        return error(400, code="content_filter") if "What is 2 " in request.text else answer("42")

    world.acts["t"] = act
    summary = world.harvest()
    assert (summary.traces, summary.still_owed) == (12, 0)
    assert {row["prompt_id"] for row in world.rows() if row["teacher"] == "u"} == {"p2"}


def test_a_fallback_that_retries_what_failed_ends(world: World) -> None:
    world.with_second("fallback")
    world.acts = {name: lambda request: error(400, code="content_filter") for name in "tu"}
    world.acts["u"] = lambda request: (
        error(400, code="content_filter") if "What is 2 " in request.text else answer("42")
    )
    world.harvest()
    count = world.servers["t"].count
    summary = world.harvest(retry_failed=True)
    assert world.servers["t"].count == count + 2  # asked again once, not for ever
    assert summary.still_owed == 0


@pytest.mark.parametrize("how", [{"limit": 4}, {"pilot": 4}])
def test_a_fallback_with_a_limit_asks_the_same_answers_of_the_next_teacher(
    world: World, how: dict[str, int]
) -> None:
    world.with_second("fallback")
    world.acts["t"] = lambda request: error(500)
    summary = world.harvest(**how)
    assert summary.traces == world.servers["u"].count == 4
    asked = {request.text for request in world.servers["t"].requests}
    assert {request.text for request in world.servers["u"].requests} == asked


def test_a_proxy_that_can_not_be_used_stops_one_teacher_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.with_second("fallback")
    world.teacher["base_url"] = "http://teacher.invalid/v1"
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert world.harvest().still_owed == 0
    assert world.by_teacher() == {"u": 12}


@pytest.mark.parametrize("budget", [0.05, 0.09])
def test_what_is_owed_adds_up_when_an_escalation_meets_the_end_of_the_budget(
    world: World, budget: float
) -> None:
    world.teacher["price"] = {"input": 1.0, "output": 100.0}
    world.data["harvest"].update(
        escalate={"factor": 2, "max_tokens": 200}, budget_usd=budget, max_in_flight=3
    )
    world.acts["t"] = lambda request: answer(
        "42", finish="length", usage={"prompt_tokens": 10, "completion_tokens": request.body["max_tokens"]}
    )
    summary = world.harvest()
    assert summary.over_budget
    planned = world.harvest(dry_run=True)
    assert planned.would_ask == planned.still_owed == summary.still_owed > 0
    assert summary.asked + summary.escalated == world.servers["t"].count == summary.traces
    world.data["harvest"]["budget_usd"] = 10.0
    again = world.harvest()
    assert again.still_owed == 0
    assert again.asked + again.escalated == again.traces
    assert Counter(row["max_tokens"] for row in world.rows()) == {100: 12, 200: 12}


def test_settings_that_are_refused_after_a_good_start_are_not_the_problems_fault(world: World) -> None:
    world.write_problems(60)
    world.harvest(limit=2)
    world.teacher["sampling"] = {"max_tokens": 100, "temperature": 9.5}
    world.acts["t"] = lambda request: error(400, "Bad request")
    with pytest.raises(StopRunError, match="Bad request"):
        world.harvest()
    assert not any(row["final"] for row in world.failures())


def test_when_all_is_refused_from_some_point_on_nothing_is_final(world: World) -> None:
    world.write_problems(60)
    world.data["harvest"]["max_in_flight"] = 1
    world.acts["t"] = lambda request: answer("42") if request.number == 0 else error(400, "Bad request")
    with pytest.raises(StopRunError, match="Bad request"):
        world.harvest()
    assert world.servers["t"].count < 30
    assert not any(row["final"] for row in world.failures())
    world.acts["t"] = lambda request: answer("42")
    assert world.harvest().still_owed == 0


def test_a_web_page_instead_of_an_api_stops_soon(world: World) -> None:
    world.write_problems(60)
    world.data["harvest"].update(stream=True, max_attempts=2, max_in_flight=4)
    world.acts["t"] = lambda request: raw(b"<html><title>login</title></html>", 200, "text/html")
    with pytest.raises(StopRunError, match="login"):
        world.harvest()
    assert world.servers["t"].count <= 16


def test_reasoning_that_was_shown_before_needs_no_second_probe(world: World) -> None:
    world.write_problems(60)
    world.data["harvest"].update(reasoning="required", max_in_flight=40)
    world.acts["t"] = lambda request: answer("42", reasoning="Let me see. " * 40)
    world.harvest(limit=10)
    world.servers["t"].peak = 0
    world.acts["t"] = lambda request: answer("42", reasoning="Let me see. " * 40, delay_s=0.2)
    world.harvest()
    assert world.servers["t"].peak > 20
