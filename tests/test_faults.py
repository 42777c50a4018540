"""Every way in which a teacher fails, through a whole harvest: what the ledger, failures.jsonl and the exit say of it."""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_teacher import (
    DONE,
    STREAM_HEAD,
    USAGE_PIECE,
    Act,
    FakeTeacher,
    Request,
    answer,
    by_attempt,
    cut_body,
    error,
    event,
    first_attempt,
    hang,
    piece,
    raw,
    reset,
    slow_json,
    slow_stream,
    stall,
    stream_answer,
    streamed,
)
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.errors import StopRunError
from r1distill.teachers import retry

IDLE_S, TOTAL_S = 0.3, 0.8


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    monkeypatch.setattr(retry, "LAST_BOUND_S", 0.0)
    monkeypatch.setenv(KEY_VARIABLE, KEY)


class World(SmallRun):
    """A small run and a teacher that misbehaves on order."""

    def __init__(self, folder: Path) -> None:
        self.act: Callable[[Request], Act] = good
        self.server = FakeTeacher(lambda request: self.act(request))
        self.server.__enter__()
        super().__init__(folder, self.server.base_url, problems=2, samples=1)
        self.data["harvest"].update(idle_timeout_s=IDLE_S, total_timeout_s=TOTAL_S)
        self.teacher["sampling"]["seed"] = 0

    def fails(self, fault: Fault) -> None:
        """The problem p0 is answered with this fault, the others are answered well."""
        self.act = lambda request: fault(request) if "What is 0 " in request.text else good(request)

    def asked(self) -> int:
        """Requests since the last call."""
        count = self.server.count
        self.server.requests.clear()
        return count


Fault = Callable[[Request], Act]


def good(request: Request) -> Act:
    return stream_answer("42", "because") if request.body.get("stream") else answer("42", reasoning="because")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.server.release()
    world.server.close()


def always(act: Act) -> Fault:
    return lambda request: act


PAGE = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>" + b"x" * 5000 + b"</body></html>"
BLANK_STREAM = streamed(piece(content=" "), piece(content="\n"), piece(finish="stop"), USAGE_PIECE, DONE)
BOTH, PLAIN, STREAM = (False, True), (False,), (True,)

PASSING: list[tuple[str, Act, tuple[bool, ...], str]] = [
    # name, what p0 gets first, streaming or not, error class (or classes that are as good)
    ("429", error(429, code="rate_limit_exceeded"), BOTH, "rate"),
    ("429 in a 200", raw(b'{"error": {"message": "slow down", "code": 429}}'), BOTH, "rate"),
    ("402 in flight", error(402, code="in_flight_budget_exhausted"), BOTH, "overload"),
    ("400 service quota", error(400, "ServiceQuotaExceededException"), PLAIN, "rate"),
    ("500", error(500), BOTH, "server"),
    ("500 about money", error(500, "upstream: insufficient balance, insufficient_quota"), BOTH, "server"),
    ("502 page", raw(PAGE, 502, "text/html"), BOTH, "overload"),
    ("503", error(503), BOTH, "overload"),
    ("524 page", raw(PAGE, 524, "text/html"), PLAIN, "timeout"),
    ("529", error(529), BOTH, "overload"),
    ("200 page", raw(PAGE, 200, "text/html"), BOTH, "no_api"),
    ("error in a 200", raw(b'{"error": {"message": "x", "code": 502}}'), BOTH, "overload"),
    ("error text in a 200", raw(b'{"error": "CUDA"}'), PLAIN, "server"),
    ("no choices", raw(b'{"choices": []}'), BOTH, "empty"),
    ("null content", answer(None), BOTH, "empty"),
    ("blank content", answer(" \n "), BOTH, "empty"),
    ("blank stream", BLANK_STREAM, STREAM, "empty"),
    ("broken off", answer("part", finish="error"), BOTH, "server"),
    ("malformed", raw(b'{"choices": [{"mess'), BOTH, "malformed"),
    ("empty body", raw(b""), PLAIN, "malformed"),
    ("cut body", cut_body(), PLAIN, "network"),
    ("cut body, said to be JSON", cut_body(), STREAM, "network"),
    ("cut stream", streamed(piece(content="4")), STREAM, "cut_stream"),
    ("stream that is only an end", streamed(DONE), STREAM, "cut_stream"),
    ("stream reset in the middle", Act((STREAM_HEAD, piece(content="4")), reset=True), STREAM, "cut_stream|network"),
    ("malformed event", streamed(b"data: {\n\n"), STREAM, "malformed"),
    ("error event", streamed(piece(content="4"), event({"error": {"code": 502, "message": "x"}})), STREAM, "overload"),
    ("flat error event", streamed(event({"object": "error", "message": "x", "code": 503})), STREAM, "overload"),
    ("error event as text", streamed(event({"error": "CUDA"})), STREAM, "server"),
    ("reset", reset(), BOTH, "network"),
    ("hang before", hang(), BOTH, "timeout"),
    ("hang in the middle", stall(False), PLAIN, "timeout"),
    ("hang in the middle of a stream", stall(True), STREAM, "timeout"),
    ("blank lines without end", slow_json(4), PLAIN, "timeout"),
    ("comments without end", slow_stream(4), STREAM, "timeout"),
]  # fmt: skip
PASSING_CASES = [
    pytest.param(act, stream, error_class, id=f"{name}{', stream' if stream else ''}")
    for name, act, streams, error_class in PASSING
    for stream in streams
]


