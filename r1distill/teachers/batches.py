"""Files and batches of an endpoint over HTTP: upload, create, ask, find again, download.

In: paths, names, ids. Out: ids and a `BatchState`; every error is a Refusal (batch_connection.py). The openai client's own
files and batches calls are used, their answers read here, since providers differ: OpenAI, Azure, Groq, DashScope
(https://platform.openai.com/docs/api-reference/batch); Together (package together 3.1.1): statuses in capitals, `progress`
in percent, {"job": ...} around a new batch, bare lists, purpose "batch-api", and an upload that is redirected to a storage
host. The key is sent to no host but the endpoint's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from r1distill.ledger import storage_errors
from r1distill.teachers.batch_connection import Connection
from r1distill.teachers.batch_state import BatchState, id_of, object_of, read_state
from r1distill.teachers.client import Endpoint
from r1distill.teachers.error_texts import place_of
from r1distill.teachers.refusals import Action, Refusal, refusal
from r1distill.teachers.retry import Sleep
from r1distill.teachers.secrets import SHORTEST_SECRET, WINDOW, scrub

Kind = Literal["openai", "together"]
PURPOSES: dict[Kind, str] = {"openai": "batch", "together": "batch-api"}
PATH: Any = "/v1/chat/completions"
NAME_KEY = "r1distill"
"""The key in a batch's metadata under which our own name for it stands."""
CHUNK_BYTES = 1 << 18


