"""A GGUF student is trained with the tokens that llama.cpp serves it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from r1distill.objectives.students import load_tokenizer, locate, materialise, position_limit
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
