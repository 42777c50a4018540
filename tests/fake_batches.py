"""An endpoint with files and batches: a real HTTP server on a free port of 127.0.0.1, in threads of its own.

    with FakeBatches() as server:             # or together=True: capitals, {"job"}, bare lists, uploads by a storage host
        ...                                   # server.base_url, server.requests, server.batches
        server.run(answers)                   # work on all open batches: answers(request line) -> a result, or None

It checks what OpenAI checks of a request file (unique custom_ids of 64 characters at most, one model, lines, endpoint).
`hold` stops the answer to the next request that fits, before or after it was worked on; `fail` answers the next ones so.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOLD_S = 20.0
Line = dict[str, Any]


@dataclass
class Hold:
    """A request that is kept waiting."""

    method: str
    part: str
    """In its path."""
    after: bool
    """True: it was worked on, only the answer is missing."""
    seen: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    skip: int = 0
    """So many that fit pass first."""


@dataclass
class FakeBatches:
    """The server; use as a context manager."""

    together: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers in lower case) of all requests."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    fails: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    forgets_metadata: bool = False
    page: int = 100
    redirect_downloads: bool = False

    def __enter__(self) -> FakeBatches:
        fake = self

        class Handler(_Handler):
            server_of = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self.holds:
            hold.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def count(self, method: str, path: str) -> int:
        """Requests with this method whose path ends so (without the query)."""
        return sum(m == method and urlsplit(p).path.endswith(path) for m, p, _ in self.requests)

    def hold(self, method: str, part: str, after: bool = False, skip: int = 0) -> Hold:
        """Keep the next request with this method and path waiting."""
        hold = Hold(method, part, after, skip=skip)
        self.holds.append(hold)
        return hold

    def fail(self, method: str, part: str, status: int, body: Any) -> None:
        """Answer the next such request with an error."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.fails.append((method, part, status, data))

    def lines(self, batch: dict[str, Any]) -> list[Line]:
        """The request lines of a batch."""
        return [json.loads(line) for line in self.contents[batch["input_file_id"]].splitlines()]

    def submitted(self) -> list[str]:
        """The custom_ids of all batches, in order."""
        return [line["custom_id"] for batch in self.batches.values() for line in self.lines(batch)]

    def run(self, answer: Callable[[Line], Any], end: str = "completed", seed: int = 0) -> None:
        """Work on all batches that have not ended; `answer` gives (status code, body), an error, raw bytes, or None for a
        line that is not reached (it then gets an error line as OpenAI writes it when a batch expires).
        """
        for batch in self.batches.values():
            if batch["status"].lower() in ("validating", "in_progress"):
                self._work(batch, answer, end, random.Random(seed))

    def _work(
        self, batch: dict[str, Any], answer: Callable[[Line], Any], end: str, chance: random.Random
    ) -> None:
        output, errors = [], []
        for number, line in enumerate(self.lines(batch)):
            head = {"id": f"batch_req_{number}", "custom_id": line["custom_id"]}
            result = answer(line)
            if isinstance(result, bytes):
                output.append(result)
            elif result is None:
                error = {
                    "code": f"batch_{end}",
                    "message": "This request could not be executed before the batch expired.",
                }
                errors.append(_row({**head, "response": None, "error": error}))
            elif isinstance(result, dict):
                errors.append(_row({**head, "response": None, "error": result}))
            else:
                status, body = result
                row = _row(
                    {
                        **head,
                        "response": {"status_code": status, "request_id": "r", "body": body},
                        "error": None,
                    }
                )
                (output if status == 200 else errors).append(row)
        chance.shuffle(output)
        batch["output_file_id"] = self.keep(b"".join(output), "batch_output") if output else None
        batch["error_file_id"] = self.keep(b"".join(errors), "batch_output") if errors else None
        batch["request_counts"] = {
            "total": len(output) + len(errors),
            "completed": len(output),
            "failed": len(errors),
        }
        self.set_status(batch, end)

    def set_status(self, batch: dict[str, Any], status: str) -> None:
        """In this server's spelling."""
        batch["status"] = status.upper() if self.together else status
        if self.together:
            batch.pop("request_counts", None)
            batch["progress"] = 100.0 if status == "completed" else 40.0

    def keep(self, data: bytes, purpose: str, name: str = "out.jsonl") -> str:
        """A new file."""
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = {
            "id": file_id, "object": "file", "filename": name, "purpose": purpose, "bytes": len(data), "created_at": 1,
        }  # fmt: skip
        self.contents[file_id] = data
        return file_id

    def create(self, wish: dict[str, Any]) -> tuple[int, Any]:
        """A new batch, validated as OpenAI does it."""
        if wish.get("input_file_id") not in self.files:
            return 400, {"error": {"message": "no such file", "code": "invalid_request"}}
        batch_id = f"batch_{len(self.batches)}"
        batch: dict[str, Any] = {
            "id": batch_id, "object": "batch", "endpoint": wish["endpoint"], "input_file_id": wish["input_file_id"],
            "completion_window": wish["completion_window"], "status": "validating", "output_file_id": None,
            "error_file_id": None, "errors": None, "created_at": 1,
            "metadata": None if self.forgets_metadata or self.together else wish.get("metadata"),
        }  # fmt: skip
        self.batches[batch_id] = batch
        self.set_status(batch, "validating")
        faults = self._faults(self.lines(batch), wish["endpoint"])
        if faults:
            batch["errors"] = {"object": "list", "data": faults}
            self.set_status(batch, "failed")
        return 200, {"job": batch} if self.together else batch

    def _faults(self, lines: list[Line], endpoint: str) -> list[dict[str, Any]]:
        ids = [line["custom_id"] for line in lines]
        faults = []
        for number, line in enumerate(lines, 1):
            wrong = (
                "custom_id" if len(line["custom_id"]) > 64 or ids.count(line["custom_id"]) > 1
                else "method" if line["method"] != "POST"
                else "url" if line["url"] != endpoint
                else "model" if line["body"]["model"] != lines[0]["body"]["model"]
                else None
            )  # fmt: skip
            if wrong:
                faults.append({"code": "invalid", "line": number, "message": f"bad {wrong}", "param": wrong})
        return faults


