"""The spool and its Parquet files: nothing lost and nothing twice, whenever the writer is killed."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.errors import InputError, LockedError, MissingPackageError, StorageError
from r1distill.logprobs import columns as logprob_columns
from r1distill.logprobs import reading as logprob_reading
from r1distill.logprobs import spool as logprob_spool
from r1distill.logprobs import store as logprob_store
from r1distill.logprobs.reading import has, read
from r1distill.logprobs.spool import HEAD, whole_frames
from r1distill.logprobs.store import LogprobStore
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.teachers.logprobs import decode

PART = "part-1-of-1"
ENTRIES = st.tuples(st.binary(max_size=5), st.floats(-30, 0, width=16) | st.just(-math.inf))
RECORDS = st.builds(
    lambda answer, numbers, ends, notes: packed(answer, numbers, ends, notes),
    st.lists(st.tuples(ENTRIES, st.lists(ENTRIES, max_size=3)), max_size=6),
    st.booleans(),
    st.none() | st.integers(0, 1 << 40),
    st.lists(st.sampled_from(["fewer", "replaced"]), unique=True),
)


def packed(answer: list, numbers: bool, ends: int | None, notes: list[str]) -> TokenLogprobs:
    others = [other for _, group in answer for other in group]

    def column(kind: str, values: list) -> bytes:
        return struct.pack(f"<{len(values)}{kind}", *values)

    return TokenLogprobs(
        b"".join(name for (name, _), _ in answer),
        column("H", [len(name) for (name, _), _ in answer]),
        column("e", [value for (_, value), _ in answer]),
        b"".join(name for name, _ in others),
        column("H", [len(name) for name, _ in others]),
        column("e", [value for _, value in others]),
        column("H", [len(group) for _, group in answer]),
        column("I", [*range(len(answer))]) if numbers else b"",
        3, ends, "text match", tuple(notes),
    )  # fmt: skip


def record_of(text: str, k: int = 2) -> TokenLogprobs:
    item = {
        "token": text,
        "logprob": -0.5,
        "top_logprobs": [{"token": f"{text}{n}", "logprob": -n} for n in range(k)],
    }
    record = decode({"content": [item] * 3}, k)
    assert record is not None
    return record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logprobs"


def parquet(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=5), st.integers(1, 200))
def test_what_goes_in_comes_out_of_spool_and_parquet(records: list[TokenLogprobs], group: int) -> None:
    import tempfile

    expected = {f"id{number}": record for number, record in enumerate(records)}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprob_spool, "GROUP_BYTES", group)
        folder = Path(name) / "logprobs"
        with LogprobStore(folder, PART) as store:
            for trace_id, record in expected.items():
                store.append(trace_id, "slot", record)
            assert dict(read(folder)) == expected
            assert not parquet(folder)
        assert parquet(folder) == [f"{PART}.00001.parquet"]
        assert (folder / f"{PART}.spool").read_bytes() == b""
        assert dict(read(folder)) == expected
        assert [trace_id for trace_id, _ in read(folder, ["id0", "else"])] == ["id0"]


def test_other_programs_read_the_columns(folder: Path) -> None:
    import pyarrow.parquet as pq

    with LogprobStore(folder, PART) as store:
        store.append("id", "slot", record_of("ä", 1))
    (row,) = pq.read_table(folder / f"{PART}.00001.parquet").to_pylist()
    assert row == {
        "trace_id": "id", "slot": "slot", "tokens": ["ä".encode()] * 3, "logprobs": [-0.5] * 3,
        "top_tokens": [["ä0".encode()]] * 3, "top_logprobs": [[0.0]] * 3, "token_ids": [], "asked": 1,
        "reasoning_ends": None, "reasoning_found": "unknown", "notes": [],
    }  # fmt: skip


def test_a_large_spool_becomes_a_numbered_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprob_store, "SPOOL_BYTES", 500)
    with LogprobStore(folder, PART) as store:
        for number in range(20):
            store.append(f"id{number:02}", "slot", record_of(str(number)))
        store.settle()
        assert len(parquet(folder)) >= 2
        assert (folder / f"{PART}.spool").stat().st_size < 500
        assert sorted(trace_id for trace_id, _ in read(folder)) == [f"id{number:02}" for number in range(20)]
    assert parquet(folder)[:2] == [f"{PART}.00001.parquet", f"{PART}.00002.parquet"]


def test_the_newest_record_of_a_trace_wins(folder: Path) -> None:
    for texts in ("ab", "cd"):
        with LogprobStore(folder, PART) as store:
            for text in texts:
                store.append("id", "slot", record_of(text))
            assert list(read(folder)) == [("id", record_of(texts[-1]))]
    assert list(read(folder)) == [("id", record_of("d"))]
    with LogprobStore(folder, PART) as store:
        store.append("id", "slot", record_of("e"))
        store.append("id2", "slot", record_of("x"))
        assert dict(read(folder)) == {"id": record_of("e"), "id2": record_of("x")}


def test_parts_are_read_together_and_kept_apart(folder: Path) -> None:
    for part in ("part-1-of-1", "part-1-of-10", "odd[1]"):
        with LogprobStore(folder, part) as store:
            store.append(part, "slot", record_of("a"))
    assert {name for name, _ in read(folder)} == {"part-1-of-1", "part-1-of-10", "odd[1]"}
    assert all(".00001." in name for name in parquet(folder))


def test_there_is_one_writer_and_nothing_is_made_of_nothing(folder: Path) -> None:
    assert not has(folder)
    with (
        LogprobStore(folder, PART),
        pytest.raises(LockedError, match=r"writing .*\.spool"),
        LogprobStore(folder, PART),
    ):
        pass
    assert not parquet(folder)
    assert not has(folder)
    assert list(read(folder)) == []


def leftover(folder: Path, count: int) -> Path:
    """A spool as a killed writer leaves it."""
    with LogprobStore(folder, PART) as store:
        for number in range(count):
            store.append(f"id{number}", "slot", record_of(str(number)))
        copy = shutil.copy(folder / f"{PART}.spool", folder / "copy")
    for path in folder.glob("*.parquet"):
        path.unlink()
    return Path(copy).replace(folder / f"{PART}.spool")


@pytest.mark.parametrize(
    "tail", [b"", b"\x05", HEAD.pack(100, 7) + b"x" * 50, HEAD.pack(3, 7) + b"abc", bytes(64)]
)
def test_a_torn_tail_is_cut_and_counted(folder: Path, tail: bytes) -> None:
    spool = leftover(folder, 3)
    whole = spool.stat().st_size
    with spool.open("ab") as file:
        file.write(tail)
    assert has(folder)
    assert {name for name, _ in read(folder)} == {"id0", "id1", "id2"}
    with LogprobStore(folder, PART) as store:
        assert store.torn_bytes == len(tail)
        assert spool.stat().st_size == whole
        store.append("id3", "slot", record_of("3"))
    assert dict(read(folder)) == {f"id{number}": record_of(str(number)) for number in range(4)}


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_any_cut_keeps_all_whole_frames(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = leftover(folder, 4)
        data = spool.read_bytes()
        kept = cut % (len(data) + 1)
        spool.write_bytes(data[:kept])
        with LogprobStore(folder, PART) as store:
            assert store.torn_bytes == kept % (len(data) // 4)  # the four frames have one size
        assert len(list(read(folder))) == kept // (len(data) // 4)


def test_a_kill_between_parquet_and_emptying_the_spool(folder: Path) -> None:
    spool = leftover(folder, 3)
    before = spool.read_bytes()
    with LogprobStore(folder, PART):
        pass
    spool.write_bytes(before)
    (folder / f"{PART}.00002.parquet.part").write_bytes(b"half")
    assert sorted(name for name, _ in read(folder)) == ["id0", "id1", "id2"]
    with LogprobStore(folder, PART):
        assert spool.read_bytes() == b""
    assert [path.name for path in folder.glob("*.parquet*")] == [f"{PART}.00001.parquet"]
    assert sorted(name for name, _ in read(folder)) == ["id0", "id1", "id2"]


def test_the_same_traces_asked_again_are_not_taken_for_converted_ones(folder: Path) -> None:
    leftover(folder, 1)
    with LogprobStore(folder, PART):
        pass
    again = LogprobStore(folder, PART)
    again.__enter__()
    again.append("id0", "slot", record_of("new"))
    again._close()  # as a kill would: nothing is converted
    with LogprobStore(folder, PART):
        pass
    assert list(read(folder)) == [("id0", record_of("new"))]


def test_a_reader_that_the_writer_overtakes_loses_nothing(folder: Path) -> None:
    with LogprobStore(folder, PART) as store:
        for number in range(5):
            store.append(f"id{number}", "slot", record_of(str(number)))
        reader = read(folder)
        seen = [next(reader)[0]]
        store._rotate()
        store.settle()
        store.append("later", "slot", record_of("9"))
        seen += [name for name, _ in reader]
    assert sorted(seen) == [f"id{number}" for number in range(5)]


CHILD = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from r1distill.logprobs import store as logprob_store
    from r1distill.logprobs.store import LogprobStore
    from r1distill.teachers.logprobs import decode
    logprob_store.SPOOL_BYTES = 6000
    start = int(sys.argv[2])
    record = decode({"content": [{"token": "ab", "logprob": -1.5}] * 200}, 0)
    with LogprobStore(Path(sys.argv[1]), "part-1-of-1") as store:
        for number in range(start, start + 5000):
            store.append(f"id{number}", "slot", record)
            os.write(1, b"%d\\n" % number)
""")


