"""What an endpoint says of files and batches, in either spelling -> ids and a BatchState. Pure: bytes in, values out.

OpenAI: https://platform.openai.com/docs/api-reference/batch/object. Together (package together 3.1.1, types/batch_job.py):
statuses in capitals, `progress` in percent instead of counts, one `error` text, {"job": ...} around a new batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from r1distill.teachers.refusals import Action, Refusal, refusal
from r1distill.teachers.replies import decode_json

SPELLINGS = {"canceled": "cancelled"}


class BatchState(NamedTuple):
    """What an endpoint says of a batch."""

    batch_id: str
    status: str
    """In OpenAI's words, lower case: validating, failed, in_progress, finalizing, completed, expired, cancelling, cancelled."""
    done: int
    failed: int
    output_id: str | None
    errors_id: str | None
    message: str
    """Why it failed, scrubbed; else ""."""
    percent: float | None = None
    """How far it is, where the endpoint says only that (Together)."""


def read_state(data: dict[str, Any]) -> BatchState:
    """The state of a batch from OpenAI's object, or from Together's. Raises Refusal for what is no batch."""
    inner = data.get("job")
    data = inner if isinstance(inner, dict) else data
    status = str(data.get("status") or "validating").lower()
    counts = data.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    return BatchState(
        id_of(data), SPELLINGS.get(status, status), _count(counts.get("completed")), _count(counts.get("failed")),
        _file(data.get("output_file_id")), _file(data.get("error_file_id")), _reason(data), _percent(data.get("progress")),
    )  # fmt: skip


def _percent(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 100 else None


def _reason(data: dict[str, Any]) -> str:
    """Why a batch failed: its first validation errors with their line, or its one error."""
    errors = data.get("errors")
    rows = errors.get("data") if isinstance(errors, dict) else errors
    told = [
        f"line {row['line']}: {row.get('message')}"
        if row.get("line") is not None
        else str(row.get("message"))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]
    more = f" (and {len(told) - 3} more)" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more if told else str(data.get("error") or "")


def decoded(body: bytes) -> Any:
    """The JSON of an answer. Raises Refusal."""
    try:
        return decode_json(body)
    except ValueError:
        raise Refusal(
            Action.RETRY, "malformed", f"The reply is no JSON: {body[:80].decode('utf-8', 'replace')}"
        ) from None


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises Refusal for anything else, and for an error under a good status."""
    data = decoded(body)
    if not isinstance(data, dict) or (data.get("error") and not data.get("id") and "job" not in data):
        raise refusal(500, data)
    return data


def id_of(data: dict[str, Any]) -> str:
    """The id of a file or batch. Raises Refusal when there is none."""
    found = data.get("id")
    if not isinstance(found, str) or not found:
        raise Refusal(Action.RETRY, "malformed", "The reply names no id")
    return found


def _file(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0
