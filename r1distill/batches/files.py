"""Batch files: request lines out, result lines in. No network.

Out: JSONL with one request a line, {"custom_id", "method", "url", "body"} as OpenAI, Azure, Groq, Together, DashScope and
`vllm run-batch` read it, or Mistral's two keys {"custom_id", "body"}. A file is ended at so many lines or bytes.
In: {"custom_id", "response": {"status_code", "body"}, "error"} in any order, from an output or an error file.
Sources: https://platform.openai.com/docs/guides/batch, https://docs.mistral.ai/capabilities/batch,
https://docs.together.ai/docs/batch-inference, https://docs.vllm.ai (Offline Inference with the OpenAI Batch file format).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

from r1distill.asking.owed import Wanted
from r1distill.batches.ledger import Item
from r1distill.errors import InputError
from r1distill.ledger import storage_errors
from r1distill.records import trace_id_of
from r1distill.teachers.refusals import Action, Refusal, refusal, status_of
from r1distill.teachers.replies import Reply, decode_json, reply_of

Style = Literal["openai", "mistral"]
URL = "/v1/chat/completions"
NEVER_ASKED = frozenset({"batch_expired", "batch_cancelled", "batch_canceled"})
"""Error codes of lines that the provider did not get to: nothing was asked or paid."""
LONGEST_LINE_BYTES = 1 << 28
"""A longer line of a result file is passed over instead of being taken into memory."""


class Limits(NamedTuple):
    """How large a request file may get."""

    lines: int = 50_000
    size_bytes: int = 200_000_000


class Part(NamedTuple):
    """One request file that was written (or would be)."""

    name: str
    teacher: str
    lines: int
    size_bytes: int
    worst_usd: float | None


class RequestFiles:
    """The requests of one teacher, in as many files as the limits ask for: NAME.jsonl and NAME.items.jsonl.

    Without a folder nothing is written, only counted. A file gets its name when it is whole and on disk.
    """

    def __init__(
        self,
        folder: Path | None,
        teacher: str,
        style: Style,
        limits: Limits,
        salt: Callable[[], str] = lambda: "",
    ) -> None:
        self.folder, self.teacher, self.style, self.limits, self.salt = folder, teacher, style, limits, salt
        self.parts: list[Part] = []
        self._start()

    def _start(self) -> None:
        self._lines, self._size_bytes, self._worst_usd = 0, 0, 0.0
        self._unpriced, self._ids = False, hashlib.sha256()
        self._open: tuple[IO[bytes], IO[bytes]] | None = None

    def add(self, item: Wanted, body: bytes, worst_usd: float | None) -> None:
        """Append the request for one wanted answer. Raises InputError for one too large for any file, StorageError."""
        what = Item(
            trace_id_of(item.slot, item.max_tokens),
            item.slot,
            item.prompt_id,
            item.sample,
            item.model,
            item.sampling,
        )
        line = request_line(what.id, body, self.style)
        if len(line) > self.limits.size_bytes:
            raise InputError(
                f"The request for problem {item.prompt_id} has {len(line):,} bytes, more than a batch file may have "
                f"({self.limits.size_bytes:,}); leave the problem out."
            )
        if self._lines >= self.limits.lines or self._size_bytes + len(line) > self.limits.size_bytes:
            self.finish()
        self._write(line, msgspec.json.encode(what) + b"\n")
        self._lines, self._size_bytes = self._lines + 1, self._size_bytes + len(line)
        self._worst_usd += worst_usd or 0.0
        self._unpriced |= worst_usd is None
        self._ids.update(what.id.encode())

    def _write(self, line: bytes, what: bytes) -> None:
        if self.folder is None:
            return
        with storage_errors(self.folder):
            if self._open is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                requests, items = self._unfinished()
                self._open = requests.open("wb"), items.open("wb")
            self._open[0].write(line)
            self._open[1].write(what)

    def _unfinished(self) -> tuple[Path, Path]:
        assert self.folder is not None
        stem = f"{self.teacher}-{os.getpid()}"
        return self.folder / f"{stem}.jsonl.part", self.folder / f"{stem}.items.jsonl.part"

    def finish(self) -> list[Part]:
        """End the file at hand, if there is one; all files so far. Raises StorageError."""
        if self._lines:
            self._ids.update(f"{self.style} {self.salt()}".encode())
            name = f"{self.teacher}-{self._ids.hexdigest()[:16]}"
            self._keep(name)
            worst = None if self._unpriced else self._worst_usd
            self.parts.append(Part(name, self.teacher, self._lines, self._size_bytes, worst))
            self._start()
        return self.parts

    def _keep(self, name: str) -> None:
        if self._open is None or self.folder is None:
            return
        requests, items = self._unfinished()
        with storage_errors(self.folder):
            for file in self._open:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            # The items last: a request file without them is never taken for a whole batch.
            requests.replace(self.folder / f"{name}.jsonl")
            items.replace(self.folder / f"{name}.items.jsonl")
            folder = os.open(self.folder, os.O_RDONLY)  # the names too must be there after a power loss
            os.fsync(folder)
            os.close(folder)

    def drop(self) -> None:
        """Remove all files that were written here, also the unfinished one."""
        if self.folder is not None:
            for file in self._open or ():
                file.close()
            for path in self._unfinished():
                path.unlink(missing_ok=True)
            drop_parts(self.folder, self.parts)


def drop_parts(folder: Path, parts: Iterable[Part]) -> None:
    """Remove request files that will not be used."""
    for part in parts:
        for end in (".items.jsonl", ".jsonl"):
            (folder / f"{part.name}{end}").unlink(missing_ok=True)


def request_line(custom_id: str, body: bytes, style: Style) -> bytes:
    """One line of a request file, newline included; `body` is JSON."""
    line: dict[str, Any] = {"custom_id": custom_id}
    if style == "openai":
        line |= {"method": "POST", "url": URL}
    return msgspec.json.encode({**line, "body": msgspec.Raw(body)}) + b"\n"


class Result(NamedTuple):
    """One line of a result file."""

    place: str
    """FILE: line N"""
    custom_id: str | None
    """None: the line is torn or no result at all."""
    reply: Reply | None = None
    refused: Refusal | None = None


def read_results(path: Path) -> Iterator[Result]:
    """Every line of a result file, also a last one without newline. Raises InputError when there is no such file."""
    for number, line in _numbered(path):
        yield parse_result(line, f"{path}: line {number}")


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}.") from None
    with file:
        yield from ((number, line) for number, line in enumerate(_lines(file), 1) if line.strip())


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; of one that is too long only its first byte is given, which is no JSON."""
    while line := file.readline(LONGEST_LINE_BYTES):
        whole = line.endswith(b"\n") or len(line) < LONGEST_LINE_BYTES
        yield line if whole else b"{"
        while not whole:
            rest = file.readline(LONGEST_LINE_BYTES)
            whole = not rest or rest.endswith(b"\n")


