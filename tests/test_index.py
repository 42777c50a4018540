"""The index is a cache: whatever happens to it or to the files, it says what the ledgers say."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from r1distill import index_file as module
from r1distill.errors import StorageError
from r1distill.index import Index
from r1distill.ledger import Ledger, read_at
from r1distill.queries import SHORT_ID, Made
from r1distill.records import Failure, Trace, Usage, trace_id_of


def trace(
    slot: str,
    ceiling: int | None = 100,
    finish: Any = "stop",
    created: str = "2026-01-01T00:00:00Z",
    **more: Any,
) -> Trace:
    return Trace(
        id=trace_id_of(slot, ceiling), slot=slot, prompt_id="p", sample=0, teacher=more.pop("teacher", "t"), model="m",
        messages=[], reasoning="", answer=more.pop("answer", "4"), finish=finish, max_tokens=ceiling, created=created, **more,
    )  # fmt: skip


def failure(slot: str, final: bool, error_class: str = "server") -> Failure:
    return Failure(slot=slot, prompt_id="p", sample=0, teacher="t", error_class=error_class, http_status=500, attempts=1,
                   final=final, message="", created="")  # fmt: skip


class Place:
    """A run folder with ledgers and an index."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "index.sqlite"

    def write(self, *rows: Any, name: str = "traces/part-1-of-1.jsonl") -> None:
        with Ledger(self.folder / name) as ledger:
            for row in rows:
                ledger.append(row)

    def read(self) -> dict[str, Any]:
        """All that the index says."""
        with Index(self.path) as index:
            index.catch_up("traces", self.folder / "traces")
            return {
                "newest": index.newest("traces"), "final": index.final_failures("traces"), "totals": index.totals("traces"),
                "counts": index.failure_counts("traces"), "unreadable": index.unreadable,
            }  # fmt: skip

    def same_without_the_old_index(self) -> dict[str, Any]:
        """What it says, proven to be what a new index says."""
        said = self.read()
        for path in self.folder.glob("index.sqlite*"):
            path.unlink()
        assert self.read() == said
        return said


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_knows_where_each_answer_stands(place: Place) -> None:
    place.write(trace("a"), trace("b", finish="length"), trace("c"))
    newest = place.same_without_the_old_index()["newest"]
    assert set(newest) == {"a", "b", "c"}
    assert newest["b"].finish == "length"
    for slot, ref in newest.items():
        (line,) = read_at(place.folder / "traces" / ref.name, [(ref.offset, ref.length)])
        assert msgspec.json.decode(line)["slot"] == slot


def test_it_catches_up_with_what_is_added(place: Place) -> None:
    place.write(trace("a"))
    place.read()
    place.write(trace("b"))
    place.write(trace("c"), name="traces/part-1-of-2.jsonl")
    assert set(place.same_without_the_old_index()["newest"]) == {"a", "b", "c"}


def test_an_unchanged_index_is_not_written_to(place: Place) -> None:
    place.write(trace("a"))
    place.read()
    before = place.path.read_bytes()
    place.read()
    assert place.path.read_bytes() == before