@pytest.mark.parametrize(("act", "stream", "error_class"), PASSING_CASES)
def test_a_passing_trouble_is_asked_again(world: World, act: Act, stream: bool, error_class: str) -> None:
    world.data["harvest"]["stream"] = stream
    whole = stream_answer("42", "because") if stream else answer("42", reasoning="because")
    world.fails(first_attempt(act, whole))
    summary = world.harvest()
    assert (summary.traces, summary.still_owed, summary.attempts) == (2, 0, 3)
    assert summary.retries.keys() <= set(error_class.split("|"))
    assert sum(summary.retries.values()) == 1
    rows = {row["prompt_id"]: row for row in world.rows()}
    assert (rows["p0"]["attempts"], rows["p1"]["attempts"]) == (2, 1)
    assert {(row["reasoning"], row["answer"], row["finish"]) for row in rows.values()} == {
        ("because", "42", "stop")
    }
    assert world.failures() == []


@pytest.mark.parametrize(
    ("act", "stream", "error_class", "attempts"),
    [
        (error(500), False, "server", 3),
        (raw(PAGE, 502, "text/html"), False, "overload", 3),
        (streamed(piece(content="4")), True, "cut_stream", 3),
        (raw(b'{"choices": []}'), False, "empty", 2),
        (hang(), True, "timeout", 3),
        (error(500, x_should_retry="false"), False, "server", 1),
    ],
)
def test_a_lasting_trouble_is_given_up_for_now(
    world: World, act: Act, stream: bool, error_class: str, attempts: int
) -> None:
    world.data["harvest"].update(stream=stream, max_attempts=3)
    world.fails(always(act))
    summary = world.harvest()
    assert (summary.traces, summary.failed_open, summary.failed_final, summary.still_owed) == (1, 1, 0, 1)
    (failure,) = world.failures()
    assert (failure["error_class"], failure["attempts"], failure["final"]) == (error_class, attempts, False)
    assert "<" not in failure["message"]
    assert len(failure["message"]) < 200
    world.asked()
    world.act = good
    assert (world.harvest().traces, world.asked()) == (1, 1)


FINAL: list[tuple[str, Act, str, int]] = [
    ("context", error(400, code="context_length_exceeded"), "context_length", 1),
    ("context in words", error(400, "This model's maximum context length is 9 tokens", 400), "context_length", 1),
    ("filter", error(400, code="content_filter"), "content_filter", 1),
    ("filter, 200", answer(None, finish="content_filter"), "content_filter", 1),
    ("moderation", raw(b'{"error": {"code": 403, "message": "x", "metadata": {"flagged_input": "y"}}}', 403),
     "content_filter", 1),
    ("422", error(422, "Invalid Parameters"), "invalid_item", 1),
    ("413", error(413), "invalid_item", 1),
    ("424", error(424, "ModelErrorException"), "model_error", 2),
]  # fmt: skip


