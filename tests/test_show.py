"""What people see: levels, plain progress lines, harmless text."""

from __future__ import annotations

import io
import re
import sys

import pytest

from r1distill import show as module
from r1distill.show import Progress, Show, counted, dollars, duration, plain


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    for level in (0, 1, 2):
        show = Show(level)
        show.note("error", 0)
        show.note("normal")
        show.note("detail", 2)
        show.table("T", ("a", "b"), [("x", 1)])
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        err.count("error"),
        err.count("normal"),
        err.count("detail"),
        sum(line.strip() == "T" for line in err.splitlines()),
    ) == (3, 2, 1, 2)


def test_table_aligns_numbers_and_takes_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Show().table(
        "[red]title",
        ("name", "count", "share", "what"),
        [("[bold]x", 1, "5.0%", "one"), ("y", "1,000", "-", "two")],
    )
    lines = capsys.readouterr().err.splitlines()
    assert "[red]title" in lines[0]
    assert any("[bold]x" in line and "    1" in line for line in lines)
    Show().table("nothing", ("a",), [])
    assert capsys.readouterr().err == ""


def test_plain_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Show().progress("Asking", 10) as progress:
        progress.update(1)
        now += 6.0
        progress.update(2, "3.0/s")
        now += 1.0
        progress.update(10, "all")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["Asking: 2/10, 3.0/s, 24.0 s left", "Asking: 10/10"]


def test_what_was_given_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Show(0).progress("Asking", 10) as progress:
        now += 8.0
        progress.update(4, given_up=4)
        assert progress.left_s() == pytest.approx(4.0)
        progress.update(0, given_up=8)
        assert progress.left() == ""
        progress.update(12)
        assert progress.done == 10


def test_a_piped_table_breaks_no_row_and_has_no_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    Show().table("A title that is longer than its table", ("a", "b"), [("x", "y" * 200), ("z", "")])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "A title that is longer than its table"
    assert "y" * 200 in lines[3]
    assert all(line == line.rstrip() for line in lines)


def test_a_line_that_was_printed_is_not_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show()
    show.note("details", 2)
    for text in ("once", "once", "details"):
        show.note_once(text)
    assert capsys.readouterr().err.splitlines() == ["once", "details"]


def test_a_number_with_its_noun() -> None:
    assert [counted(1, "batch", "batches"), counted(2, "batch", "batches")] == ["1 batch", "2 batches"]
    assert [counted(0, "file"), counted(2000, "answer")] == ["0 files", "2,000 answers"]


def test_quiet_progress_prints_nothing_and_knows_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Show(0).progress("Asking", 10) as progress:
        assert isinstance(progress, Progress)
        assert progress.left_s() is None
        progress.update(5)
        assert progress.left_s() is not None
    assert capsys.readouterr().err == ""


def test_live_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Show().progress("Asking", 4) as progress:
        progress.update(2, "[half] " + "and many more words " * 20)
        progress.update(4, "[done]")
    assert "Asking" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_a_long_detail_leaves_the_bar_its_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    with Show().progress("Asking", 4000) as progress:
        progress.update(1234, "[some] " + "failed: 2 timeout, " * 12 + "the end")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).splitlines()
    bar = next(line for line in reversed(lines) if "Asking" in line)
    assert "1,234/4,000" in bar and " left" in bar and "━" in bar
    assert "[some] failed" in terminal.getvalue() and "the end" in terminal.getvalue()


def test_text_that_steers_a_terminal_is_disarmed(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[2Jb\rc\u202ed\u2066e\x07\ud800\tf\ng"
    assert plain(hostile) == "a\ufffd[2Jb\ufffdc\ufffdd\ufffde\ufffd\ufffd\tf\ng"
    assert plain("naïve 答え 👩‍🔬 می‌خواهم") == "naïve 答え 👩‍🔬 می‌خواهم"
    Show().note(hostile)
    Show().table("t\x1b", ("c",), [("\x1b[31m",)])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown time"),
        (7.34, "7.3 s"),
        (0, "0.0 s"),
        (59.96, "1 min 00 s"),
        (245, "4 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("cost", "text"), [(None, "cost unknown"), (0.0, "$0.0000"), (0.01234, "$0.0123"), (1234.5, "$1,234.50")]
)
def test_dollars(cost: float | None, text: str) -> None:
    assert dollars(cost) == text


def test_a_reader_that_is_gone_never_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", Gone())
    show = Show()
    show.note("somebody?")
    assert show.level == -1
    show.table("t", ("a",), [("b",)])
    with show.progress("p", 3) as progress:
        progress.update(1)
