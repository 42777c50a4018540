"""Spending on disk: what reservations, losses and kills add up to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.asking.spending import Row, Spending, parts_of, read_book, spending_file, spending_files
from r1distill.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return spending_file(tmp_path, (1, 1))


def test_a_reservation_is_on_disk_before_anything_else(path: Path) -> None:
    with Ledger(path) as ledger:
        spending = Spending(ledger, 1.0)
        spending.reserve("a", 0.25)
        assert read_book(path).open == {"a": 0.25}
        spending.reserve("a", 0.25)  # the next attempt of the same request
        assert len(path.read_bytes().splitlines()) == 1


def test_without_a_budget_nothing_is_written(path: Path) -> None:
    with Ledger(path) as ledger:
        spending = Spending(ledger, None)
        spending.reserve("a", 0.25)
        spending.paid("a", 0.1)
        spending.released("b")
        assert path.read_bytes() == b""
        assert spending.spent_usd == pytest.approx(0.1)


def test_what_fits(path: Path) -> None:
    with Ledger(path) as ledger:
        spending = Spending(ledger, 1.0, 0.5)
        assert spending.fits(0.5)
        assert not spending.fits(0.51)
        spending.reserve("a", 0.4)
        assert not spending.fits(0.2)
        spending.paid("a", 0.1)
        assert spending.fits(0.4)
        assert not spending.fits(0.41)


def test_how_each_end_of_a_request_counts(path: Path) -> None:
    with Ledger(path) as ledger:
        spending = Spending(ledger, 10.0)
        for name in "abcde":
            spending.reserve(name, 1.0)
        spending.paid("a", 0.2)  # the trace holds the cost
        spending.paid("b", None)  # nobody knows: the worst case
        spending.wasted("c", 0.3, "empty")
        spending.wasted("d", None, "timeout")
        spending.released("e")
        assert spending.spent_usd == pytest.approx(0.2 + 1.0 + 0.3 + 1.0)
        assert spending.lost_usd == pytest.approx(0.3 + 1.0)
        assert spending.reserved_usd == 0
    book = read_book(path)
    assert book.lost_usd == pytest.approx(1.0 + 0.3 + 1.0)
    assert book.open == {"a": 1.0}  # closed by the trace of the same id


def test_what_a_kill_left_open_counts_in_full_unless_its_trace_is_there(path: Path) -> None:
    with Ledger(path) as ledger:
        for name in "ab":
            Spending(ledger, 10.0).reserve(name, 1.5)
    with Ledger(path) as ledger:
        spending = Spending(ledger, 10.0)
        assert spending.close_left_over(read_book(path, {"a"}.intersection).open) == 1.5
    assert read_book(path).lost_usd == 1.5
    with Ledger(path) as ledger:  # and it is counted once, however often one starts again
        assert Spending(ledger, 10.0).close_left_over(read_book(path, {"a"}.intersection).open) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from(["reserve", "paid", "waste", "free"]), st.floats(0, 2)
        ),
        max_size=40,
    )
)
def test_reserved_is_what_is_open(steps: list[tuple[str, str, float]]) -> None:
    spending = Spending(None, 100.0)
    for name, what, usd in steps:
        if what == "reserve":
            spending.reserve(name, usd)
        elif what == "paid":
            spending.paid(name, usd)
        elif what == "waste":
            spending.wasted(name, None, "timeout")
        else:
            spending.released(name)
        assert spending.reserved_usd == pytest.approx(sum(spending._open.values()))
        assert spending.spent_usd >= 0


def test_torn_and_strange_rows_are_passed_over(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append(Row(2.0, lost="a"))
    with path.open("ab") as file:
        file.write(b"no json\n[]\n" + b'{"usd": 5.0, "lost": "b"')
    assert read_book(path).lost_usd == 2.0
    assert read_book(path.with_name("gone.jsonl")) == (0.0, 0.0, {})


def test_the_files_of_a_run(tmp_path: Path) -> None:
    for name in (
        "spending-1-of-1.jsonl",
        "spending-2-of-8.jsonl",
        "spending-batch.jsonl",
        "spending-old.jsonl",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in spending_files(tmp_path)] == [
        "spending-1-of-1.jsonl", "spending-2-of-8.jsonl", "spending-batch.jsonl"]  # fmt: skip
    assert parts_of(Path("spending-2-of-8.jsonl")) == 8
    assert parts_of(Path("part-batch.jsonl")) is None