@pytest.mark.parametrize("stream", BOTH)
@pytest.mark.parametrize(
    ("act", "error_class", "attempts"), [f[1:] for f in FINAL], ids=[f[0] for f in FINAL]
)
def test_what_can_not_help_is_final_for_the_item(
    world: World, act: Act, error_class: str, attempts: int, stream: bool
) -> None:
    world.data["harvest"]["stream"] = stream
    world.fails(always(act))
    summary = world.harvest()
    assert (summary.traces, summary.failed_final, summary.still_owed) == (1, 1, 0)
    (failure,) = world.failures()
    assert (failure["error_class"], failure["attempts"], failure["final"]) == (error_class, attempts, True)
    world.asked()
    again = world.harvest()
    assert (again.asked, again.had_failed, world.asked()) == (0, 1, 0)


STOPS: list[tuple[str, Act, str, str]] = [
    ("401", error(401, "Incorrect API key"), "key", "check the key"),
    ("402", error(402, "Insufficient Balance"), "quota", "top up"),
    ("404", error(404, "no such model"), "not_found", "check model"),
    ("quota 429", error(429, "You exceeded your current quota", code="insufficient_quota"), "quota", "top up"),
    ("quota in a 200", raw(b'{"error": {"message": "x", "code": "insufficient_quota"}}'), "quota", "top up"),
    ("402 in a 200", raw(b'{"error": {"message": "x", "code": 402}}'), "money", "top up"),
    ("parameter", error(400, code="unsupported_parameter"), "refused_parameter", "sampling"),
    ("parameter, FastAPI", raw(b'{"detail": [{"loc": ["body", "x"], "msg": "m", "type": "extra_forbidden"}]}', 422),
     "refused_parameter", "sampling"),
    ("401 page", raw(PAGE, 401, "text/html"), "key", "check the key"),
]  # fmt: skip


@pytest.mark.parametrize("stream", BOTH)
@pytest.mark.parametrize(("act", "error_class", "advice"), [s[1:] for s in STOPS], ids=[s[0] for s in STOPS])
def test_what_no_request_survives_stops_the_run(
    world: World, act: Act, error_class: str, advice: str, stream: bool
) -> None:
    world.write_problems(30)
    world.data["harvest"].update(stream=stream, max_in_flight=4)
    world.act = always(act)
    with pytest.raises(StopRunError, match=advice) as caught:
        world.harvest()
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert "<" not in str(caught.value)
    assert world.asked() <= 4
    assert {(row["error_class"], row["final"], row["attempts"]) for row in world.failures()} == {
        (error_class, False, 1)
    }
    world.act = good
    assert (world.harvest().traces, world.asked()) == (30, 30)


def test_a_stream_only_model_says_what_to_set(world: World) -> None:
    refusal = error(400, "This model only support stream mode, please enable the stream parameter")
    world.act = lambda request: good(request) if request.body.get("stream") else refusal
    with pytest.raises(StopRunError, match=r"harvest\.stream = true"):
        world.harvest()
    world.data["harvest"]["stream"] = True
    assert world.harvest().traces == 2


