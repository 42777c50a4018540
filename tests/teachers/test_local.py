"""A real checkpoint of toy size as a teacher: served by `transformers serve` and asked through the client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from r1distill.recipe import parse_recipe
from r1distill.teachers.client import ChatClient, Endpoint
from r1distill.teachers.endpoints import model_key, open_endpoint
from r1distill.teachers.replies import Reply


async def ask(endpoint: Endpoint) -> Reply:
    async with ChatClient(endpoint, idle_timeout_s=60, total_timeout_s=60, stream=False) as client:
        question = {"role": "user", "content": "What is 12 + 7?"}
        return await client.ask({"messages": [question], "max_tokens": 8, "temperature": 0})


@pytest.mark.train
def test_a_teacher_of_a_recipe_can_be_a_checkpoint_folder(tmp_path: Path) -> None:
    from tiny_student import save_tiny_student

    save_tiny_student(tmp_path / "tiny")
    teacher = {"provider": "local", "model": "tiny"}
    recipe = parse_recipe({"name": "r", "teacher": {"t": teacher}}, folder=tmp_path)
    assert model_key("t", recipe.teacher["t"], recipe).startswith("tiny@")
    with open_endpoint("t", recipe.teacher["t"], recipe, tmp_path / "log") as endpoint:
        assert (endpoint.local, endpoint.key) == (True, "none")
        reply = asyncio.run(ask(endpoint))
    assert reply.finish == "length"
    assert reply.usage.completion_tokens == 8
