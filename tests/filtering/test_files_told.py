"""What is told about trace files: why none can be read, how far the reading is, names of all kinds."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1distill.cli import main
from r1distill.errors import InputError
from r1distill.filter import filter_files
from r1distill.filtering.known_files import SETTLED_S, fingerprints
from r1distill.filtering.measure_only import measure_files
from r1distill.importers.fields import in_plain_words
from r1distill.index import Index
from r1distill.path_names import as_text, key_of, shown
from r1distill.show import Show

ROW = {
    "question": "9 * 2?",
    "response": "<think>\n9 * 2 = 18\n</think>\n\nThe answer is 18.",
    "reference": "18",
}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("t.jsonl", b"", ": the file is empty"),
        ("t.jsonl", b"\n \n", ": the file holds no row"),
        ("t.jsonl", b"[1]\n", " (line 1: the line is no JSON object but a number)"),
        ("t.jsonl", b"\xff\xfe{\0}\0", " (line 1: the file is written as UTF-16: save it as UTF-8; nothing of it is read)"),
        ("t.gz", gzip.compress(b'{"question": "q"}')[:12], " (line 1: the compressed data are damaged or end too early "
         "(Compressed file ended before the end-of-stream marker was reached))"),
        ("t.jsonl", b'{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "q"}]}}\n',
         ": there are only requests in it, name the file with their answers too"),
    ],
)  # fmt: skip
def test_no_row_at_all_says_why_and_no_more(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    source = tmp_path / name
    source.write_bytes(data)
    with pytest.raises(InputError) as caught:
        filter_files([source], tmp_path / "out")
    assert str(caught.value) == f"No trace can be read from {source}{reason}."


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [{"q": "1 + 1?", "a": "2"}])
    for columns, gone in (
        ({"question": "q", "answer": "nope"}, "no column 'nope'"),
        ({"question": "nix", "answer": "no"}, "no column 'nix' and no column 'no'"),
    ):
        with pytest.raises(InputError) as caught:
            filter_files([source], tmp_path / "out", columns=columns)
        assert str(caught.value).endswith(f" (line 1: there is {gone}; its columns: q (text), a (text)).")


def test_the_progress_display_ends_at_all_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "t.jsonl", [ROW, "torn", "", {**ROW, "question": "2 * 9?"}, "torn too"])
    filter_files([source], tmp_path / "out", show=Show())
    assert "Filtering: 5/5\n" in capsys.readouterr().err
    measure_files([source], tmp_path / "out2", show=Show())
    assert "Measuring: 5/5\n" in capsys.readouterr().err


def test_lines_that_are_skipped_count_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("r1distill.show.PLAIN_EVERY_S", 0)
    source = write(tmp_path / "t.jsonl", [ROW, "torn", {**ROW, "question": "2 * 9?"}, "torn too", ROW, ""])
    filter_files([source], tmp_path / "out", show=Show())
    assert "Filtering: 5/6" in capsys.readouterr().err


def named(folder: Path, name: bytes) -> Path:
    """A path whose name is made of any bytes."""
    return folder / os.fsdecode(name)


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[dict[str, Any], str]:
    """(JSON summary, what people read) of a command that ends well."""
    assert main([*map(str, arguments), "--json"]) == 0
    told = capsys.readouterr()
    summary: dict[str, Any] = json.loads(told.out)
    return summary, told.err


def test_names_that_are_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(named(tmp_path, b"64_\xff.jsonl"), [ROW, "torn"])
    to = named(tmp_path, b"out_\xfe")
    summary, told = said(capsys, "filter", source, "--to", to, "--set", "filter.select.parquet=true")
    assert (summary["kept"], Path(summary["folder"]).name) == (1, "out_\ufffd")
    assert "the first is" in told and "64_\ufffd.jsonl:2" in told
    (origin,) = json.loads((to / "sources.json").read_text())
    assert Path(origin["path"]).name == "64_\ufffd.jsonl"
    (skipped,) = [json.loads(line) for line in (to / "skipped.jsonl").open()]
    assert Path(skipped["file"]).name == "64_\ufffd.jsonl"
    assert said(capsys, "filter", source, "--to", to, "--set", "filter.select.parquet=true", "--diff")[0][
        "up_to_date"
    ]
    assert said(capsys, "filter", source, "--to", to, "--dry-run")[0]["traces"] == 1
    assert said(capsys, "filter", source, "--to", to, "--measure-only")[0]["traces"] == 1


def test_an_import_of_names_that_are_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(named(tmp_path, b"64_\xff.jsonl"), [ROW, "torn"])
    (tmp_path / "t.jinja").write_text("{{ question }}")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "r"\n[student]\nbase = "x"\ntemplate = "t.jinja"\n[filter.checks.correct]\n')
    summary, told = said(capsys, "import", source, "--to", recipe)
    assert (summary["traces"], summary["skipped"]) == (1, 1)
    assert "64_\ufffd.jsonl: 1 traces taken over" in told
    assert said(capsys, "import", source, "--to", recipe)[0]["traces"] == 0
    assert said(capsys, "filter", recipe)[0]["kept"] == 1
    run = (tmp_path / "runs" / "r").rename(named(tmp_path / "runs", b"run_\xfd"))
    assert said(capsys, "import", run, "--to", recipe)[0]["traces"] == 1
    assert said(capsys, "filter", run)[0]["kept"] == 1


def test_a_file_is_known_again_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(named(tmp_path, name), [ROW] * n) for n, name in enumerate((b"\xff", b"\xfe", b"a"), 1)]
    now = time.time() + 2 * SETTLED_S
    monkeypatch.setattr("r1distill.filtering.known_files.time.time", lambda: now)
    with Index(tmp_path / "index.sqlite") as index:
        first = fingerprints(files, index)
        monkeypatch.setattr("r1distill.filtering.known_files._read", None)
        assert fingerprints(files, index) == first
    assert [one.lines for one in first] == [1, 2, 3]


@pytest.mark.parametrize("act", [lambda: int("9" * 5000), lambda: str(1 << 20_000)])
def test_what_python_says_of_huge_numbers_is_said_in_plain_words(act: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="set_int_max_str_digits") as caught:
        act()
    assert in_plain_words(f"choice 1: {caught.value}") == "choice 1: a number of more than 4,300 digits"


def test_names_as_text() -> None:
    name = os.fsdecode(b"a\xff\n\x1b[31m\xe2\x80\xae.jsonl")
    assert as_text(name) == "a\ufffd\n\x1b[31m\u202e.jsonl"
    assert shown(name) == "a\ufffd\ufffd\ufffd[31m\ufffd.jsonl"
    assert shown("\u00fc b.jsonl") == key_of("\u00fc b.jsonl") == "\u00fc b.jsonl"
    assert key_of(name) == os.fsencode(name)


def test_a_line_break_in_a_name_does_not_break_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a\nb.jsonl", [ROW, "torn"])
    summary, told = said(capsys, "filter", source, "--to", tmp_path / "out")
    assert "a\ufffdb.jsonl:2 (" in summary["notes"][0] and "\nb.jsonl" not in told
    assert main(["filter", str(write(source, ["torn"])), "--to", str(tmp_path / "out2")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