class _IdOnly(msgspec.Struct):
    custom_id: str


def result_ids(path: Path) -> Iterator[str]:
    """The custom_ids of a result file, for a first look; lines without one are passed over. Raises InputError."""
    decoder = msgspec.json.Decoder(_IdOnly)
    for _, line in _numbered(path):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield decoder.decode(line).custom_id


def parse_result(line: bytes, place: str) -> Result:
    """What one line says; a line that can't be read has no custom_id."""
    data: Any = None
    with suppress(ValueError):
        data = decode_json(line)
    custom_id = data.get("custom_id") if isinstance(data, dict) else None
    if not isinstance(custom_id, str):
        return Result(place, None)
    try:
        return Result(place, custom_id, reply=_reply(data))
    except Refusal as refused:
        return Result(place, custom_id, refused=refused)


def _reply(data: dict[str, Any]) -> Reply:
    """The answer in a result line. Raises Refusal."""
    response, error = data.get("response"), data.get("error")
    body = _body(data)
    said = response.get("status_code") if isinstance(response, dict) else None
    status = said if isinstance(said, int) and 100 <= said < 600 else 0
    has_answer = isinstance(body, dict) and bool(body.get("choices"))
    if status >= 400 or (error and not has_answer):
        raise _refusal(status, error or body)
    return reply_of(body)


def _body(data: dict[str, Any]) -> Any:
    """The chat completion of a line: in response.body; some write it as response, or as body."""
    response = data.get("response")
    for body in (response.get("body") if isinstance(response, dict) else None, response, data.get("body")):
        if isinstance(body, dict) and ("choices" in body or body.get("error")):
            return body
    return response.get("body") if isinstance(response, dict) else None


def _refusal(status: int, error: Any) -> Refusal:
    """What an error line means, by the table of refusals."""
    inner = error.get("error") if isinstance(error, dict) and error.get("error") else error
    code = inner.get("code") if isinstance(inner, dict) else None
    if isinstance(inner, dict) and isinstance(code, str) and code in NEVER_ASKED:
        return Refusal(Action.RETRY, code, str(inner.get("message") or code), status or None)
    body = {"error": inner} if inner else {"message": "no reason given"}
    return refusal(status if status >= 400 else status_of(inner), body)