@pytest.mark.parametrize("stream", BOTH)
def test_a_slow_start_with_signs_of_life_is_no_fault(world: World, stream: bool) -> None:
    world.data["harvest"].update(stream=stream, total_timeout_s=10)
    slow = slow_stream(3 * IDLE_S) if stream else slow_json(3 * IDLE_S)
    world.fails(always(slow))
    summary = world.harvest()
    assert (summary.traces, summary.attempts) == (2, 2)
    assert {row["answer"] for row in world.rows()} == {"42"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_does_not_follow_a_redirect(world: World, status: int) -> None:
    with FakeTeacher(answer("42"), host="127.0.0.2") as elsewhere:
        world.act = always(raw(b"", status, Location=f"{elsewhere.base_url}/chat/completions?k={KEY}"))
        with pytest.raises(StopRunError, match=r"redirect.*127\.0\.0\.2"):
            world.harvest()
        elsewhere.settle()
    assert elsewhere.count == 0
    assert {row["error_class"] for row in world.failures()} == {"redirect"}


class Asked(NamedTuple):
    """A 429 that says how long to wait, and the least that then is waited."""

    act: Callable[[], Act]
    least_s: float


ASKED = {
    "seconds": Asked(lambda: error(429, Retry_After="0.3"), 0.3),
    "milliseconds": Asked(lambda: error(429, Retry_After="9", Retry_After_Ms="300"), 0.3),
    "Go duration": Asked(lambda: error(429, Retry_After="300ms"), 0.3),
    "date": Asked(lambda: error(429, Retry_After=email.utils.formatdate(time.time() + 2, usegmt=True)), 0.9),
    "503": Asked(lambda: error(503, Retry_After="0.3"), 0.3),
    "in words": Asked(lambda: error(429, "Rate limit reached. Please try again in 300ms."), 0.3),
}


@pytest.mark.parametrize("case", ASKED.values(), ids=ASKED)
def test_the_wait_that_the_teacher_asks_for_is_kept(world: World, case: Asked) -> None:
    world.write_problems(1)
    world.act = first_attempt(lambda request: case.act(), answer("42"))
    assert world.harvest().traces == 1
    first, second = world.server.requests
    assert case.least_s <= second.at - first.at < case.least_s + 2


def test_exit_codes_of_the_command_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    from r1distill.cli import main

    world.run.save_recipe(world.recipe)
    world.data["harvest"]["max_attempts"] = 1

    def command(act: Act | None) -> tuple[int, dict[str, Any]]:
        if act is not None:
            world.fails(always(act))
        else:
            world.act = good
        world.run.save_recipe(world.recipe)
        code = main(["harvest", str(world.run.folder), "--json"])
        return code, json.loads(capsys.readouterr().out or "{}")

    code, summary = command(error(401))
    assert (code, summary["failed_open"], summary["still_owed"]) == (1, 1, 1)
    assert "refuses to answer" in summary["stopped"]
    code, summary = command(error(500))
    assert (code, summary["failed_open"], summary["still_owed"]) == (3, 1, 1)
    code, summary = command(error(400, code="context_length_exceeded"))
    assert (code, summary["failed_final"], summary["still_owed"]) == (0, 1, 0)


# --- what failures cost

TEN_ANSWERS = {"price": {"input": 1.0, "output": 1000.0}}
"""A price by which an answer that uses its ceiling of 100 tokens costs a little more than 0.1 dollars."""
BILLED_EMPTY = answer(" ", usage={"prompt_tokens": 10, "completion_tokens": 100})


@pytest.mark.parametrize(
    ("act", "stream"),
    [(BILLED_EMPTY, False), (cut_body(), False), (streamed(piece(content="4")), True), (stall(True), True), (reset(), False)],
    ids=["empty", "cut body", "cut stream", "stall", "reset"],
)  # fmt: skip
def test_attempts_that_may_be_billed_are_paid_from_the_budget(world: World, act: Act, stream: bool) -> None:
    world.write_problems(40)
    world.teacher.update(TEN_ANSWERS)
    world.data["harvest"].update(budget_usd=1.05, stream=stream, max_in_flight=4)
    world.act = always(act)
    summary = world.harvest()
    assert 8 <= world.asked() <= 10
    assert summary.traces == 0
    world.act = good
    assert (world.harvest().still_owed, world.asked()) == (40, 0)
    world.data["harvest"]["budget_usd"] = 10.0
    assert world.harvest().still_owed == 0


def test_refused_attempts_cost_nothing(world: World) -> None:
    world.write_problems(9)
    world.teacher.update(TEN_ANSWERS, requests_per_min=1e6)
    world.data["harvest"].update(budget_usd=1.05, max_in_flight=4)
    world.act = first_attempt(
        error(429, Retry_After="0.01"), answer("42", usage={"prompt_tokens": 10, "completion_tokens": 100})
    )
    summary = world.harvest()
    assert (summary.traces, summary.still_owed, world.asked()) == (9, 0, 18)


# --- ten faults, one in a hundred each

TEN = ("429", "500", "503", "reset", "truncated stream", "length", "empty", "malformed", "hang", "stall")
PROMPTS = 1000


def fault(name: str, stream: bool) -> Act:
    """One of the ten faults, on either lane."""
    cut = streamed(piece(content="4")) if stream else cut_body()
    if stream:
        length = streamed(piece(reasoning="so far"), piece(finish="length"), USAGE_PIECE, DONE)
    else:
        length = answer(None, reasoning="so far", finish="length")
    made = {
        "429": error(429, code="rate_limit_exceeded", Retry_After="0.05"), "500": error(500), "503": error(503),
        "reset": reset(), "truncated stream": cut, "length": length, "empty": answer(" "),
        "malformed": streamed(b"data: {\n\n") if stream else raw(b'{"choices": [{"mess'), "hang": hang(), "stall": stall(stream),
    }  # fmt: skip
    return made[name]


def whole(request: Request, stream: bool) -> Act:
    """The right answer of "What is i + 1?"."""
    number = str(int(request.text.split()[-3]) + 1)
    if not stream:
        return answer(number, reasoning="because")
    return streamed(
        piece(reasoning="because"), piece(content=number), piece(finish="stop"), USAGE_PIECE, DONE
    )


@pytest.mark.parametrize("stream", BOTH, ids=["plain", "stream"])
@pytest.mark.parametrize("again", [False, True], ids=["first attempts", "all attempts"])
def test_ten_faults_in_a_thousand(world: World, again: bool, stream: bool) -> None:
    """1% each of ten faults, dealt by a fixed seed: at first attempts only (each fault exactly ten times), or at any."""
    names = [name for name in TEN for _ in range(PROMPTS // 100)] + [None] * (PROMPTS - 10 * (PROMPTS // 100))
    random.Random(20261122).shuffle(names)
    dealt: Counter[str] = Counter()
    cut: set[str] = set()

    def act(request: Request, attempt: int) -> Act:
        problem = int(request.text.split()[-3])
        name = names[problem] if attempt == 1 else None
        if again and attempt > 1:
            name = random.Random(f"{problem}, attempt {attempt}").choice(names)
        if name is None:
            return whole(request, stream)
        dealt[name] += 1
        if name == "length":
            cut.add(f"p{problem}")
        return fault(name, stream)

    world.write_problems(PROMPTS)
    world.data["harvest"].update(stream=stream, max_in_flight=100, idle_timeout_s=IDLE_S, total_timeout_s=2.0)
    world.act = by_attempt(act)
    started = time.monotonic()
    summary = world.harvest()
    elapsed_s = time.monotonic() - started
    assert elapsed_s < 20
    assert (summary.traces, summary.truncated, summary.failed_final) == (
        PROMPTS - summary.failed_open,
        len(cut),
        0,
    )
    assert {row["error_class"] for row in world.failures()} <= {
        "empty"
    }  # twice in a row: not bought a third time
    assert summary.failed_open == len(world.failures()) <= (2 if again else 0)
    if summary.still_owed:
        world.harvest()
    rows = world.rows()
    assert len(rows) == len({row["prompt_id"] for row in rows}) == PROMPTS
    assert all(dealt[name] >= PROMPTS // 100 for name in TEN)
    assert {row["prompt_id"] for row in rows if row["finish"] == "length"} == cut
    complete = [row for row in rows if row["finish"] == "stop"]
    assert len(complete) == PROMPTS - len(cut) >= 985
    assert all(row["answer"] == str(int(row["prompt_id"][1:]) + 1) and row["reasoning"] for row in complete)
    assert world.server.count == PROMPTS + dealt.total() - dealt["length"]
    world.asked()
    assert (world.harvest().asked, world.asked()) == (0, 0)
