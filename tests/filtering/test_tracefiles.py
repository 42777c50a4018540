"""Trace files as one set: ids, lines that stand for traces, what is told, files that belong together."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from r1distill.checks import CHECKS, Check, passed
from r1distill.errors import InputError, UsageError
from r1distill.filter import filter_files
from r1distill.filtering.line_ids import trace_id_of_line
from r1distill.filtering.plain_files import changed_defaults
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.recipe import parse_recipe
from r1distill.records import digest, prompt_id_of

FIXTURES = Path(__file__).parents[1] / "importers" / "fixtures"
ROWS: list[dict[str, Any]] = [
    {"question": f"What is {i} + 1?", "response": f"<think>\n{i} and 1\n</think>\n\nThe answer is {i + i % 2}.",
     "reference": str(i + 1), "source": "made"}
    for i in range(6)
]  # fmt: skip


def write(path: Path, rows: list[Any], **how: Any) -> Path:
    path.write_text("".join(json.dumps(row, **how) + "\n" for row in rows))
    return path


def test_ids_of_plain_lines_never_change(tmp_path: Path) -> None:
    """As they were before there were importers: results that refer to them stay valid."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"question": "q", "response": "<think>a</think>b"}\n' * 2)
    first, second = TraceFiles([path], "math").sources()
    content = hashlib.sha256(b'{"question": "q", "response": "<think>a</think>b"}').hexdigest()
    assert first.trace.id == digest({"line": content, "repeat": 0}) == trace_id_of_line(content, 0)
    assert second.trace.id == digest({"line": content, "repeat": 1})
    assert first.content == second.content != content
    assert first.prompt.id == prompt_id_of("q") == digest("q")[:16]
    assert (first.trace.sample, second.trace.sample) == (0, 1)


def packed(folder: Path, kind: str) -> Path:
    plain = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    path = folder / f"t.{kind}"
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=2))
    else:
        path.write_bytes({"gz": gzip.compress, "zst": zstd.compress, "jsonl": lambda data: data}[kind](plain))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "gz", "zst", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_set(tmp_path: Path, kind: str) -> None:
    summary = filter_files([packed(tmp_path, kind)], tmp_path / "out")
    assert (summary.traces, summary.kept, summary.rejected, summary.unreadable) == (6, 3, 3, 0)
    kept = [json.loads(line) for line in (tmp_path / "out" / "kept.jsonl").read_bytes().splitlines()]
    assert kept == ROWS[1::2]
    if kind in ("gz", "zst", "jsonl"):  # byte for byte the lines inside
        assert (tmp_path / "out" / "kept.jsonl").read_text() == "".join(
            json.dumps(row) + "\n" for row in ROWS[1::2]
        )
    assert filter_files([tmp_path / f"t.{kind}"], tmp_path / "out").up_to_date
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"train.jsonl", "kept.jsonl"}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith("tmp")]


def test_one_row_with_several_traces(tmp_path: Path) -> None:
    source = FIXTURES / "openr1-math.jsonl"
    summary = filter_files([source], tmp_path / "out")
    assert (summary.traces, summary.kept, summary.prompts) == (2, 1, 1)
    assert "Read as openr1-math (1 rows)" in " ".join(summary.notes)
    (kept,) = (tmp_path / "out" / "kept.jsonl").read_bytes().splitlines()
    (row,) = [json.loads(line) for line in source.read_bytes().splitlines()]
    first = {name: row[name][:1] for name in ("generations", "correctness_math_verify", "finish_reasons",
                                             "is_reasoning_complete")}  # fmt: skip
    assert json.loads(kept) == {**row, **first}
    ids = {json.loads(line)["trace_id"] for line in (tmp_path / "out" / "verdicts.jsonl").open()}
    again = [source.trace.id for source in TraceFiles([tmp_path / "out" / "kept.jsonl"], "math").sources()]
    assert len(ids) == 2 and set(again) < ids


def test_a_dry_run_puts_nothing_away(tmp_path: Path) -> None:
    path = packed(tmp_path, "gz")
    assert filter_files([path], tmp_path / "out", dry_run=True).traces == 6
    assert not (tmp_path / "out").exists()


