"""Lines that the index knows: what is judged anew is the same as what is read anew."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from r1distill.errors import InputError, NothingKeptError
from r1distill.filter import filter_files
from r1distill.filtering.outputs import FILES
from r1distill.filtering.plain_files import changed_defaults
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.importers.readers import lines_of
from r1distill.index import Index
from r1distill.recipe import Recipe
from r1distill.records import AnswerKind
from r1distill.thinking import text_json

FIXTURES = Path(__file__).parents[1] / "importers" / "fixtures"
OUTPUTS = [*(f"{name}.jsonl" for name in FILES), "skipped.jsonl", "sources.json", "README.md"]
ROWS: list[Any] = [
    {"question": "1 + 1?", "response": "<think>one and one</think>The answer is 2.", "reference": "2", "source": "a"},
    {"question": "1 + 1?", "response": "<think>ein Ä</think>Das ist 3.", "reference": "2", "source": "b", "model": "m",
     "usage": {"completion_tokens": 12}},
    "{torn",
    {"question": "1 + 1?", "response": "<think>one and one</think>The answer is 2.", "reference": "2", "source": "a"},
    {"nothing": "here"},
    {"question": "2 + 2?", "reasoning": "two and two", "answer": "4", "license": "MIT", "level": 10**30},
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "<think>hm</think>Me."}]},
    {"problem": "Which?", "generations": ["<think>a</think>b", "<think>c</think>d"], "correctness_math_verify": [True, False]},
    {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "<think>hm</think>There."}]},
    {"question": "3 + 3?", "response": "<think>\nthree\n\n\t\"3\"\n</think>\n\n\\boxed{6}", "reference": "6"},
    {"question": "<think>\nthree\n</think>\n\n6", "response": "<think>\nthree\n</think>\n\n6", "reference": "6"},
    {"question": "4 + 4?", "response": "<think>\nvier Äpfel\n</think>\n\n8/1", "reference": "8"},
    {"question": "5?", "response": "five"},
]  # fmt: skip


@pytest.fixture(autouse=True, params=["just written", "old"])
def age(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of all files: one that was written just now is always read again, an old one is read only if it changed."""
    monkeypatch.setattr(
        "r1distill.filtering.known_files.SETTLED_S", -60.0 if request.param == "old" else 60.0
    )
    return str(request.param)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def limit(tokens: int) -> Recipe:
    return changed_defaults((f"filter.checks.length.max_tokens={tokens}",))


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes().replace(bytes(folder), b"") for name in OUTPUTS}


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    return {name: found[name] for name in found.keys() - {"folder", "elapsed_s", "measured", "cached"}}


def same_as_afresh(files: list[Path], to: Path, tokens: int, **how: Any) -> None:
    """`to` was filled before; it is judged anew, and so is a folder that knows nothing."""
    fresh = to.parent / f"fresh-{tokens}"
    for folder in (to, fresh):
        with suppress(NothingKeptError):  # the files are there all the same
            filter_files(files, folder, limit(tokens), **how)
    assert outputs(to) == outputs(fresh)
    assert told(to) == told(fresh)


def known(folder: Path) -> int:
    with Index(folder / "index.sqlite") as index:
        return int(index.db.execute("SELECT COUNT(*) FROM known_lines").fetchone()[0])


