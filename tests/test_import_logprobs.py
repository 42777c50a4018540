"""Log-probabilities of another run: files, spools that a kill left, and spools that change meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from r1distill.import_logprobs import copy_logprobs
from r1distill.logprobs import store as logprob_store
from r1distill.logprobs.reading import read
from r1distill.logprobs.store import LogprobStore
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.run import Run
from r1distill.teachers.logprobs import decode


def record_of(text: str) -> TokenLogprobs:
    record = decode({"content": [{"token": text, "logprob": -0.5}] * 3}, 0)
    assert record is not None
    return record


def killed_store(folder: Path, texts: dict[str, str]) -> None:
    """Keep a record of each text, and end as by a kill: what is not rotated stays in the spool."""
    store = LogprobStore(folder, "part-1-of-1")
    store.__enter__()
    for trace_id, text in texts.items():
        store.append(trace_id, "slot", record_of(text))
    store._close()


def texts_of(run: Run) -> dict[str, str]:
    return {trace_id: record.token_list()[0].decode() for trace_id, record in read(run.folder / "logprobs")}


def test_log_probabilities_in_spools_come_along(tmp_path: Path) -> None:
    folder, run = tmp_path / "logprobs", Run(tmp_path / "run")
    with LogprobStore(folder, "part-1-of-1") as store:
        store.append("a", "slot", record_of("in a file"))
        store.append("b", "slot", record_of("older"))
    killed_store(folder, {"c": "rotated"})
    (folder / "part-1-of-1.spool").rename(folder / "part-1-of-1.00002.spool")
    (folder / "part-1-of-1.spool").touch()
    shutil.copytree(folder, tmp_path / "before")
    killed_store(folder, {"b": "newer"})  # opening may convert 00002; put it back as it was
    for path in (tmp_path / "before").glob("*.0*"):
        shutil.copy(path, folder)
    (folder / "part-1-of-1.00002.parquet").unlink(missing_ok=True)
    with (folder / "part-1-of-1.spool").open("ab") as file:
        file.write(b"torn")
    assert copy_logprobs(folder, run, "x", dry_run=True) == 3
    assert not run.folder.exists()
    assert copy_logprobs(folder, run, "x", dry_run=False) == 3
    expected = {"a": "in a file", "b": "newer", "c": "rotated"}
    assert texts_of(run) == expected
    assert copy_logprobs(folder, run, "x", dry_run=False) == 0
    killed_store(folder, {"d": "grown"})  # cuts the torn tail, converts 00002
    assert copy_logprobs(folder, run, "x", dry_run=False) == 1
    assert texts_of(run) == {**expected, "d": "grown"}
    with LogprobStore(folder, "part-1-of-1") as store:
        store.append("e", "slot", record_of("at last"))
    assert copy_logprobs(folder, run, "x", dry_run=False) == 1
    assert texts_of(run) == {**expected, "d": "grown", "e": "at last"}
    assert copy_logprobs(folder, run, "x", dry_run=False) == 0
    assert not list((run.folder / "logprobs").glob("*.part"))


def test_a_spool_that_was_emptied_since_keeps_what_was_in_it(tmp_path: Path) -> None:
    folder, run = tmp_path / "logprobs", Run(tmp_path / "run")
    killed_store(folder, {"a": "first"})
    copy_logprobs(folder, run, "x", dry_run=False)
    (folder / "part-1-of-1.spool").write_bytes(b"")
    copy_logprobs(folder, run, "x", dry_run=False)
    killed_store(folder, {"b": "second"})
    copy_logprobs(folder, run, "x", dry_run=False)
    assert texts_of(run) == {"a": "first", "b": "second"}


def test_a_spool_that_is_converted_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = tmp_path / "logprobs", Run(tmp_path / "run")
    killed_store(folder, {"a": "rotated"})
    rotated = (folder / "part-1-of-1.spool").rename(folder / "part-1-of-1.00001.spool")
    real = shutil.copyfile

    def overtaken(original: Path, copy: Path) -> object:
        if rotated.exists():
            logprob_store._convert(rotated)
        return real(original, copy)

    monkeypatch.setattr(shutil, "copyfile", overtaken)
    assert copy_logprobs(folder, run, "x", dry_run=False) == 1
    assert texts_of(run) == {"a": "rotated"}
    assert [path.suffix for path in (run.folder / "logprobs").iterdir()] == [".parquet"]
