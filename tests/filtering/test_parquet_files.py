"""Training rows as Parquet: the same rows, loaded unchanged, in row groups of bounded size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from test_filter import World

from r1distill.errors import InputError, MissingPackageError
from r1distill.filter import filter, filter_files
from r1distill.filtering import parquet_files
from r1distill.filtering.parquet_files import COLUMNS, remove_parquet, write_parquet
from r1distill.recipe import parse_recipe

pq = pytest.importorskip("pyarrow.parquet")


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    for name in COLUMNS:
        kept = rows if name == "train" else []
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
        )


def row(number: int, text: str) -> dict[str, Any]:
    return {
        "trace_id": f"t{number}",
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "completion": [{"role": "assistant", "content": f"<think>\n{text}\n</think>\n\n\\boxed{{1}}"}],
    }


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [row(0, 'quotes " and 漢字 \U0001f600 \x00'), row(1, ""), row(2, "x" * 100_000)]
    write_rows(tmp_path, rows)
    write_parquet(tmp_path)
    assert pq.read_table(tmp_path / "train.parquet").to_pylist() == rows
    assert pq.read_table(tmp_path / "pairs.parquet").num_rows == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".jsonl", ".parquet"}
    meta = pq.ParquetFile(tmp_path / "train.parquet").metadata
    assert meta.row_group(0).column(0).compression == "ZSTD"


def test_row_groups_are_bounded_by_bytes_and_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path, [row(n, "x" * 1000) for n in range(100)])
    monkeypatch.setattr(parquet_files, "GROUP_BYTES", 20_000)
    write_parquet(tmp_path)
    found = pq.ParquetFile(tmp_path / "train.parquet").metadata
    assert (found.num_rows, found.num_row_groups) == (100, 10)
    monkeypatch.setattr(parquet_files, "GROUP_ROWS", 3)
    write_parquet(tmp_path)
    assert pq.ParquetFile(tmp_path / "train.parquet").metadata.num_row_groups == 34


def test_a_run_writes_them_on_request_and_sees_when_one_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.data["filter"]["checks"] = {"correct": {}}
    world.data["filter"]["select"] = {"parquet": True, "val_fraction": 0.5}
    names = {"a": "18", "b": "2", "c": "\\sqrt{2}", "d": "7"}
    world.harvest({k: [f"\\boxed{{{v}}}"] * 3 + ["\\boxed{5}"] for k, v in names.items()})
    folder = Path(filter(world.recipe, world.run).folder)
    for name in COLUMNS:
        assert pq.read_table(folder / f"{name}.parquet").to_pylist() == world.rows(name)
    assert filter(world.recipe, world.run).up_to_date
    (folder / "pairs.parquet").unlink()
    assert not filter(world.recipe, world.run).up_to_date
    assert (folder / "pairs.parquet").exists()
    remove_parquet(folder)
    assert not list(folder.glob("*.parquet"))


def test_files_of_others_are_neither_replaced_nor_removed(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = [
        {"question": f"q{n}", "response": "<think>so</think>\\boxed{4}", "reference": "4"} for n in range(3)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {"name": "r", "filter": {"workers": 1, "select": {"parquet": True}}}

    def run() -> None:
        filter_files([tmp_path / "t.jsonl"], tmp_path / "out", parse_recipe(data, folder=tmp_path))

    run()
    ours = {path.name for path in (tmp_path / "out").glob("*.parquet")}
    assert ours == {"train.parquet", "val.parquet", "pairs.parquet"}
    theirs = tmp_path / "out/val.parquet"
    pq.write_table(pa.table({"a": [1]}), theirs)
    data["filter"]["select"] = {"parquet": True, "seed": 1}
    with pytest.raises(InputError, match=r"val.parquet was not written by r1distill"):
        run()
    data["filter"]["select"] = {"parquet": False}
    run()
    assert {path.name for path in (tmp_path / "out").glob("*.parquet")} == {"val.parquet"}
    theirs.write_bytes(b"no parquet at all")
    remove_parquet(tmp_path / "out")
    assert theirs.exists()


def test_without_pyarrow_it_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.data["filter"]["select"] = {"parquet": True}
    world.harvest()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        MissingPackageError, match=r"filter.select.parquet .* pip install 'r1distill\[logprobs\]'"
    ):
        filter(world.recipe, world.run)
    assert not (world.run.folder / "filter").exists()


@pytest.mark.parametrize("parquet", [False, True])
def test_datasets_loads_the_folder_by_its_card(tmp_path: Path, parquet: bool) -> None:
    datasets = pytest.importorskip("datasets")
    world = World(tmp_path)
    world.data["filter"]["checks"] = {"correct": {}}
    world.data["filter"]["select"] = {"parquet": parquet, "val_fraction": 0.5}
    names = {"a": "18", "b": "2", "c": "\\sqrt{2}", "d": "7"}
    world.harvest({k: [f"\\boxed{{{v}}}"] * 3 + ["\\boxed{5}"] for k, v in names.items()})
    summary = filter(world.recipe, world.run)
    loaded = datasets.load_dataset(summary.folder, cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {
        "train": summary.train,
        "validation": summary.val,
    }
    assert [dict(one) for one in loaded["train"]] == world.rows("train")
    pairs = datasets.load_dataset(summary.folder, "pairs", cache_dir=str(tmp_path / "cache"))["train"]
    assert [dict(one) for one in pairs] == world.rows("pairs")
    roles = {"role": "string", "content": "string"}
    for table, columns in (
        (loaded["train"], ("prompt", "completion")),
        (pairs, ("prompt", "chosen", "rejected")),
    ):
        found = {name: {k: v.dtype for k, v in table.features[name].feature.items()} for name in columns}
        assert found == dict.fromkeys(columns, roles)  # TRL's conversational form
