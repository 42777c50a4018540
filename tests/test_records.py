"""Records: the two keys are pinned for ever, the structs are frozen, older rows are still read."""

from __future__ import annotations

import msgspec
import pytest

from r1distill.records import (
    SCHEMA_VERSION,
    Example,
    Message,
    Prompt,
    Trace,
    Usage,
    canonical_json,
    digest,
    prompt_id_of,
    slot_of,
    split_ceiling,
    trace_id_of,
)

MESSAGES = [Message("system", "Sei höflich."), Message("user", "Was ist 2 × 3? 答えは？ 🙂")]
SAMPLING = {"temperature": 0.6, "max_tokens": 16384, "seed": 7}
SLOT = "e28e2decd7590fd852ed607734f6cd0797d75923c4d19470c9c5ac1fcc986374"
PLAIN_SLOT = "2bd8b0b84cfbc172bed554934d0fc84592611822f60f43c16412594c7fcf9a52"


def test_golden_keys() -> None:
    """Never change these: users would pay again for answers that they have."""
    assert slot_of("r1", "deepseek-v4-pro", MESSAGES, SAMPLING, 3) == SLOT
    assert slot_of("r1", "m", [Message("user", "hi")], {}, 0) == PLAIN_SLOT
    assert (
        trace_id_of(PLAIN_SLOT, 16384) == "c59d39277110d75453af5342926502b720048eb0be05b8bfd793e68f9536fa4e"
    )
    assert trace_id_of(PLAIN_SLOT, None) == "1c7931ce4a9cb66e0b01f8bd0d1503eed422435522aefafd4b41a432e73adf3b"
    assert prompt_id_of("Was ist 2 × 3? 答えは？ 🙂") == "cd3542638e25362b"
    assert prompt_id_of("What is 2 + 3?") == "101365718a2a8aa9"


@pytest.mark.parametrize(
    "sampling",
    [
        {"seed": 7, "max_tokens": 16384, "temperature": 0.6},
        {"temperature": 0.6, "seed": 7},
        {"temperature": 0.6, "seed": 7, "max_completion_tokens": 1},
    ],
)
def test_slot_depends_neither_on_the_ceiling_nor_on_the_order_of_keys(sampling: dict[str, object]) -> None:
    assert slot_of("r1", "deepseek-v4-pro", MESSAGES, sampling, 3) == SLOT


def test_slot_depends_on_all_that_is_asked() -> None:
    slots = {
        SLOT,
        slot_of("r2", "deepseek-v4-pro", MESSAGES, SAMPLING, 3),
        slot_of("r1", "other", MESSAGES, SAMPLING, 3),
        slot_of("r1", "deepseek-v4-pro", MESSAGES[1:], SAMPLING, 3),
        slot_of("r1", "deepseek-v4-pro", MESSAGES, {**SAMPLING, "temperature": 0.7}, 3),
        slot_of("r1", "deepseek-v4-pro", MESSAGES, SAMPLING, 4),
    }
    assert len(slots) == 6


def test_split_ceiling_takes_the_lower_of_two() -> None:
    assert split_ceiling({"max_tokens": 9, "max_completion_tokens": 5, "top_p": 1}) == ({"top_p": 1}, 5)
    assert split_ceiling({"max_tokens": None}) == ({}, None)


def test_canonical_json() -> None:
    assert canonical_json({"b": 1, "a": ["ä", None, 0.5]}) == '{"a":["ä",null,0.5],"b":1}'.encode()
    assert len(digest("\ud800")) == 64  # a lone surrogate has a digest too
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def trace() -> Trace:
    return Trace(
        id="i", slot="s", prompt_id="p", sample=1, teacher="r1", model="m", messages=MESSAGES, reasoning="r", answer="a",
        finish="length", sampling={"top_p": 0.9}, max_tokens=5, usage=Usage(1, 2, None, 0), cost_usd=0.25, latency_s=1.5,
        attempts=2, model_answered="m-1", reasoning_source="inline", created="2026-11-22T00:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        trace(),
        Prompt("p", "Frage?", "6", "choice", [1], {"topic": "x"}),
        Example("t", MESSAGES, [Message("assistant", "<think>\nr\n</think>\n\na")]),
    ],
)
def test_round_trip_and_frozen(record: msgspec.Struct) -> None:
    line = msgspec.json.encode(record)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=type(record)) == record
    with pytest.raises(AttributeError):
        record.id = "other"  # type: ignore[attr-defined]


def test_rows_of_older_and_newer_versions_are_read() -> None:
    row = msgspec.to_builtins(trace())
    needed = (
        "id",
        "slot",
        "prompt_id",
        "sample",
        "teacher",
        "model",
        "messages",
        "reasoning",
        "answer",
        "finish",
    )
    old = msgspec.convert({key: row[key] for key in needed}, Trace)
    assert (old.usage, old.cost_usd, old.max_tokens, old.attempts) == (Usage(), None, None, 1)
    assert old.schema_version == SCHEMA_VERSION
    new = msgspec.convert({**row, "schema_version": 99, "not_yet_known": [1]}, Trace)
    assert new.schema_version == 99
    assert msgspec.json.decode(b'{"id":"p","question":"q"}', type=Prompt) == Prompt("p", "q")
