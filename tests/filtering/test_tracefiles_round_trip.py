"""Our traces -> what we write -> import: the same prompts, reasoning and answers, byte for byte."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from r1distill.filter import filter_files
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.import_files import open_files, take_files
from r1distill.recipe import parse_recipe
from r1distill.records import Message, Prompt, Trace, slot_of, trace_id_of
from r1distill.run import Run
from r1distill.teachers.reasoning import normalise
from r1distill.thinking import CLOSE, SPELLINGS, split_thinking

EDGES = st.sampled_from(["", "", " ", "\n", "    ", "\t\u00a0\n\n", "\u2003", "\r\n"])
PIECES = st.sampled_from([
    "x", "    y = 1\n    z", "<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]", "\n\n", "`</think>`",
    " a ", "<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>", "<|end_of_solution|>",
])  # fmt: skip
RAW = st.lists(PIECES, min_size=1, max_size=5).map("".join)
TAGS = [tag for spelling in SPELLINGS for tag in (spelling.opener, spelling.closer, *spelling.wrapping)]
TEXT = (
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40).map(str.strip)
    | st.sampled_from(["x < y\n\n  z", "a \u2028 b", "\\boxed{7}", "“quoted” `code` 'x'", "\x00 \x1b[0m", "{}", "a\r\nb", "|<>|"])
).filter(lambda text: bool(text) and not any(tag in text for tag in TAGS))  # fmt: skip
TRACES = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4, unique_by=lambda parts: parts[0])


@st.composite
def stored(draw: st.DrawFn) -> tuple[str, str]:
    """(reasoning, answer) as a harvest stores them: of a reply with blanks and tags wherever a teacher may put them."""
    content = draw(EDGES) + draw(RAW) + draw(EDGES)
    message = {"content": content}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(EDGES) + draw(RAW) + draw(EDGES)
    split = normalise(message)
    assume(
        split.answer and CLOSE not in split.reasoning
    )  # two closing tags: nobody can tell which one ends it
    assume(split.reasoning or split_thinking(split.answer).source == "none")
    return split.reasoning, split.answer


def run_with(folder: Path, parts: list[tuple[str, str, str]]) -> Path:
    """A run folder with these (question, reasoning, answer); the file of its traces."""
    (folder / "traces").mkdir(parents=True)
    prompts, traces = [], []
    for number, (question, reasoning, answer) in enumerate(parts):
        asked = [Message("system", "Be brief."), Message("user", question)]
        slot = slot_of("t", "m", asked, {}, 0)
        prompts.append(Prompt(f"p{number}", question, "7", tags={"source": "made"}))
        traces.append(
            Trace(
                id=trace_id_of(slot, None), slot=slot, prompt_id=f"p{number}", sample=0, teacher="t", model="m",
                messages=asked, reasoning=reasoning, answer=answer, finish="stop",
            )
        )  # fmt: skip
    for name, rows in (("prompts.jsonl", prompts), ("traces/part-1-of-1.jsonl", traces)):
        (folder / name).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))  # type: ignore[attr-defined]
    return folder / "traces" / "part-1-of-1.jsonl"


def keep_all() -> Any:
    return parse_recipe({"name": "r", "filter": {"checks": {"finish": {}}, "select": {"per_prompt": 9}}})


def heard(path: Path) -> list[tuple[list[tuple[str, str]], str, str]]:
    """(messages, reasoning, answer) of all traces in a file, in order of their question."""
    found = TraceFiles([path], "math").sources()
    return sorted(
        ([(m.role, m.content) for m in s.trace.messages], s.trace.reasoning, s.trace.answer) for s in found
    )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(TRACES)
def test_kept_and_training_rows_say_the_same(parts: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = run_with(folder / "run", parts)
        filter_files([source], folder / "out", keep_all())
        said = heard(source)
        assert [(reasoning, answer) for _, reasoning, answer in said] == [
            (reasoning, answer) for _, reasoning, answer in sorted(parts, key=lambda p: p[0])
        ]
        assert heard(folder / "out" / "kept.jsonl") == said
        assert sorted((folder / "out" / "kept.jsonl").read_bytes().splitlines()) == sorted(
            source.read_bytes().splitlines()
        )
        rows = (folder / "out" / "train.jsonl").read_bytes() + (folder / "out" / "val.jsonl").read_bytes()
        (folder / "rows.jsonl").write_bytes(rows)
        assert heard(folder / "rows.jsonl") == said


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(stored(), min_size=4, max_size=20))
def test_what_a_harvest_stores_comes_back_to_the_last_blank(said: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        parts = [(f"  indented question {n}\n", *both) for n, both in enumerate(said)]
        source = run_with(folder / "run", parts)
        filter_files([source], folder / "out", keep_all())
        before = heard(source)
        assert [both for _, *both in before] == [list(both) for both in said]
        assert heard(folder / "out" / "kept.jsonl") == before
        rows = (folder / "out" / "train.jsonl").read_bytes() + (folder / "out" / "val.jsonl").read_bytes()
        (folder / "rows.jsonl").write_bytes(rows)
        assert heard(folder / "rows.jsonl") == before


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(TRACES)
def test_an_import_of_an_import_changes_nothing(parts: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        rows = [{"question": q, "reasoning": r, "answer": a, "reference": "7"} for q, r, a in parts]
        source = folder / "theirs.jsonl"
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), newline="\n")
        first, second = Run(folder / "a"), Run(folder / "b")
        taken = take_files(open_files([source], "math"), first)
        (part,) = (folder / "a" / "traces").glob("part-*.jsonl")
        assert taken.traces == len(parts)
        (folder / "a" / "prompts.jsonl").touch()
        assert heard(part) == heard(source)
        assert [p.answer for p in TraceFiles([part], "math")._saved.values()] == ["7"] * len(parts)
        again = take_files(open_files([part], "math"), second)
        (copy,) = (folder / "b" / "traces").glob("part-*.jsonl")
        assert again.traces == len(parts)
        assert copy.read_bytes() == part.read_bytes()
        assert take_files(open_files([part, source], "math"), second)[:2] == (0, 2 * len(parts))


def test_pairs_and_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [
        {"question": "3 + 4?", "reasoning": "r", "answer": f"The answer is {n}.", "reference": "7"}
        for n in (7, 8)
    ]
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe({"name": "r", "filter": {"checks": {"correct": {}}, "select": {"parquet": True}}})
    filter_files([source], tmp_path / "out", recipe)
    said = heard(source)
    assert heard(tmp_path / "out" / "pairs.jsonl") == said
    assert heard(tmp_path / "out" / "pairs.parquet") == said
    assert heard(tmp_path / "out" / "train.parquet") == heard(tmp_path / "out" / "train.jsonl") == said[:1]
