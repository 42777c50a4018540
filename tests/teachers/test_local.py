"""A real checkpoint of toy size, served by `transformers serve` and asked through the client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from r1distill.teachers.client import ChatClient
from r1distill.teachers.local import local_server
from r1distill.teachers.replies import Reply


@pytest.mark.train
def test_a_checkpoint_folder_answers(tmp_path: Path) -> None:
    from tiny_student import save_tiny_student

    folder = save_tiny_student(tmp_path / "tiny")

    async def ask() -> Reply:
        async with ChatClient(endpoint, idle_timeout_s=60, total_timeout_s=60, stream=False) as client:
            body = {
                "messages": [{"role": "user", "content": "What is 12 + 7?"}],
                "max_tokens": 8,
                "temperature": 0,
            }
            return await client.ask(body)

    with local_server(folder, tmp_path / "log") as endpoint:
        reply = asyncio.run(ask())
    assert reply.finish == "length"
    assert reply.usage.completion_tokens == 8