def no_parsing(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that are parsed to know what they are."""
    parsed: list[bytes] = []
    from r1distill.filtering import line_reader

    real = line_reader.traces_of

    def noting(line: bytes, *rest: Any) -> Any:
        parsed.append(line)
        return real(line, *rest)

    monkeypatch.setattr(line_reader, "traces_of", noting)
    return parsed


def test_judged_anew_is_as_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, to = write(tmp_path / "t.jsonl", ROWS), tmp_path / "out"
    filter_files([source], to, limit(1000))
    # Two lines are equal; the torn ones, the row of two traces and the number that is too large are not kept.
    assert known(to) == 8
    same_as_afresh([source], to, 2)
    parsed = no_parsing(monkeypatch)
    summary = filter_files([source], to, limit(3))
    assert summary.measured == 0
    lines = source.read_bytes().splitlines()
    assert parsed == [lines[2], lines[4], lines[5], lines[7]]


def test_what_changes_is_noticed(tmp_path: Path) -> None:
    source, to = write(tmp_path / "t.jsonl", ROWS), tmp_path / "out"
    filter_files([source], to, limit(1000))
    # Another order, so that other rows are the first of their problem, and a new row.
    write(source, [ROWS[1], ROWS[0], *ROWS[5:], {**ROWS[0], "reference": "3"}])
    same_as_afresh([source], to, 1001)
    write(source, [{**ROWS[0], "response": "<think>no</think>5"}])
    same_as_afresh([source], to, 1002)
    other = write(tmp_path / "u.jsonl", ROWS[3:])
    same_as_afresh([other, source], to, 1003)


def test_the_same_lines_packed(tmp_path: Path) -> None:
    source, to = write(tmp_path / "t.jsonl", ROWS), tmp_path / "out"
    filter_files([source], to, limit(1000))
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    same_as_afresh([packed], to, 1001)


def test_another_way_of_reading_is_another_line(tmp_path: Path) -> None:
    row = {"question": "q?", "response": "<think>a</think>b", "other": "<think>c</think>d"}
    source, to = write(tmp_path / "t.jsonl", [row]), tmp_path / "out"
    for tokens, column in enumerate(("response", "other"), 1000):
        same_as_afresh([source], to, tokens, columns={"question": "question", "answer": column})
    assert b"c\\n</think>\\n\\nd" in (to / "train.jsonl").read_bytes()
    same_as_afresh([source], to, 1002)
    assert known(to) == 3


@pytest.mark.parametrize("kinds", [("math", "text"), ("text", "math")])
def test_the_kind_of_answer_counts(tmp_path: Path, kinds: tuple[AnswerKind, AnswerKind]) -> None:
    source = write(tmp_path / "t.jsonl", ROWS)
    with Index(tmp_path / "index.sqlite") as index:
        for kind in (*kinds, kinds[1]):
            reader = TraceFiles([source], kind)
            reader.remember_in(index)
            assert {one.prompt.answer_kind for one in reader.sources()} == {kind}


def test_saved_problems_count(tmp_path: Path) -> None:
    """In a run folder a row's problem stands beside it, and may be corrected."""
    trace = {"id": "i", "slot": "s", "prompt_id": "p", "sample": 0, "teacher": "t", "model": "m", "messages": [
        {"role": "user", "content": "1 + 1?"}], "reasoning": "r", "answer": "The answer is 2.", "finish": "stop"}  # fmt: skip
    folder = tmp_path / "run" / "traces"
    folder.mkdir(parents=True)
    source, to = write(folder / "t.jsonl", [trace]), tmp_path / "out"
    for tokens, answer in ((1000, "2"), (1001, "3")):
        write(tmp_path / "run" / "prompts.jsonl", [{"id": "p", "question": "1 + 1?", "answer": answer}])
        with suppress(NothingKeptError):
            filter_files([source], to, limit(tokens))
    assert b"wrong" in (to / "verdicts.jsonl").read_bytes()


def test_requests_beside_are_asked_for_each_time(tmp_path: Path) -> None:
    results, requests = FIXTURES / "openai-batch.jsonl", tmp_path / "requests.jsonl"
    requests.write_bytes((FIXTURES / "openai-batch.requests.jsonl").read_bytes())
    with Index(tmp_path / "index.sqlite") as index:
        for _ in range(2):
            reader = TraceFiles([results, requests], "math")
            reader.remember_in(index)
            assert len(list(reader.sources())) == 2
        reader = TraceFiles([results], "math")
        reader.remember_in(index)
        with pytest.raises(InputError, match="name the file with the requests beside it"):
            list(reader.sources())


def _problems(reader: TraceFiles) -> list[Any]:
    return [(prompt, reader.problems.asked(number)) for number, prompt in enumerate(reader.problems)]


def sources_of(path: Path, index: Index | None) -> list[tuple[Any, ...]]:
    reader = TraceFiles([path], "math")
    if index is not None:
        reader.fingerprints(index)
        reader.remember_in(index)
    sources = list(reader.sources())
    found = [(s.order, s.prompt, s.trace, s.place[:3], s.content, s.about) for s in sources]
    lines = reader.lines_at(source.place for source in sources)
    for source, line in zip(sources, lines, strict=True):
        text = text_json(source.trace.reasoning, source.trace.answer)
        assert reader.text_of(line) == text
        assert (source.place.text_in(line) or text) == text
    return [*found, (_problems(reader), reader.problems.questions, list(reader.skipped), reader.notes())]


PIECES = [
    "<think>\n",
    "\n</think>\n\n",
    "<think>",
    "</think>",
    "\n",
    " ",
    "\t",
    "a",
    "\\",
    '"',
    "Ä",
    "\u00a0",
    "/",
    "\x1f",
    "😀",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
SHAPES: list[Callable[[str, str], Any]] = [
    lambda question, text: {"question": question, "response": text},
    lambda question, text: {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": text}]},
    lambda question, text: {"question": question, "reasoning": text, "response": "so", "text": f"<think>\n{text}\n</think>\n\n"},
]  # fmt: skip


@limits(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=TEXTS, text=TEXTS, shape=st.sampled_from(SHAPES), is_ascii=st.booleans(), slash=st.booleans())
def test_a_text_that_is_copied_is_the_one_that_would_be_made(
    tmp_path: Path, question: str, text: str, shape: Callable[[str, str], Any], is_ascii: bool, slash: bool
) -> None:
    row = json.dumps(shape(f"q{question}", text), ensure_ascii=is_ascii)
    path = write(tmp_path / "t.jsonl", [row.replace("/", "\\/") if slash else row, json.dumps(ROWS[-1])])
    with Index(tmp_path / "index.sqlite") as index:
        sources_of(path, index)  # it checks every text
        sources_of(path, index)


def test_a_text_in_canonical_form_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS[-4:-1]))
    with Index(tmp_path / "index.sqlite") as index:
        for _ in range(2):
            reader = TraceFiles([path], "math")
            reader.fingerprints(index)
            reader.remember_in(index)
            places = [source.place for source in reader.sources()]
            assert [place.text_in(line) for place, line in zip(places, reader.lines_at(places), strict=True)] == [
                text_json('three\n\n\t"3"', "\\boxed{6}"), text_json("three", "6"), text_json("vier Äpfel", "8/1"),
            ]  # fmt: skip


NEED_ANOTHER = {"openai-batch", "openai-batch.requests", "stored-completions.messages"}
"""Fixtures that hold no trace without the file beside them."""
ALONE = sorted(path for path in FIXTURES.glob("*.jsonl") if path.stem not in NEED_ANOTHER)


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_every_format_comes_back_as_it_was(tmp_path: Path, path: Path) -> None:
    wanted = sources_of(path, None)
    with Index(tmp_path / "index.sqlite") as index:
        assert sources_of(path, index) == wanted
        assert sources_of(path, index) == wanted


def test_what_an_index_holds_of_another_version_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", ROWS)
    wanted = sources_of(path, None)
    with Index(tmp_path / "index.sqlite") as index:
        sources_of(path, index)
        index.db.execute("UPDATE known_lines SET value=x'00'")
        assert sources_of(path, index) == wanted


def test_an_old_file_is_not_read_again_but_for_rows_that_are_not_known(
    tmp_path: Path, age: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, to = write(tmp_path / "a.jsonl", ROWS), tmp_path / "to"
    filter_files([file], to, limit(100))
    read: list[Path] = []

    def lines(path: Path) -> Any:
        read.append(path)
        return lines_of(path)

    monkeypatch.setattr("r1distill.filtering.known_lines.lines_of", lines)
    same_as_afresh([file], to, 3)
    assert read == ([file] if age == "old" else [file, file])  # the fresh folder knows nothing


def test_a_new_check_reads_the_rows_of_an_old_file(tmp_path: Path) -> None:
    file, to = write(tmp_path / "a.jsonl", ROWS), tmp_path / "to"
    filter_files([file], to, limit(100))
    more = changed_defaults(("filter.checks.length.max_tokens=100", "filter.checks.language={}"))
    summary = filter_files([file], to, more)
    assert summary.measured == summary.traces
    fresh = filter_files([file], tmp_path / "fresh", more)
    assert outputs(to) == outputs(tmp_path / "fresh")
    assert fresh.measured > summary.measured