def _row(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    server_of: FakeBatches
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, else each answer takes 40 ms

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        fake = self.server_of
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with fake._lock:
            fake.requests.append((method, self.path, {k.lower(): v for k, v in self.headers.items()}))
            failing = next((f for f in fake.fails if f[0] == method and f[1] in self.path), None)
            if failing:
                fake.fails.remove(failing)
            holding = next(
                (h for h in fake.holds if h.method == method and h.part in self.path and not h.seen.is_set()),
                None,
            )
            if holding and holding.skip:
                holding.skip -= 1
                holding = None
        if failing:
            return self._say(failing[2], failing[3])
        if holding and not holding.after:
            holding.seen.set()
            holding.go.wait(HOLD_S)
            return None  # the client that asked is dead: nothing was done
        with fake._lock:
            status, answer, headers = self._answer(method, body)
        if holding:
            holding.seen.set()
            holding.go.wait(HOLD_S)
        return self._say(
            status, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), headers
        )

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _answer(self, method: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        fake = self.server_of
        parts = urlsplit(self.path)
        steps = parts.path.strip("/").split("/")[1:]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        where = f"http://127.0.0.1:{fake._server.server_address[1]}/storage"
        match (method, *steps):
            case ("POST", "files"):
                fields, data = _multipart(self.headers["content-type"], body)
                if not fake.together:
                    return 200, fake.files[fake.keep(data, fields["purpose"], fields["filename"])], {}
                file_id = fake.keep(b"", fields["purpose"], fields["file_name"])
                return 302, b"", {"Location": f"{where}/{file_id}", "X-Together-File-Id": file_id}
            case ("PUT", file_id):
                fake.contents[file_id] = body
                return 200, b"", {}
            case ("POST", "files", file_id, "preprocess"):
                return 200, fake.files[file_id], {}
            case ("GET", "files"):
                found = [f for f in fake.files.values() if query.get("purpose") in (None, f["purpose"])]
                return 200, {"data": found} if fake.together else self._page(found, query), {}
            case ("GET", "files", file_id, "content"):
                if fake.redirect_downloads:
                    return 302, b"", {"Location": f"{where}/{file_id}"}
                return 200, fake.contents[file_id], {"Content-Type": "application/octet-stream"}
            case ("GET", file_id) if file_id in fake.contents:
                return 200, fake.contents[file_id], {}
            case ("POST", "batches"):
                return *fake.create(json.loads(body)), {}
            case ("GET", "batches"):
                found = list(fake.batches.values())
                return 200, found if fake.together else self._page(found, query), {}
            case ("GET", "batches", batch_id) if batch_id in fake.batches:
                return 200, fake.batches[batch_id], {}
        return 404, {"error": {"message": f"no {self.path}", "code": None}}, {}

    def _page(self, rows: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        rows = rows[::-1]
        start = next((i + 1 for i, row in enumerate(rows) if row["id"] == query.get("after")), 0)
        size = min(int(query.get("limit", 20)), self.server_of.page)
        return {"object": "list", "data": rows[start : start + size], "has_more": start + size < len(rows)}


def _multipart(kind: str, body: bytes) -> tuple[dict[str, str], bytes]:
    """(fields with the file's name, the file's bytes) of a form."""
    boundary = kind.split("boundary=")[1].strip('"').encode()
    fields, data = {}, b""
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        names = dict(
            piece.strip().split("=", 1)
            for line in head.decode().split("\r\n")
            if line.lower().startswith("content-disposition")
            for piece in line.split(";")[1:]
        )
        name, content = names["name"].strip('"'), content.removesuffix(b"\r\n")
        if "filename" in names:
            fields["filename"], data = names["filename"].strip('"'), content
        else:
            fields[name] = content.decode()
    return fields, data