@pytest.mark.parametrize(
    ("first", "second", "newest"),
    [
        (trace("s", 100, "length"), trace("s", 200), 200),
        (trace("s", 100, "length"), trace("s", None), None),
        (trace("s", 200), trace("s", 100, created="2027-01-01T00:00:00Z"), 200),
        (trace("s", 100), trace("s", 200, "length"), 100),
        (trace("s", 100), trace("s", None, "length"), 100),
        (trace("s", 100, "length"), trace("s", 200, "length"), 200),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_newest_does_not_depend_on_the_order_of_the_files(
    place: Place, first: Trace, second: Trace, newest: int | None, turned: bool
) -> None:
    names = ["traces/part-1-of-1.jsonl", "traces/part-1-of-2.jsonl"]
    for row, name in zip((first, second), reversed(names) if turned else names, strict=True):
        place.write(row, name=name)
        place.read()
    assert place.same_without_the_old_index()["newest"]["s"].max_tokens == newest


def test_of_equals_the_later_one_is_newest(place: Place) -> None:
    place.write(trace("s", created="2026-01-02T00:00:00Z", finish="length"))
    place.write(trace("s", created="2026-01-01T00:00:00Z", finish="length"), name="traces/part-2-of-2.jsonl")
    assert place.same_without_the_old_index()["newest"]["s"].name == "part-1-of-1.jsonl"


def test_failures_are_read_from_all_shards(place: Place) -> None:
    place.write(failure("a", True, "context_length"), failure("b", False), name="failures.jsonl")
    place.write(failure("c", True, "context_length"), name="failures-1-of-2.jsonl")
    said = place.same_without_the_old_index()
    assert said["final"] == {"a", "c"}
    assert said["counts"] == {"context_length": 2, "server": 1}


def test_totals_by_teacher(place: Place) -> None:
    place.write(
        trace("a", usage=Usage(10, 20), cost_usd=0.5), trace("b", finish="length", usage=Usage(1, 2)),
        trace("c", teacher="u", cost_usd=0.0, usage=Usage(10**30, 5)),
    )  # fmt: skip
    t, u = place.read()["totals"]
    assert (t["teacher"], t["traces"], t["truncated"], t["prompt_tokens"], t["completion_tokens"]) == (
        "t",
        2,
        1,
        11,
        22,
    )
    assert (t["cost_usd"], t["cost_unknown"]) == (0.5, 1)
    assert (u["cost_usd"], u["cost_unknown"], u["prompt_tokens"], u["completion_tokens"]) == (0.0, 0, None, 5)


def lines(place: Place) -> tuple[Path, list[bytes]]:
    path = place.folder / "traces" / "part-1-of-1.jsonl"
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "broken", [b"not json\n", b"[1]\n", b'{"slot": "x", "id": "y"}\n', b"\xff\n", b"[" * 5000 + b"\n"]
)
def test_an_unreadable_row_is_counted_every_time(place: Place, broken: bytes) -> None:
    place.write(trace("a"), trace("b"))
    path, rows = lines(place)
    path.write_bytes(rows[0] + broken + rows[1])
    for _ in range(2):
        said = place.same_without_the_old_index()
        assert set(said["newest"]) == {"a", "b"}
        assert said["unreadable"] == [f"{path}: byte {len(rows[0])}"]


def test_a_torn_tail_is_not_read(place: Place) -> None:
    place.write(trace("a"), trace("b"))
    path, rows = lines(place)
    path.write_bytes(rows[0] + rows[1][:-5])
    assert set(place.read()["newest"]) == {"a"}
    path.write_bytes(rows[0] + rows[1])
    assert set(place.same_without_the_old_index()["newest"]) == {"a", "b"}


@pytest.mark.parametrize("kept", [[0], [0, 2], [2, 1], [1, 2, 0], [0, 2, 1, 0], []])
def test_a_truncated_or_replaced_file_is_read_again(place: Place, kept: list[int]) -> None:
    place.write(trace("a"), trace("b"), trace("c"))
    place.read()
    path, rows = lines(place)
    path.write_bytes(b"".join(rows[n] for n in kept))
    said = place.same_without_the_old_index()
    assert set(said["newest"]) == {"abc"[n] for n in kept}
    assert sum(t["traces"] for t in said["totals"]) == len(kept)


@pytest.mark.parametrize(
    "answers", ["546", "494", "449", "4447", ["4", "4", "a longer one", "4"], ["a longer one", "4"]]
)
def test_other_answers_under_the_same_slots_are_seen(place: Place, answers: list[str]) -> None:
    place.write(*(trace(str(n)) for n in range(3)))
    before = place.read()["newest"]
    lines(place)[0].unlink()
    place.write(*(trace(str(n), answer=answer) for n, answer in enumerate(answers)))
    after = place.same_without_the_old_index()["newest"]
    assert len(after) == len(answers)
    for slot in before.keys() & after.keys():
        assert (after[slot].content == before[slot].content) is (answers[int(slot)] == "4")


def test_a_removed_file_is_forgotten(place: Place) -> None:
    place.write(trace("a"))
    place.write(trace("b"), name="traces/part-2-of-2.jsonl")
    place.write(failure("c", True), name="failures.jsonl")
    place.read()
    (place.folder / "traces" / "part-2-of-2.jsonl").unlink()
    (place.folder / "failures.jsonl").unlink()
    said = place.same_without_the_old_index()
    assert (set(said["newest"]), said["final"]) == ({"a"}, set())


def test_ledgers_are_kept_apart(place: Place) -> None:
    place.write(trace("a"))
    place.write(trace("b"), name="evaluate/traces/part-1-of-1.jsonl")
    with Index(place.path) as index:
        index.catch_up("traces", place.folder / "traces")
        index.catch_up("evaluate", place.folder / "evaluate" / "traces")
        assert (set(index.newest("traces")), set(index.newest("evaluate"))) == ({"a"}, {"b"})


@pytest.mark.parametrize(
    "rubbish", [b"this is no database, but it is long enough to be looked at" * 50, b"", b"x"]
)
def test_a_broken_index_is_made_anew(place: Place, rubbish: bytes) -> None:
    place.write(trace("a"))
    place.path.write_bytes(rubbish)
    assert set(place.read()["newest"]) == {"a"}


def test_an_index_of_another_layout_is_made_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(trace("a"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "LAYOUT_VERSION", 1)
        patch.setattr(module, "TABLES", "CREATE TABLE traces (x)")
        with Index(place.path):
            pass
    assert set(place.read()["newest"]) == {"a"}


def test_a_locked_index_is_not_thrown_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(trace("a"))
    place.read()
    place.write(trace("b"))
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.01)
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        place.read()
    other.execute("ROLLBACK")
    other.close()
    assert set(place.read()["newest"]) == {"a", "b"}


def test_an_index_that_breaks_under_way_is_removed_and_said(place: Place) -> None:
    with pytest.raises(StorageError, match="has been removed"), Index(place.path):
        raise sqlite3.DatabaseError("database disk image is malformed")
    assert not place.path.exists()


def test_a_run_that_does_not_exist_stays_so(tmp_path: Path) -> None:
    with Index(tmp_path / "nowhere" / "index.sqlite") as index:
        index.catch_up("traces", tmp_path / "nowhere" / "traces")
        assert index.newest("traces") == {}
    assert list(tmp_path.iterdir()) == []


def test_many_readers_beside_a_writer_count_nothing_twice(place: Place) -> None:
    place.write(trace("first"))
    errors: list[BaseException] = []
    done = threading.Event()

    def look() -> None:
        try:
            while not done.is_set():
                said = place.read()
                assert sum(t["traces"] for t in said["totals"]) == len(said["newest"])
        except BaseException as error:  # noqa: BLE001 - reported by the test
            errors.append(error)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    with Ledger(place.folder / "traces" / "part-1-of-1.jsonl") as ledger:
        for number in range(100):
            ledger.append(trace(str(number)))
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(place.same_without_the_old_index()["newest"]) == 101


def test_measurements_are_kept_by_their_key(place: Place) -> None:
    rows = [Made(f"t{n}", f"k{n}", b'{"tokens":%d}' % n) for n in range(1200)]
    with Index(place.path) as index:
        index.store(rows)
        index.store([Made("t1", "k1", b'{"tokens":-1}')])
    with Index(place.path) as index:
        found = index.measured([f"t{n}" for n in range(1300)])
    assert len(found) == 1200
    assert (found["k0"], found["k1"]) == (b'{"tokens":0}', b'{"tokens":-1}')


def test_measurements_of_traces_whose_ids_begin_alike_are_told_apart_by_their_keys(place: Place) -> None:
    one, other = "a" * SHORT_ID + "1", "a" * SHORT_ID + "2"
    with Index(place.path) as index:
        index.store([Made(one, "k1", b"{}"), Made(one, "k2", b'{"n":1}'), Made(other, "k3", b'{"n":2}')])
        index.store([Made(one, "k2", b'{"n":3}')])
        assert index.measured([one])["k2"] == b'{"n":3}'
        assert index.measured([other])["k3"] == b'{"n":2}'
        assert index.measured(["b" * SHORT_ID]) == {}