def test_results_and_their_requests_in_any_order(tmp_path: Path) -> None:
    results, requests = FIXTURES / "openai-batch.jsonl", FIXTURES / "openai-batch.requests.jsonl"
    for files in ([results, requests], [requests, results]):
        reader = TraceFiles(files, "math")
        assert len(list(reader.sources())) == 2
        assert "3 prompts were read from files that lie beside the answers." in reader.notes()
    with pytest.raises(InputError, match="name the file with the requests beside it"):
        list(TraceFiles([results], "math").sources())


def test_a_broken_request_is_listed(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes((FIXTURES / "openai-batch.requests.jsonl").read_bytes() + b"{torn\n[]\n{}\n")
    reader = TraceFiles([FIXTURES / "openai-batch.jsonl", requests], "math")
    assert len(list(reader.sources())) == 2
    assert [row["line"] for row in reader.skipped if row["file"] == str(requests)] == [4, 5, 6]


def test_one_id_for_two_requests_is_believed_for_neither(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "Another question?"}]}
    other = write(tmp_path / "other.jsonl", [{"custom_id": "q-1", "body": body}])
    files = [FIXTURES / "openai-batch.jsonl", FIXTURES / "openai-batch.requests.jsonl"]
    reader = TraceFiles([*files, files[1], other], "math")  # the same one twice is one
    assert len(list(reader.sources())) == 1
    assert "several different requests have the id 'q-1'" in [row["reason"] for row in reader.skipped]


def test_two_conversations_with_the_same_last_question_are_two_problems(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": first}, {"role": "assistant", "content": "ok"},
                      {"role": "user", "content": "Go on."}, {"role": "assistant", "content": "<think>r</think>a"}]}
        for first in ("Tell a joke.", "Add 1 and 2.", "Tell a joke.")
    ]  # fmt: skip
    reader = TraceFiles([write(tmp_path / "t.jsonl", rows)], "math")
    assert [source.order for source in reader.sources()] == [0, 1, 0]
    assert [reader.problems.asked(number)[0].content for number in range(2)] == [
        "Tell a joke.",
        "Add 1 and 2.",
    ]
    assert (len(reader.problems), reader.problems.questions) == (2, 1)


def test_tags_of_one_question_from_two_places(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "source": "a"}, {**ROWS[0], "source": "b"}, {**ROWS[0], "license": "MIT"}]
    found = list(TraceFiles([write(tmp_path / "t.jsonl", rows)], "math").sources())
    assert [source.order for source in found] == [0, 0, 1]  # a licence holds for its own rows only
    assert [source.prompt.tags for source in found] == [
        {"source": "a"},
        {"source": "a"},
        {"source": "made", "license": "MIT"},
    ]
    assert found[1].trace.extras["tags"] == {"source": "b"}


def test_format_and_map_reach_the_filter(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl", [{"q": row["question"], "a": row["response"], "r": 1} for row in ROWS[:2]]
    )
    with pytest.raises(InputError, match="use --map question=COLUMN,answer=COLUMN"):
        filter_files([path], tmp_path / "out")
    columns = {"question": "q", "answer": "a"}
    assert filter_files([path], tmp_path / "out", columns=columns).kept == 2
    summary = filter_files(
        [path], tmp_path / "out", columns={**columns, "reference": "r"}, diff=False, dry_run=True
    )
    assert not summary.up_to_date
    with pytest.raises(UsageError, match="There is no format 'nix'"):
        filter_files([path], tmp_path / "out", format="nix")


def test_rows_of_several_formats_in_one_file(tmp_path: Path) -> None:
    lines = [
        (FIXTURES / f"{name}.jsonl").read_bytes() for name in ("alpaca", "messages", "limo", "openr1-math")
    ]
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(lines))
    reader = TraceFiles([path], "math")
    assert len(list(reader.sources())) == 8
    assert reader.notes() == [
        "Read as alpaca (2 rows), messages (2 rows), limo (2 rows), openr1-math (1 rows); --format or --map says otherwise."
    ]


