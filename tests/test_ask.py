"""The asking engine against a misbehaving teacher: limits, failures, stops, money. No sleeping: waits are noted only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, Script, answer, error, hang, raw, stream_answer

from r1distill import ask as ask_module
from r1distill.ask import Asker
from r1distill.asking import patience
from r1distill.asking.desk import Terms
from r1distill.asking.exchange import request_body
from r1distill.asking.owed import Wanted
from r1distill.asking.tally import Tally
from r1distill.errors import StopRunError, StorageError
from r1distill.ledger import Ledger
from r1distill.recipe_sections import HarvestSection, PriceSection
from r1distill.records import Failure, Message, Trace, slot_of
from r1distill.teachers import pace
from r1distill.teachers.client import Endpoint

KEY = "sk-test-0123456789abcdefghijkl"


def wanted(count: int, teacher: str = "t", **sampling: Any) -> list[Wanted]:
    sampling = {"max_tokens": 100, **sampling}
    items = []
    for number in range(count):
        messages = [Message("user", f"question {number}")]
        slot = slot_of(teacher, "m", messages, sampling, number)
        items.append(Wanted(slot, f"p{number}", number, teacher, "m", messages, sampling))
    return items


def by_teacher(items: list[Wanted]) -> dict[str, list[Wanted]]:
    return {name: [i for i in items if i.teacher == name] for name in {i.teacher for i in items}}


class Desk:
    """Ledgers in a folder, and an Asker over them whose waits take no time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def ask(self, script: Script | FakeTeacher, items: list[Wanted], **how: Any) -> Tally:
        limits = HarvestSection(**how.pop("limits", {}))
        teacher = script if isinstance(script, FakeTeacher) else FakeTeacher(script)
        with (
            teacher,
            Ledger(self.folder / "part-1-of-1.jsonl") as ledger,
            Ledger(self.folder / "failures.jsonl") as failures,
        ):
            endpoints = {
                name: Endpoint(teacher.base_url, KEY, "m", how.pop("local", False))
                for name in {i.teacher for i in items}
            }
            self.asker = Asker(endpoints, limits, ledger, failures, sleep=self.sleep, **how)
            return self.asker.run(by_teacher(items), "test")

    def traces(self) -> list[Trace]:
        return self._rows("part-1-of-1.jsonl", Trace)

    def failures(self) -> list[Failure]:
        return self._rows("failures.jsonl", Failure)

    def _rows(self, name: str, kind: Any) -> list[Any]:
        import msgspec

        return [
            msgspec.json.decode(line, type=kind) for line in (self.folder / name).read_bytes().splitlines()
        ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(pace, "LONGEST_HOLD_S", 0.0)
    yield Desk(tmp_path)


def echo(request: Request) -> Act:
    """The answer is the number in the question."""
    return answer(request.text.split()[-1], reasoning="because")


def test_every_answer_arrives_once_and_in_its_slot(desk: Desk) -> None:
    items = wanted(20)
    tally = desk.ask(echo, items)
    traces = {trace.slot: trace for trace in desk.traces()}
    assert set(traces) == {item.slot for item in items}
    for item in items:
        trace = traces[item.slot]
        assert (trace.answer, trace.reasoning) == (item.messages[0].content.split()[-1], "because")
        assert (trace.prompt_id, trace.sample, trace.max_tokens) == (item.prompt_id, item.sample, 100)
        assert (trace.model, trace.model_answered, trace.attempts) == ("m", "fake", 1)
        assert trace.messages == item.messages
        assert "max_tokens" not in trace.sampling
    assert (tally.asked, tally.traces, tally.attempts, tally.without_reasoning) == (20, 20, 20, 0)


def test_the_order_of_the_answers_does_not_matter(desk: Desk) -> None:
    def backwards(request: Request) -> Act:
        number = int(request.text.split()[-1])
        return answer(str(number), delay_s=0.02 * (5 - number))

    desk.ask(backwards, wanted(6))
    assert [trace.answer for trace in desk.traces()] == ["5", "4", "3", "2", "1", "0"]
    assert all(trace.answer == trace.prompt_id[1:] for trace in desk.traces())


@pytest.mark.parametrize("most", [1, 3])
def test_the_limit_in_flight_is_kept_and_used(desk: Desk, most: int) -> None:
    teacher = FakeTeacher(lambda request: answer("42", delay_s=0.01))
    desk.ask(teacher, wanted(12), limits={"max_in_flight": most})
    assert teacher.peak == most


def test_nothing_wanted_is_nothing_done(desk: Desk) -> None:
    assert desk.ask(echo, []).asked == 0


def test_the_whole_run_as_a_stream(desk: Desk) -> None:
    teacher = FakeTeacher(lambda request: stream_answer(request.text.split()[-1], "because"))
    desk.ask(teacher, wanted(5), limits={"stream": True})
    assert sorted(trace.answer for trace in desk.traces()) == list("01234")
    assert {trace.usage.completion_tokens for trace in desk.traces()} == {20}
    assert all(request.body["stream"] for request in teacher.requests)


def test_the_seed_sent_counts_up_with_the_sample() -> None:
    bodies = [request_body(item) for item in wanted(3, seed=7)]
    assert [body["seed"] for body in bodies] == [7, 8, 9]
    assert "seed" not in request_body(wanted(1)[0])
    assert request_body(wanted(1, seed=None)[0])["seed"] is None


def test_a_passing_trouble_is_retried_and_counted(desk: Desk) -> None:
    acts = [
        error(500),
        error(429, Retry_After="3"),
        raw(b"<html>", 502, "text/html"),
        answer("42", reasoning="r"),
    ]
    tally = desk.ask(acts, wanted(1))
    (trace,) = desk.traces()
    assert (trace.answer, trace.attempts) == ("42", 4)
    assert dict(tally.retries) == {"server": 1, "rate": 1, "overload": 1}
    assert desk.waits[1] == 3.0
    assert desk.failures() == []


def test_what_is_given_up_stays_open_and_what_can_not_help_is_final(desk: Desk) -> None:
    def act(request: Request) -> Act:
        number = int(request.text.split()[-1])
        return [
            error(500),
            error(400, code="context_length_exceeded"),
            raw(b'{"choices": []}'),
            answer("42"),
        ][number]

    tally = desk.ask(act, wanted(4), limits={"max_attempts": 3})
    assert (tally.traces, tally.failed_open, tally.failed_final) == (1, 2, 1)
    found = {f.prompt_id: (f.error_class, f.final, f.attempts, f.http_status) for f in desk.failures()}
    assert found == {
        "p0": ("server", False, 3, 500), "p1": ("context_length", True, 1, 400), "p2": ("empty", False, 2, None),
    }  # fmt: skip


def test_an_answer_without_reasoning_is_counted(desk: Desk) -> None:
    assert (
        desk.ask(
            [answer("1"), answer("2", reasoning="r")], wanted(2), limits={"max_in_flight": 1}
        ).without_reasoning
        == 1
    )


def test_a_cut_answer_is_kept_and_counted(desk: Desk) -> None:
    tally = desk.ask(answer(None, reasoning="so far", finish="length"), wanted(1))
    assert (tally.truncated, desk.traces()[0].finish) == (1, "length")


STOPS = [
    (401, {}, "key"), (402, {}, "top up"), (404, {}, "check model"), (429, {"code": "insufficient_quota"}, "quota"),
    (400, {"code": "unsupported_parameter"}, "sampling"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "fields", "advice"), STOPS)
def test_what_no_request_survives_stops_the_run(
    desk: Desk, status: int, fields: dict[str, Any], advice: str
) -> None:
    teacher = FakeTeacher(error(status, f"no: {KEY}", **fields))
    with pytest.raises(StopRunError) as caught:
        desk.ask(teacher, wanted(50), limits={"max_in_flight": 4})
    text = str(caught.value)
    assert advice in text
    assert f"HTTP {status}" in text
    assert "\n" not in text
    assert text.endswith("run again to go on.")
    assert KEY not in text
    assert teacher.count <= 4
    assert all(not failure.final for failure in desk.failures())


def test_what_was_under_way_at_a_stop_is_kept(desk: Desk) -> None:
    def act(request: Request) -> Act:
        return error(401) if request.text.endswith(" 0") else answer("42", delay_s=0.1)

    with pytest.raises(StopRunError):
        desk.ask(act, wanted(20), limits={"max_in_flight": 4})
    assert len(desk.traces()) == 3


def test_a_teacher_that_can_not_be_reached_ends_quickly(desk: Desk) -> None:
    teacher = FakeTeacher(echo)
    with teacher:
        pass
    started = time.monotonic()
    with (
        Ledger(desk.folder / "part-1-of-1.jsonl") as ledger,
        Ledger(desk.folder / "failures.jsonl") as failures,
    ):
        asker = Asker(
            {"t": Endpoint(teacher.base_url, KEY, "m")}, HarvestSection(), ledger, failures, sleep=desk.sleep
        )
        with pytest.raises(StopRunError, match="can't be reached at http://127") as caught:
            asker.run(by_teacher(wanted(500)), "test")
    assert "check base_url" in str(caught.value)
    assert time.monotonic() - started < 5
    assert len(desk.failures()) <= 64


def test_one_strange_problem_does_not_stop_the_others(desk: Desk) -> None:
    def act(request: Request) -> Act:
        return error(400, "can't read this") if request.text.endswith(" 3") else answer("42")

    tally = desk.ask(act, wanted(8), limits={"max_in_flight": 1})
    assert (tally.traces, tally.failed_final) == (7, 1)
    assert [(f.error_class, f.final, f.prompt_id) for f in desk.failures()] == [("invalid_item", True, "p3")]


def test_a_request_refused_from_the_first_on_stops_the_run(desk: Desk) -> None:
    with pytest.raises(StopRunError, match="can't read this"):
        desk.ask(error(400, "can't read this"), wanted(8), limits={"max_in_flight": 1})


def test_a_teacher_that_fell_silent_ends_the_run(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SILENT_S", 0.0)
    teacher = FakeTeacher(error(503, "down for today"))
    with pytest.raises(StopRunError, match=r"no answer for 0 minutes.*down for today"):
        desk.ask(teacher, wanted(100), limits={"max_in_flight": 2, "max_attempts": 1})
    assert patience.SILENT_ITEMS <= teacher.count <= patience.SILENT_ITEMS + 2


def test_a_short_silence_does_not(desk: Desk) -> None:
    tally = desk.ask(error(503), wanted(60), limits={"max_attempts": 1})
    assert tally.failed_open == 60


PRICE = PriceSection(input=1.0, output=100.0)


@pytest.mark.parametrize(
    ("act", "price", "local", "cost"),
    [
        (answer("42"), PRICE, False, 0.00201),
        (answer("42"), None, False, None),
        (answer("42", usage=None), PRICE, False, None),
        (answer("42", usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5}), PRICE, False, 0.5),
        (answer("42", usage={"cost": 0.5}), None, False, 0.5),
        (answer("42"), PRICE, True, 0.0),
    ],
)
def test_the_cost_of_an_answer(
    desk: Desk, act: Act, price: PriceSection | None, local: bool, cost: float | None
) -> None:
    tally = desk.ask(act, wanted(2), terms={"t": Terms(price)}, local=local)
    assert [trace.cost_usd for trace in desk.traces()] == [cost if cost is None else pytest.approx(cost)] * 2
    assert tally.cost_unknown == (2 if cost is None else 0)
    assert tally.cost_usd == pytest.approx(2 * (cost or 0))


def test_an_observer_hears_of_every_trace(desk: Desk) -> None:
    heard: list[Trace] = []
    desk.ask(echo, wanted(4), on_trace=heard.append)
    assert {trace.id for trace in heard} == {trace.id for trace in desk.traces()}


@pytest.mark.parametrize("which", ["append", "sync"])
def test_a_disk_that_fails_ends_the_run_and_keeps_the_rows(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(ask_module, "TICK_S", 0.01)
    real: Callable[..., Any] = getattr(Ledger, which)
    calls = [0]

    def failing(self: Ledger, *arguments: Any, **more: Any) -> Any:
        calls[0] += self.path.name.startswith("part")
        if calls[0] == 4:
            raise StorageError("no space left")
        return real(self, *arguments, **more)

    monkeypatch.setattr(Ledger, which, failing)
    act = (
        (lambda r: answer("42", delay_s=0.02))
        if which == "append"
        else (lambda r: hang() if r.number else answer("42"))
    )
    with pytest.raises(StorageError, match="no space left"):
        desk.ask(act, wanted(20), limits={"max_in_flight": 1})
    assert desk.traces()


def test_the_progress_line_says_what_matters() -> None:
    tally = Tally(traces=10, completion_tokens=2000, cost_usd=0.5, budget_usd=20.0)
    tally.add_failure("s", "timeout", False)
    tally.add_failure("s", "timeout", True)
    tally.retries["rate"] = 3
    assert tally.detail(2.0, 4, 24) == (
        "5.0/s, 2,000 tokens (1000/s), 4 in flight, failed: 2 timeout, retries: 3 rate, "
        "$0.5000 now (about $1.09 for all 24), $0.0000 of the budget of $20.00"
    )
    assert tally.done == 11


def test_when_no_problem_can_be_answered_the_recipe_is_at_fault(desk: Desk) -> None:
    teacher = FakeTeacher(error(400, "too long", code="context_length_exceeded"))
    with pytest.raises(
        StopRunError, match=r"answered nothing, and 20 problems can't be answered.*--retry-failed"
    ):
        desk.ask(teacher, wanted(300), limits={"max_in_flight": 4})
    assert teacher.count <= 24


def test_one_strange_problem_at_the_start_does_not_stop_the_others(desk: Desk) -> None:
    def act(request: Request) -> Act:
        return error(400, "can't read this") if request.text.endswith(" 0") else answer("42")

    tally = desk.ask(act, wanted(8), limits={"max_in_flight": 1})
    assert (tally.traces, tally.failed_open) == (7, 1)


def test_a_refusal_of_the_only_problem_stops_the_run(desk: Desk) -> None:
    with pytest.raises(StopRunError, match="can't read this"):
        desk.ask(error(400, "can't read this"), wanted(1))
