"""A GGUF student is trained with the tokens that llama.cpp serves it with."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_student import CHATML, save_tiny_student, tiny_tokenizer

from r1distill.errors import InputError
from r1distill.objectives.students import load_model, load_tokenizer, locate, materialise, position_limit
from r1distill.show import Show
from r1distill.teachers.embedded import embedded_server

TEXTS = [
    "7 * 18 = 126\n</think>\n\nThe answer is 126.",
    "a =  5",
    "</think>\n\n5",
    "x  12  13\n\n\n4 5",
    "12,345 dollars",
    "١٢ ２３",
]


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"model_type": "gemma3", "text_config": {"max_position_embeddings": 131072}}, 131072),
        ({"model_type": "mamba"}, 1 << 30),
    ],
)
def test_the_limit_of_positions_may_stand_in_the_text_config(
    tmp_path: Path, config: dict[str, Any], limit: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert position_limit(tmp_path) == limit


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from r1distill.exports.gguf_model import write_gguf

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_student(folder / "base")
    write_gguf(folder / "base", tiny_tokenizer(), CHATML, folder / "good.gguf", "f16", "tiny")
    return folder


@pytest.mark.train
@pytest.mark.parametrize(
    "broken",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:3000],
        lambda whole: b"",
        lambda whole: b"GGUX" + whole[4:],
        lambda whole: whole[:8] + struct.pack("<Q", 10**6) + whole[16:],  # so many tensors there are not
        lambda whole: whole[:8] + struct.pack("<Q", 25) + whole[16:],
        lambda whole: whole[:16] + struct.pack("<Q", 2**62) + whole[24:],
    ],
    ids=["cut", "cut in its header", "empty", "no GGUF", "tensors", "some more tensors", "keys"],
)
def test_a_damaged_gguf_is_said_to_be_damaged(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("R1DISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(broken((tiny / "good.gguf").read_bytes()))
    student = locate("bad.gguf", tmp_path)
    assert student is not None
    with pytest.raises(
        InputError, match=r"bad\.gguf can't be read: it is damaged or cut \(.*\); get it again"
    ):
        materialise(student, Show(0))


@pytest.mark.train
def test_a_gguf_of_an_unknown_architecture(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1DISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "odd.gguf").write_bytes((tiny / "good.gguf").read_bytes().replace(b"llama", b"lxama"))
    student = locate("odd.gguf", tmp_path)
    assert student is not None
    with pytest.raises(InputError, match=r"transformers can't read the GGUF file .*lxama"):
        materialise(student, Show(0))


@pytest.mark.train
def test_weights_of_other_shapes_than_the_configuration(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny / "base", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": 128}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"its config\.json says other shapes than its weights have"):
        load_model(folder)


@pytest.mark.embedded
@pytest.mark.train
def test_the_embedded_student_is_trained_on_the_tokens_it_is_served_with(tmp_path: Path) -> None:
    student = locate("embedded", tmp_path)
    assert student is not None
    tokenizer = load_tokenizer(materialise(student, Show(0)))
    trained = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    how = {"adapter": None, "threads": 1, "parallel": 1, "context_tokens": 256, "log": tmp_path / "log"}
    with embedded_server(student.path, **how) as endpoint:
        place, key = endpoint.base_url.removesuffix("/v1"), {"Authorization": f"Bearer {endpoint.key}"}
        served = [
            httpx.post(
                f"{place}/tokenize",
                json={"content": text, "add_special": False},
                headers=key,
                trust_env=False,
            ).json()["tokens"]
            for text in TEXTS
        ]
    assert trained == served