class BatchClient(Connection):
    """Files and batches of one endpoint; use as an async context manager. All methods raise Refusal."""

    def __init__(self, endpoint: Endpoint, kind: Kind = "openai", *, sleep: Sleep = asyncio.sleep) -> None:
        super().__init__(endpoint, sleep)
        self.kind = kind

    async def upload(self, path: Path, name: str) -> str:
        """Upload a request file under the name NAME.jsonl; the id of the file there. Uploading costs nothing."""
        if self.kind == "together":
            return await self._tried(lambda: self._upload_by_storage(path, f"{name}.jsonl"))
        return await self._tried(lambda: self._upload(path, f"{name}.jsonl"))

    async def _upload(self, path: Path, file_name: str) -> str:
        with path.open("rb") as file:
            purpose: Any = PURPOSES[self.kind]
            said = await self._client.files.with_raw_response.create(file=(file_name, file), purpose=purpose)
        return id_of(object_of(said.content))

    async def _upload_by_storage(self, path: Path, file_name: str) -> str:
        """Together: ask for a place, put the file there (without the key), say that it is there."""
        body = {
            "purpose": PURPOSES[self.kind], "file_name": file_name, "file_type": "jsonl",
            "checksum": _sha256(path),
        }  # fmt: skip
        try:
            said = await self._client.post(
                "/files",
                cast_to=self._httpx.Response,
                body=body,
                options={"headers": {"Content-Type": "multipart/form-data"}},
            )
            return id_of(object_of(said.content))
        except self._openai.APIStatusError as error:
            known = error.body.get("file_id") if isinstance(error.body, dict) else None
            if error.status_code == 409 and isinstance(known, str):
                return known  # the same bytes are there already
            place, file_id = (
                error.response.headers.get("location"),
                error.response.headers.get("x-together-file-id"),
            )
            if error.status_code // 100 != 3 or not place or not file_id:
                raise
        size = {"Content-Length": str(path.stat().st_size)}
        put = await self._http.put(self._storage(place), content=_chunks(path), headers=size)
        if put.status_code >= 300:
            raise refusal(put.status_code, f"the storage host refused the file: {put.text[:200]}")
        await self._client.post(f"/files/{file_id}/preprocess", cast_to=self._httpx.Response)
        return str(file_id)

    def _storage(self, place: str) -> str:
        """An address for a file on another host. Raises Refusal when it would go there unencrypted."""
        here, there = urlsplit(self.endpoint.base_url), place_of(place)
        if there is None or (there.scheme != "https" and there.scheme != here.scheme):
            shown = "a place that is none" if there is None else f"{there.scheme}://{there.hostname}"
            raise Refusal(Action.STOP, "redirect", f"It wants to move a file over {shown}")
        return place

    async def find_file(self, name: str) -> str | None:
        """The id of an uploaded NAME.jsonl, or None."""

        async def look() -> str | None:
            async for row in self._pages(self._client.files.with_raw_response.list):
                if row.get("filename") == f"{name}.jsonl" and row.get("purpose") in (
                    PURPOSES[self.kind],
                    None,
                ):
                    return id_of(row)
            return None

        return await self._tried(look)

    async def create(self, name: str, file_id: str, window: str = "24h") -> BatchState:
        """Create a batch over an uploaded file. Costs money, so after a doubtful end it is looked for before asking again.

        A Refusal that may be asked again (action RETRY) leaves open whether the batch is there.
        """
        attempts = 0
        wish: Any = window

        async def attempt() -> BatchState:
            nonlocal attempts
            attempts += 1
            found = await self._look_for(name, file_id) if attempts > 1 else None
            if found is not None:
                return found
            said = await self._client.batches.with_raw_response.create(
                input_file_id=file_id, endpoint=PATH, completion_window=wish, metadata={NAME_KEY: name}
            )
            return self._state(object_of(said.content))

        try:
            return await self._tried(attempt)
        except Refusal as refused:
            if attempts > 1:
                refused.action = Action.RETRY
            raise

    async def find(self, name: str, file_id: str) -> BatchState | None:
        """The batch that was created under this name, or over this file; None when there is none."""
        return await self._tried(lambda: self._look_for(name, file_id))

    async def _look_for(self, name: str, file_id: str) -> BatchState | None:
        async for row in self._pages(self._client.batches.with_raw_response.list):
            notes = row.get("metadata")
            if (isinstance(notes, dict) and notes.get(NAME_KEY) == name) or row.get(
                "input_file_id"
            ) == file_id:
                return self._state(row)
        return None

    async def get(self, batch_id: str) -> BatchState:
        """How a batch stands."""

        async def ask() -> BatchState:
            said = await self._client.batches.with_raw_response.retrieve(batch_id)
            return self._state(object_of(said.content))

        return await self._tried(ask)

    async def download(self, file_id: str, path: Path) -> None:
        """Put a result file at `path`, whole or not at all; the key, should it be echoed, is cut out. Raises StorageError."""

        async def fetch() -> None:
            part = path.with_name(path.name + ".part")
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = part.open("wb")
            with file:
                async for line in self._lines(file_id):
                    with storage_errors(path):
                        file.write(self._hidden(line))
                with storage_errors(path):
                    file.flush()
                    os.fsync(file.fileno())
                    part.replace(path)

        await self._tried(fetch)

    async def _lines(self, file_id: str) -> AsyncIterator[bytes]:
        """The bytes of a file, cut at newlines."""
        rest = b""
        async with self._opened(file_id) as chunks:
            async for chunk in chunks:
                self.answered = True
                lines = (rest + chunk).splitlines(keepends=True)
                rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
                for line in lines:
                    yield line
        yield rest

    @asynccontextmanager
    async def _opened(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The content of a file in chunks, from the endpoint or (without the key) from where it redirects to."""
        try:
            async with self._client.files.with_streaming_response.content(file_id) as said:
                yield said.iter_bytes(CHUNK_BYTES)
                return
        except self._openai.APIStatusError as error:
            place = error.response.headers.get("location")
            if error.status_code // 100 != 3 or not place:
                raise
        async with self._http.stream("GET", self._storage(place)) as stored:
            if stored.status_code >= 300:
                raise refusal(stored.status_code, "the storage host does not give the file")
            yield stored.aiter_bytes(CHUNK_BYTES)

    def _hidden(self, line: bytes) -> bytes:
        key = self.endpoint.key.encode()
        if len(key) < max(SHORTEST_SECRET, WINDOW):
            return line
        for start in range(len(key) - WINDOW + 1):
            line = line.replace(key[start : start + WINDOW], b"[key]")
        return line

    def _state(self, data: dict[str, Any]) -> BatchState:
        state = read_state(data)
        return state._replace(message=scrub(state.message, (self.endpoint.key,)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