def test_kill_at_any_moment_loses_no_append_that_returned(folder: Path) -> None:
    dice, told = random.Random(3), set()
    for turn in range(5):
        command = [sys.executable, "-c", CHILD, str(folder), str(turn * 10_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            for _ in range(dice.randrange(1, 60)):
                told.add(f"id{int(child.stdout.readline())}")
            os.kill(child.pid, signal.SIGKILL)
            told |= {f"id{int(line)}" for line in child.stdout if line.endswith(b"\n")}
        found = [name for name, _ in read(folder)]
        assert len(found) == len(set(found))
        assert told <= set(found)
        assert len(set(found) - told) <= turn + 1  # at most the one append under way at each kill
    with LogprobStore(folder, PART):
        pass
    stored = [
        name
        for path in folder.glob("*.parquet")
        for ids, _ in logprob_columns.row_groups(path)
        for name in ids
    ]
    assert len(stored) == len(set(stored))
    assert told <= set(stored)
    assert len(list(folder.glob("*.parquet"))) >= 3


def test_a_full_disk_leaves_no_half_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = os.write, iter([9])

    def nine_bytes_then_full(file: int, data: bytes) -> int:
        size = next(sizes, None)
        if size is None:
            raise OSError(28, "No space left on device")
        return real(file, data[:size])

    with LogprobStore(folder, PART) as store:
        store.append("id0", "slot", record_of("0"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", nine_bytes_then_full)
            with pytest.raises(StorageError, match="no space left"):
                store.append("id1", "slot", record_of("1"))
        store.append("id2", "slot", record_of("2"))
    assert {name for name, _ in read(folder)} == {"id0", "id2"}


def test_a_parquet_file_that_can_not_be_written_leaves_the_spool(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(StorageError, match="no space left"),
        LogprobStore(folder, PART) as store,
    ):
        store.append("id0", "slot", record_of("0"))
        patch.setattr(logprob_store, "fsync_path", full)
    assert not list(folder.glob("*.parquet*"))
    with LogprobStore(folder, PART):
        pass
    assert list(read(folder)) == [("id0", record_of("0"))]


class Gate:
    """Holds conversions up until it is opened; notes the threads that convert."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open, self.reached, self.threads = threading.Event(), threading.Event(), set[str]()
        convert = logprob_store._convert

        def held(spool: Path) -> None:
            self.threads.add(threading.current_thread().name)
            self.reached.set()
            assert self.open.wait(10)
            convert(spool)

        patch.setattr(logprob_store, "_convert", held)


def test_appending_never_waits_for_a_conversion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprob_store, "SPOOL_BYTES", 1)
    gate = Gate(monkeypatch)
    with LogprobStore(folder, PART) as store:
        for number in range(4):
            store.append(f"id{number}", "slot", record_of(str(number)))
        assert gate.reached.wait(10)
        assert not parquet(folder)
        assert len(list(folder.glob(f"{PART}.0*.spool"))) == 4  # they queue up on the disk
        assert has(folder)
        assert [trace_id for trace_id, _ in read(folder)] == ["id3", "id2", "id1", "id0"]
        gate.open.set()
    assert len(gate.threads) == 1
    assert threading.current_thread().name not in gate.threads
    assert len(parquet(folder)) == 4
    assert [path.name for path in folder.glob("*.spool")] == [f"{PART}.spool"]
    assert [trace_id for trace_id, _ in read(folder)] == ["id3", "id2", "id1", "id0"]


@pytest.mark.parametrize("killed", ["before", "after the file", "within the file"])
def test_rotated_spools_that_a_kill_left_are_converted_once(folder: Path, killed: str) -> None:
    spool = leftover(folder, 3)
    rotated = spool.rename(folder / f"{PART}.00001.spool")
    data = rotated.read_bytes()
    if killed == "after the file":
        with LogprobStore(folder, PART):
            pass
        rotated.write_bytes(data)
    if killed == "within the file":
        (folder / f"{PART}.00001.parquet.part").write_bytes(b"half")
    assert sorted(name for name, _ in read(folder)) == ["id0", "id1", "id2"]
    with LogprobStore(folder, PART) as store:
        store.append("id2", "slot", record_of("newer"))
    assert sorted(path.name for path in folder.glob("*.0*")) == [
        f"{PART}.00001.parquet",
        f"{PART}.00002.parquet",
    ]
    assert dict(read(folder)) == {"id2": record_of("newer"), "id0": record_of("0"), "id1": record_of("1")}


def test_a_file_from_elsewhere_is_not_overwritten(folder: Path) -> None:
    """Somebody copied another run's file over ours of the same name."""
    rotated = leftover(folder, 2).rename(folder / f"{PART}.00001.spool")
    with LogprobStore(folder / "else", PART) as store:
        store.append("foreign", "slot", record_of("f"))
    shutil.copy(folder / "else" / f"{PART}.00001.parquet", folder)
    with LogprobStore(folder, PART):
        pass
    assert rotated.exists()
    assert {name for name, _ in read(folder)} == {"id0", "id1", "foreign"}


def test_a_failed_conversion_is_told_by_the_next_sync_and_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = LogprobStore(folder, PART)
    with store:
        store.append("id0", "slot", record_of("0"))
        with monkeypatch.context() as patch:
            patch.setattr(logprob_store, "ColumnWriter", full)
            store._rotate()
            wait(store._conversions)
        store.sync_on_append = False
        store.append("id1", "slot", record_of("1"))  # an answer that came: kept, whatever the converter says
        with pytest.raises(StorageError, match=r"00001\.parquet can't be written: there is no space left"):
            store.sync()
        store.sync()  # told once
    assert sorted(path.name for path in folder.glob("*.0*")) == [
        f"{PART}.00001.spool",
        f"{PART}.00002.parquet",
    ]
    assert {name for name, _ in read(folder)} == {"id0", "id1"}
    with LogprobStore(folder, PART):
        pass
    assert parquet(folder) == [f"{PART}.00001.parquet", f"{PART}.00002.parquet"]
    assert {name for name, _ in read(folder)} == {"id0", "id1"}


def test_a_spool_that_can_not_be_rotated_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: LogprobStore) -> int:
        raise OSError(24, "Too many open files")

    with LogprobStore(folder, PART) as store:
        with monkeypatch.context() as patch:
            patch.setattr(logprob_store, "SPOOL_BYTES", 1)
            patch.setattr(LogprobStore, "_opened", none_left)
            with pytest.raises(StorageError, match="Too many open files"):
                store.append("id0", "slot", record_of("0"))
        store.append("id1", "slot", record_of("1"))
        assert [path.name for path in folder.glob("*.spool")] == [f"{PART}.spool"]
    assert {name for name, _ in read(folder)} == {"id0", "id1"}


def test_a_rotation_takes_no_descriptor_from_an_fsync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread fsyncs, appends go on and rotate; what was rotated unsynced is synced the next time."""
    monkeypatch.setattr(logprob_store, "SPOOL_BYTES", 1)
    real, inside, go_on = os.fsync, threading.Event(), threading.Event()
    synced: list[int] = []

    def slow(file: int) -> None:
        if threading.current_thread().name == "syncer":
            inside.set()
            assert go_on.wait(10)
            synced.append(os.fstat(file).st_ino)  # raises for a closed one
        real(file)

    monkeypatch.setattr(os, "fsync", slow)
    with LogprobStore(folder, PART) as store, ThreadPoolExecutor(1) as pool:
        store.sync_on_append = False

        def sync() -> None:
            threading.current_thread().name = "syncer"
            store.sync(force=True)

        monkeypatch.setattr(logprob_store, "SPOOL_BYTES", 1 << 20)
        store.append("id0", "slot", record_of("0"))
        first = (folder / f"{PART}.spool").stat().st_ino
        job = pool.submit(sync)
        assert inside.wait(10)
        store._rotate()
        store.append("id1", "slot", record_of("1"))
        second = (folder / f"{PART}.spool").stat().st_ino
        store._rotate()
        go_on.set()
        job.result(10)
        assert synced == [first]
        pool.submit(sync).result(10)
        assert second in synced
        assert store._retired == []
    assert {name for name, _ in read(folder)} == {"id0", "id1"}


def test_a_sync_that_comes_late_does_nothing(folder: Path) -> None:
    with LogprobStore(folder, PART) as store:
        store.append("id0", "slot", record_of("0"))
    store.sync(force=True)
    assert parquet(folder) == [f"{PART}.00001.parquet"]


def open_files() -> int:
    """So many descriptors are open (0 where the system does not tell)."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


def test_syncing_beside_appending_loses_and_leaks_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprob_store, "SPOOL_BYTES", 2000)
    before = open_files()
    done = threading.Event()
    with LogprobStore(folder, PART) as store, ThreadPoolExecutor(1) as pool:
        store.sync_on_append = False

        def sync_on() -> int:
            count = 0
            while not done.is_set():
                store.sync(force=True)
                count += 1
            return count

        job = pool.submit(sync_on)
        for number in range(150):
            store.append(f"id{number}", "slot", record_of(str(number)))
        done.set()
        assert job.result(10) > 0
    assert {name for name, _ in read(folder)} == {f"id{number}" for number in range(150)}
    assert open_files() == before


def test_a_deleted_spool_is_told(folder: Path) -> None:
    store = LogprobStore(folder, PART)
    with pytest.raises(StorageError, match="was deleted while it was being written"), store:
        store.sync_on_append = False
        store.append("id0", "slot", record_of("0"))
        (folder / f"{PART}.spool").unlink()
        store.sync(force=True)


def test_a_spool_converted_while_a_reader_looks_is_found_in_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated = leftover(folder, 2).rename(folder / f"{PART}.00001.spool")
    real = logprob_reading.numbers

    def overtaken(where: Path, part: str) -> list[int]:
        found = real(where, part)
        logprob_store._convert(rotated)
        return found

    monkeypatch.setattr(logprob_reading, "numbers", overtaken)
    assert {name for name, _ in read(folder)} == {"id0", "id1"}
    assert not rotated.exists()


def test_two_spools_joined_are_a_spool(folder: Path) -> None:
    spool = leftover(folder, 2)
    whole = spool.read_bytes()
    spool.write_bytes(whole + b"torn")
    assert whole_frames(spool) == whole
    spool.write_bytes(whole_frames(spool) + whole)
    assert {name for name, _ in read(folder)} == {"id0", "id1"}
    assert whole_frames(folder / "none.spool") == b""


def test_syncing_is_throttled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    clock = [100.0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", synced.append)
        patch.setattr("time.monotonic", lambda: clock[0])
        with LogprobStore(folder, PART) as store:
            for number in range(5):
                store.append(str(number), "slot", record_of("a"))
            assert len(synced) == 1
            clock[0] += logprob_store.SYNC_EVERY_S
            store.sync()
            store.sync()
            assert len(synced) == 2


def test_a_broken_file_is_named(folder: Path) -> None:
    folder.mkdir()
    (folder / f"{PART}.00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"part-1-of-1\.00001\.parquet can't be read"):
        list(read(folder))


def test_without_pyarrow_the_store_does_not_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with (
        pytest.raises(MissingPackageError, match=r"pip install 'r1distill\[logprobs\]'"),
        LogprobStore(folder, PART),
    ):
        pass
    assert not folder.exists()