def test_very_many_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"{torn\n" * 20_000 + json.dumps(ROWS[1]).encode())
    summary = filter_files([path], tmp_path / "out")
    assert (summary.traces, summary.unreadable) == (1, 20_000)
    skipped = (tmp_path / "out" / "skipped.jsonl").read_bytes().splitlines()
    assert len(skipped) == 20_000 and json.loads(skipped[-1])["line"] == 20_000


def test_a_listed_completion_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    """The line that stands for it alone is read as the same trace again."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "<think>r</think>It is 2."},
        "finish_reason": "stop",
    }
    item = {
        "id": "c",
        "object": None,
        "messages": [{"role": "user", "content": "1 + 1?"}],
        "choices": [choice],
    }
    path = write(tmp_path / "t.jsonl", [{"object": "list", "data": [item]}])
    assert filter_files([path], tmp_path / "out").train == 1
    (again,) = TraceFiles([tmp_path / "out" / "kept.jsonl"], "math").sources()
    assert again.trace.answer == "It is 2."


def test_a_trace_of_ours_that_asks_nothing_is_told(tmp_path: Path) -> None:
    row = {"id": "t", "slot": "s", "prompt_id": "p", "sample": 0, "teacher": "r1", "model": "m", "reasoning": "9 * 2 = 18.",
           "messages": [{"role": "", "content": "What is 9 * 2?"}], "answer": "18", "finish": "stop", "usage": {}}  # fmt: skip
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="none of its messages is a user's"):
        list(TraceFiles([path], "math").sources())


def test_a_logged_body_of_no_text_is_told(tmp_path: Path) -> None:
    body = {"output": {"message": {"role": "assistant", "content": [{"text": "12"}]}}}
    row = {"schemaType": "ModelInvocationLog", "operation": "Converse", "modelId": "m", "input": {"inputBodyJson": ""},
           "output": {"outputBodyJson": body}}  # fmt: skip
    path = tmp_path / "logs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="bodies are not in the row"):
        list(TraceFiles([path], "math").sources())


def test_a_row_of_another_shape_inside_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "What is 9 * 2?"}]}
    odd = {
        "response_message": "18",
        "generic_request": request,
        "raw_response": {"choices": [[None, [None]]]},
    }
    path = tmp_path / "t.jsonl"
    rows = [odd, {"question": "What is 9 * 2?", "response": "<think>9 * 2 = 18</think>18"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = TraceFiles([path], "math")
    assert [source.trace.answer for source in reader.sources()] == ["18"]
    assert [row["line"] for row in reader.skipped] == [1]


class Changing(Check):
    """Rewrites the file while it is filtered."""

    path: Path
    text: str

    def measure(self, prompt: Any, trace: Any) -> dict[str, Any]:
        return {}

    def judge_all(self, rows: Any, name: str) -> Any:
        self.path.write_text(self.text)
        return [passed()] * len(rows)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("how", "is_refused"),
    [("longer", True), ("other", True), ("shorter", True), ("grown", False), ("touched", False)],
)
def test_a_file_that_changes_while_it_is_filtered(
    how: str, is_refused: bool, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.jsonl", ROWS)
    text = path.read_text()
    changed = {
        "longer": text.replace(" and ", " together with "), "other": text.replace(" and ", " und "), "shorter": text[:90],
        "grown": text + text, "touched": text,
    }[how]  # fmt: skip
    monkeypatch.setitem(CHECKS, "changing", Changing)
    if known:
        filter_files([path], tmp_path / "out", changed_defaults(("filter.checks.length={}",)))
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.jsonl")}
    recipe = parse_recipe(
        {"name": "r", "filter": {"checks": {"length": {}, "changing": {"path": str(path), "text": changed}}}},
        folder=tmp_path,
    )
    if not is_refused:
        assert filter_files([path], tmp_path / "out", recipe).kept == len(ROWS)
        assert (tmp_path / "out/kept.jsonl").read_text() == text
        return
    with pytest.raises(
        InputError, match="changed while it was filtered, so nothing was written: run the same command"
    ):
        filter_files([path], tmp_path / "out", recipe)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.jsonl")} == before
