"""Every format of the table: a fixture in its shape, what must be read from it, and lines that stand for one trace."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from r1distill.filtering.tracefiles import Taken, TraceFiles
from r1distill.importers import Context, Detector, Found, traces_of
from r1distill.importers.detect import chosen_formats
from r1distill.importers.table import FORMATS, names

FIXTURES = Path(__file__).parent / "fixtures"
Q = "A shelf holds 3 boxes of 4 pears. How many pears is that?"
R, A = "Three boxes of 4 pears are 3 * 4 = 12.", "There are \\boxed{12} pears."
R2, A2 = "3 and 4 make 7.", "There are \\boxed{7} pears."
GOOD, BAD = (Q, R, A), (Q, R2, A2)
LOOK_ALIKE = {"bespoke-stratos": "openthoughts", "sky-t1": "openthoughts"}

EXPECTED: dict[str, list[tuple[str, str, str]]] = {
    "r1distill": [GOOD, BAD],
    "bedrock": [GOOD, BAD, GOOD, BAD, GOOD],
    "openai-batch": [("What do 3 and 4 pears make?", R2, A2), GOOD],
    "curator": [GOOD],
    "stored-completions": [GOOD, BAD, GOOD, BAD, GOOD, BAD],
    "openr1-math": [GOOD, BAD],
    "open-r1": [GOOD, BAD],
    "openthoughts-metadata": [
        GOOD,
        (
            "Read a number and print its double.",
            "Read it, double it.",
            "```python\nprint(2 * int(input()))\n```",
        ),
    ],
    "s1k-1.1": [GOOD, BAD],
    "s1k": [GOOD],
    "synthetic-1": [GOOD, BAD],
    "distilabel": [GOOD, GOOD, BAD],
    "openthoughts": [GOOD],
    "bespoke-stratos": [("Return your final response within \\boxed{}. " + Q, R, A)],
    "sky-t1": [GOOD],
    "openthoughts2": [GOOD],
    "limo": [
        (Q, R + "\n\nWait, are there 3 boxes? Yes.", "**Final Answer**\n\\boxed{12}"),
        (Q, R2, "So it is \\boxed{7}."),
    ],
    "preference": [GOOD, BAD, GOOD, BAD],
    "alpaca": [("How many pears are that?\n\nA shelf holds 3 boxes of 4 pears.", R, A), BAD],
    "plain": [GOOD, (Q, R, A2)],
    "prompt-completion": [GOOD, BAD],
    "messages": [GOOD, GOOD],
    "sharegpt": [GOOD],
}


def files_of(name: str) -> list[Path]:
    """The fixture of a format, and what lies beside it."""
    return [
        FIXTURES / f"{name}.jsonl",
        *FIXTURES.glob(f"{name}.re*.jsonl"),
        *FIXTURES.glob(f"{name}.m*.jsonl"),
    ]


def read(name: str, **how: Any) -> tuple[TraceFiles, list[Taken]]:
    reader = TraceFiles(files_of(name), "math", **how)
    return reader, list(reader.taken())


def said(taken: Taken) -> tuple[str, str, str]:
    return taken.found.prompt.question, taken.trace.reasoning, taken.trace.answer


def test_every_format_has_a_fixture_and_a_source() -> None:
    assert set(EXPECTED) == set(names())
    for row in FORMATS:
        assert row.source and datetime.date.fromisoformat(row.checked)
    assert all(any(row.holds for row in FORMATS if row.name == name) for name in names())


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_read(name: str) -> None:
    reader, found = read(name)
    assert [said(taken) for taken in found] == EXPECTED[name]
    assert set(reader.detector.rows) == {LOOK_ALIKE.get(name, name)}


@pytest.mark.parametrize("name", EXPECTED)
def test_by_name_the_same_is_read(name: str) -> None:
    reader, found = read(name, format=name)
    assert [said(taken) for taken in found] == EXPECTED[name]
    assert set(reader.detector.rows) == {name}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_line_of_a_trace_gives_that_trace_again(name: str) -> None:
    """So an import of kept.jsonl changes nothing: neither ids nor words."""
    _, found = read(name)
    for taken in found:
        again = list(traces_of(taken.line, Detector(), Context()))
        assert len(again) == 1 and isinstance(again[0], Found)
        assert (again[0].line or taken.line) == taken.line
        first, second = taken.found, again[0]
        if name == "preference":  # which of the two it was stands in a column then
            second = second._replace(trace=first.trace)
        assert (second.trace, second.asked) == (first.trace, first.asked)
        assert second.prompt == first.prompt
        assert b"\n" not in taken.line


def traces(name: str) -> list[Any]:
    return [taken.trace for taken in read(name)[1]]


def test_what_is_said_of_each_generation() -> None:
    right, wrong = traces("openr1-math")
    assert (right.finish, wrong.finish) == ("stop", "length")
    assert right.extras["tags"] == {
        "correctness_math_verify": True,
        "is_reasoning_complete": True,
        "finish_reasons": "stop",
        "correctness_count": 1,
    }
    assert [trace.extras["tags"]["score"] for trace in traces("synthetic-1")] == [1.0, 0.0]
    assert wrong.extras["tags"]["correctness_math_verify"] is False
    assert [trace.usage.completion_tokens for trace in traces("open-r1")] == [31, 12]
    assert [trace.reasoning_source for trace in traces("open-r1")] == ["inline", "inline-no-opener"]


def test_references_and_labels() -> None:
    def of(name: str) -> list[Any]:
        return [taken.found.prompt for taken in read(name)[1]]

    (problem, _) = of("openr1-math")
    assert problem.answer == "12"
    assert problem.tags == {
        "source": "orchard", "uuid": "u-1", "problem_type": "Algebra", "question_type": "math-word-problem",
    }  # fmt: skip
    assert [p.answer for p in of("synthetic-1")] == ["12", "12"]  # from a dict, and from a dict as text
    math, code = of("openthoughts-metadata")
    assert (math.answer_kind, math.answer) == ("math", "3 boxes times 4 is $\\boxed{12}$.")
    assert (code.answer_kind, code.answer, json.loads(code.tests)["outputs"]) == ("code", None, ["4"])
    assert [p.tags.get("license") for p in of("messages")] == ["CC0-1.0", None]
    assert [p.answer for p in of("limo")] == ["12", "12"]


def test_two_models_side_by_side() -> None:
    deepseek, gemini = traces("s1k-1.1")
    assert (deepseek.teacher, gemini.teacher) == ("deepseek-r1", "gemini")
    assert gemini.extras["tags"] == {"gemini_grade": "No", "gemini_grade_reason": "It adds."}


def test_what_is_asked() -> None:
    (taken,) = read("openthoughts")[1]
    assert [m.role for m in taken.trace.messages] == ["system", "user"]
    assert [m.role for m in taken.found.asked] == ["user"]  # tags that the training rows don't have
    (taken,) = read("sharegpt")[1]
    assert [m.role for m in taken.found.asked] == ["system", "user", "assistant", "user"]


def test_an_inline_block_beside_a_reasoning_column_leaves_the_answer() -> None:
    trace = traces("plain")[1]
    assert (trace.reasoning, trace.answer) == (R, A2)
    assert trace.extras["inline_reasoning"] == R2


def test_costs_and_tokens_of_apis() -> None:
    (trace,) = traces("curator")
    assert (trace.cost_usd, trace.usage.completion_tokens, trace.model) == (0.0004, 31, "deepseek-r1")
    assert [trace.finish for trace in traces("bedrock")] == ["stop", "length", "stop", "length", "stop"]
    assert [trace.usage.completion_tokens for trace in traces("bedrock")] == [31, None, 31, 31, 31]


def test_accounts_are_in_nothing_that_comes_out_of_a_log() -> None:
    _, found = read("bedrock")
    for taken in found:
        for text in (taken.line, repr(taken.trace).encode(), repr(taken.found.prompt).encode()):
            assert b"123456789012" not in text and b"arn:" not in text and b"assumed-role" not in text
    assert found[0].trace.model == "us.deepseek.r1-v1:0"


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        (
            "openai-batch",
            [
                (3, "the request failed: This request could not be executed in time."),
                (4, "its prompt is not in the row: name the file with the requests beside it"),
            ],
        ),
        ("curator", [(2, "the request failed: Rate limit reached")]),
        ("distilabel", [(2, "generation 2 of 3: it is empty")]),
        (
            "bedrock",
            [
                (6, "the call failed (ThrottlingException)"),
                (7, "the bodies are not in the row (large ones are written to S3 apart) or are no JSON"),
            ],
        ),
    ],
)
def test_what_is_no_trace_is_listed(name: str, reasons: list[tuple[int, str]]) -> None:
    reader, _ = read(name)
    assert [(row["line"], row["reason"]) for row in reader.skipped] == reasons


def test_lines_are_counted_and_not_their_parts(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"problem": "q", "generations": ["", 7, f"<think>{R}</think>{A}", None]}
    ] * 10
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"x": 1}]))
    reader = TraceFiles([tmp_path / "t.jsonl"], "math")
    assert len(list(reader.taken())) == 10
    assert (reader.skipped.lines, len(reader.skipped)) == (11, 31)
    (told, _) = reader.notes()
    assert told.startswith(
        "11 lines can't be read as traces, in whole or in part (31 parts), and are listed in skipped.jsonl; "
    )


def test_a_stored_completion_without_its_messages() -> None:
    reader = TraceFiles([FIXTURES / "stored-completions.jsonl"], "math")
    assert len(list(reader.taken())) == 5
    (row,) = reader.skipped
    assert row["reason"].startswith("completion 2: its prompt is not in the row")


def test_columns_of_no_known_format(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [
        {"q": Q, "a": f"<think>{R}</think>{A}", "gold": 12, "who": "m"},
        {"q": Q, "a": [f"<think>{R}</think>{A}", f"<think>{R2}</think>{A2}"], "gold": 12},
        {"q": Q, "data": {"text": A, "cot": R}},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "q", "answer": "a", "reference": "gold", "model": "who"}
    reader = TraceFiles([path], "math", columns=columns)
    found = list(reader.taken())
    assert [said(taken) for taken in found] == [GOOD, GOOD, BAD]
    assert {taken.found.prompt.answer for taken in found} == {"12"}
    assert found[0].trace.model == "m"
    assert [row["line"] for row in reader.skipped] == [3]
    inside = {"question": "q", "answer": "data.text", "reasoning": "data.cot"}
    reader = TraceFiles([path], "math", columns=inside)
    assert [said(taken) for taken in reader.taken()] == [GOOD]
    assert chosen_formats(None, inside)[0].name == "map"


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("3 * 4 = 12\nA: 12", "3 * 4 = 12", "A: 12"),
        ("3 * 4 = 12\n\nSo:\n\\boxed{12}", "3 * 4 = 12", "So:\n\\boxed{12}"),
        ("Hm.\n**Final Answer** 12", "Hm.", "**Final Answer** 12"),
        ("\\boxed{12}", "", "\\boxed{12}"),
        ("So it is \\boxed{12}.", "", "So it is \\boxed{12}."),
        ("12", "", "12"),
    ],
)
def test_reasoning_without_tags(tmp_path: Path, text: str, reasoning: str, answer: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"q": Q, "cot": text}))
    (found,) = TraceFiles([path], "math", columns={"question": "q", "trace": "cot"}).taken()
    assert (found.trace.reasoning, found.trace.answer) == (reasoning, answer)
