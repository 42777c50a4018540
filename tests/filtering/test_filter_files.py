"""`filter FILE... --to DIR`: plain trace files, of our own shape and simple foreign ones."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.errors import InputError, NothingKeptError
from r1distill.filter import filter_files
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.recipe import parse_recipe
from r1distill.show import Show

ROWS: list[dict[str, Any]] = [
    {
        "question": "9 * 2?",
        "response": "<think>\n9 * 2 = 18\n</think>\n\nThe answer is 18.",
        "reference": "18",
    },
    {"question": "9 * 2?", "reasoning": "I guess", "answer": "The answer is 17.", "reference": 18},
    {
        "problem": "1 + 1?",
        "response": "<think>two</think> \\boxed{2}",
        "answer": "2",
        "finish_reason": "stop",
    },
    {"problem": "1 + 1?", "response": "<think>two", "finish_reason": "length"},
    {
        "messages": [
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "<think>hm</think>Me."},
        ]
    },
    {
        "conversations": [
            {"from": "human", "value": "Where?"},
            {"from": "gpt", "value": "<think>hm</think>There."},
        ]
    },
    {
        "prompt": [{"role": "user", "content": "Why?"}],
        "completion": [{"role": "assistant", "content": "<think>so</think>So."}],
    },
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_simple_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", ROWS)
    to = tmp_path / "out"
    summary = filter_files([source], to)
    assert (summary.traces, summary.kept, summary.prompts, summary.unreadable) == (7, 5, 5, 0)
    assert summary.reasons == {"correct: wrong": 1, "finish: length": 1, "format: reasoning never closed": 1}
    lines = source.read_bytes().splitlines()
    assert (to / "rejected.jsonl").read_bytes().splitlines() == [lines[1], lines[3]]
    assert sorted((to / "kept.jsonl").read_bytes().splitlines()) == sorted(set(lines) - {lines[1], lines[3]})
    train = read(to / "train.jsonl") + read(to / "val.jsonl")
    first = next(row for row in train if row["prompt"][0]["content"] == "9 * 2?")
    assert first["completion"][0]["content"] == "<think>\n9 * 2 = 18\n</think>\n\nThe answer is 18."
    (origin,) = json.loads((to / "sources.json").read_text())
    assert origin["bytes"] == source.stat().st_size and len(origin["sha256"]) == 64
    assert filter_files([source], to).up_to_date
    assert not list(to.glob("*.part"))


def test_repeated_lines_have_their_own_ids(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [ROWS[0]] * 3 + [ROWS[2]])
    summary = filter_files([source], tmp_path / "out")
    assert summary.reasons == {"duplicate: exact": 2}
    ids = {row["trace_id"] for row in read(tmp_path / "out" / "verdicts.jsonl")}
    assert len(ids) == 4


def test_unreadable_lines_are_listed(tmp_path: Path) -> None:
    bad = [
        "{torn",
        "[1]",
        {"question": "q?"},
        {"text": "no question"},
        "[" * 5000,
        '{"question": "\\ud800", "response": "x"}',
    ]
    source = write(tmp_path / "t.jsonl", [ROWS[0], *bad, ROWS[2]])
    with source.open("ab") as file:
        file.write(b'\xff\n\n{"question": "no newline?", "response": "<think>a</think>b"}')
    summary = filter_files([source], tmp_path / "out")
    assert (summary.traces, summary.unreadable) == (3, 7)
    skipped = read(tmp_path / "out" / "skipped.jsonl")
    assert [row["line"] for row in skipped] == [2, 3, 4, 5, 6, 7, 9]
    assert all(row["reason"] and row["file"] == str(source) for row in skipped)
    assert "7 lines" in summary.notes[0] and "t.jsonl:2" in summary.notes[0]


def test_nothing_readable_says_what_was_seen(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [{"foo": 1, "bar": "x"}])
    with pytest.raises(InputError) as caught:
        filter_files([source], tmp_path / "out")
    assert "the fields seen are: foo, bar" in str(caught.value)
    with pytest.raises(InputError, match="No such file"):
        filter_files([tmp_path / "gone.jsonl"], tmp_path / "out")


def test_nothing_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [ROWS[1], ROWS[3]])
    with pytest.raises(NothingKeptError, match="correct removed 1"):
        filter_files([source], tmp_path / "out")
    assert len(read(tmp_path / "out" / "rejected.jsonl")) == 2


def test_own_traces_with_the_problems_beside_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "traces").mkdir(parents=True)
    write(run / "prompts.jsonl", [{"id": "p1", "question": "9 * 2?", "answer": "18"}])
    own = {
        "id": "t", "slot": "s", "prompt_id": "p1", "sample": 0, "teacher": "r1", "model": "m", "finish": "stop",
        "messages": [{"role": "user", "content": "example"}, {"role": "assistant", "content": "x"},
                     {"role": "user", "content": "Q: 9 * 2?"}],
        "reasoning": "hm", "answer": "The answer is 18.",
    }  # fmt: skip
    source = write(run / "traces" / "part-1-of-1.jsonl", [own, {**own, "answer": "The answer is 7."}])
    summary = filter_files([source], tmp_path / "out")
    assert (summary.kept, summary.reasons) == (1, {"correct: wrong": 1})
    (row,) = read(tmp_path / "out" / "train.jsonl")
    assert row["prompt"] == [{"role": "user", "content": "Q: 9 * 2?"}]


def test_with_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("Solve: {{ question }}")
    data = {
        "name": "r",
        "filter": {"checks": {"finish": {"unjudged": "keep"}}},
        "student": {"base": "x", "template": "t.jinja"},
    }
    recipe = parse_recipe(data, folder=tmp_path)
    source = write(tmp_path / "t.jsonl", ROWS[:2])
    summary = filter_files([source], tmp_path / "out", recipe, show=Show(0))
    assert [row.check for row in summary.funnel] == ["finish"] and summary.kept == 2
    assert read(tmp_path / "out" / "train.jsonl")[0]["prompt"][0]["content"] == "Solve: 9 * 2?"


def test_one_question_with_two_references(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [ROWS[0], {**ROWS[0], "reference": "19"}])
    summary = filter_files([source], tmp_path / "out")
    assert (summary.prompts, summary.kept, summary.reasons) == (1, 1, {"correct: wrong": 1})
    source = write(tmp_path / "t.jsonl", [{**ROWS[0], "reference": "19"}, ROWS[0], ROWS[0]])
    summary = filter_files([source], tmp_path / "out")
    assert (summary.kept, summary.reasons) == (1, {"correct: wrong": 1, "duplicate: exact": 1})


@pytest.mark.parametrize("name", ["finish", "finish_reason", "stop_reason"])
@pytest.mark.parametrize(
    ("said", "finish"),
    [("max_tokens", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"), ("end_turn", "stop"), ("eos", "stop"),
     ("repetition", "repetition"), ("gone", "unknown"), (None, "unknown"), (["length"], "unknown")],
)  # fmt: skip
def test_how_foreign_answers_ended(tmp_path: Path, name: str, said: Any, finish: str) -> None:
    source = write(tmp_path / "t.jsonl", [{**ROWS[0], name: said}])
    (found,) = TraceFiles([source], "math").sources()
    assert found.trace.finish == finish


@pytest.mark.parametrize(
    "odd",
    [
        {"reference": ["18"]},
        {"reference": {"value": 18}},
        {"reference": None, "answer": True},
        {"gold_answer": False},
    ],
)
def test_a_reference_that_can_not_be_read_is_said(tmp_path: Path, odd: dict[str, Any]) -> None:
    bare = {name: value for name, value in ROWS[0].items() if name != "reference"}
    source = write(tmp_path / "t.jsonl", [ROWS[0], {**bare, **odd}])
    summary = filter_files([source], tmp_path / "out")
    (skipped,) = read(tmp_path / "out" / "skipped.jsonl")
    assert summary.traces == 1 and skipped["line"] == 2
    assert skipped["reason"].startswith(f"the reference in '{[*odd][-1]}' is neither text nor number but ")


@pytest.mark.parametrize("empty", [None, "", " "])
def test_no_reference_is_no_fault(tmp_path: Path, empty: Any) -> None:
    source = write(tmp_path / "t.jsonl", [{**ROWS[0], "reference": empty}])
    summary = filter_files([source], tmp_path / "out")
    assert (summary.unreadable, summary.kept, summary.unjudged) == (0, 1, 1)


@pytest.mark.parametrize(
    ("tokens", "believed"), [(0, 0), (7, 7), (-1, None), (True, None), ("7", None), (1 << 70, None)]
)
def test_tokens_that_nobody_counted(tmp_path: Path, tokens: Any, believed: int | None) -> None:
    source = write(tmp_path / "t.jsonl", [{**ROWS[0], "usage": {"completion_tokens": tokens}}])
    (found,) = TraceFiles([source], "math").sources()
    assert found.trace.usage.completion_tokens == believed


def test_another_threshold_measures_nothing(tmp_path: Path) -> None:
    source, to = write(tmp_path / "t.jsonl", ROWS[:2]), tmp_path / "new" / "folder"
    checks: dict[str, Any] = {"length": {}, "correct": {}}
    first = filter_files(
        [source], to, parse_recipe({"name": "r", "filter": {"checks": checks}}, folder=tmp_path)
    )
    checks["length"] = {"max_tokens": 1000}
    second = filter_files(
        [source], to, parse_recipe({"name": "r", "filter": {"checks": checks}}, folder=tmp_path)
    )
    assert (first.measured, second.measured, second.cached) == (4, 0, 4)
    assert second.stage_id != first.stage_id


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", ROWS)
    summary = filter_files([source], tmp_path / "out", dry_run=True)
    assert (summary.traces, summary.measured) == (7, 42)
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_own_outputs_are_not_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "kept.jsonl", ROWS)
    with pytest.raises(InputError, match="overwritten by its own result"):
        filter_files([source], tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["question", "prompt", "messages", "response", "completion", "reasoning", "answer", "reference", "finish", "usage", "id",
     "slot", "prompt_id", "answer_kind", "conversations", "sample", "teacher", "model"]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(FIELDS, JSON, max_size=14), max_size=4))
def test_no_row_breaks_the_reader(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder) / "t.jsonl", [*rows, ROWS[0]])
        traces = TraceFiles([source], "math")
        read_rows = list(traces.sources())
        assert len(read_rows) + len(traces.skipped) == len(rows) + 1
