"""Plain trace files: JSONL in our own shape, or rows with a question, an answer with its reasoning, and maybe a reference.

In: files. Out: traces with their problems, and where each line stands. A line that can't be read is noted with its
reason, never fatal and never silent. Ids come from the content: trace id = digest of the line and how often it
stood before, problem id = digest of the question.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from r1distill.errors import InputError
from r1distill.measure import Place, Source
from r1distill.records import FINISHES, AnswerKind, Finish, Message, Prompt, Trace, digest, prompt_id_of
from r1distill.teachers.replies import usage_of
from r1distill.thinking import split_thinking

QUESTION = ("question", "problem", "instruction", "query", "prompt")
REPLY = ("response", "completion", "output", "generation", "text")
REASONING = ("reasoning", "reasoning_content", "thinking", "thought")
FINISH = ("finish", "finish_reason", "stop_reason")
REFERENCE = ("reference", "ground_truth", "expected_answer", "gold_answer")
OWN = {"id", "slot", "prompt_id", "messages", "reasoning", "answer", "finish"}
"""Fields that only our own traces have all of."""
CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
"""A longer line is no trace."""


class TraceFiles:
    """Several files read as one set; after `sources` was read through, the problems and skipped lines are known."""

    def __init__(self, files: list[Path], answer_kind: AnswerKind) -> None:
        self.files, self.answer_kind = files, answer_kind
        self.lines = 0
        """Lines of all files, once `fingerprints` has read them."""
        self.prompts: list[Prompt] = []
        self.asked: list[list[Message]] = []
        """For each problem the messages that a student is asked with when no template says otherwise."""
        self.questions: set[str] = set()
        self.skipped: list[dict[str, Any]] = []
        self._seen_fields: Counter[str] = Counter()
        self._number: dict[str, int] = {}
        self._saved = {p.id: p for path in files for p in _sibling_prompts(path)}

    def fingerprints(self) -> list[dict[str, Any]]:
        """Path, size in bytes and SHA-256 of each file. Raises InputError for one that can't be read."""
        found = []
        for path in self.files:
            try:
                sha256, size = hashlib.sha256(), 0
                with path.open("rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        sha256.update(chunk)
                        size += len(chunk)
                        self.lines += chunk.count(b"\n")
                found.append({"path": str(path.resolve()), "bytes": size, "sha256": sha256.hexdigest()})
            except OSError as error:
                raise InputError(f"{path} can't be read: {error.strerror or error}.") from None
        return found

    def sources(self) -> Iterator[Source]:
        """All readable traces, in the order of the files. Raises InputError when there is none."""
        times: Counter[bytes] = Counter()
        samples: Counter[str] = Counter()
        for number, path in enumerate(self.files):
            for line_number, offset, line in _lines(path):
                row = self._read(line, path, line_number)
                if row is None:
                    continue
                prompt, trace, asked = row
                key = hashlib.sha256(line).digest()
                trace_id = digest({"line": key.hex(), "repeat": times[key]})
                times[key] += 1
                order = self._order(prompt, asked)
                trace = msgspec.structs.replace(
                    trace, id=trace_id, prompt_id=prompt.id, sample=samples[prompt.id]
                )
                samples[prompt.id] += 1
                place = Place(number, offset, len(line))
                yield Source(order, self.prompts[order], trace, place, key.hex())
        if not self.prompts:
            raise InputError(self._no_trace_sentence())

    def _order(self, prompt: Prompt, asked: list[Message]) -> int:
        key = digest(
            [prompt.id, prompt.question, prompt.answer, prompt.answer_kind, prompt.tests, prompt.tags]
        )
        if key not in self._number:
            self._number[key] = len(self.prompts)
            self.prompts.append(prompt)
            self.asked.append(asked)
            self.questions.add(prompt.id)
        return self._number[key]

    def _read(self, line: bytes, path: Path, number: int) -> tuple[Prompt, Trace, list[Message]] | None:
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
            row = msgspec.json.decode(line)
            if not isinstance(row, dict):
                raise ValueError(f"the line is no JSON object but {type(row).__name__}")
            self._seen_fields.update(row.keys())
            return self._own(row) if row.keys() >= OWN else _foreign(row, self.answer_kind)
        except (ValueError, RecursionError) as error:
            text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            self.skipped.append({"file": str(path), "line": number, "reason": text})
            return None

    def _own(self, row: dict[str, Any]) -> tuple[Prompt, Trace, list[Message]]:
        """A trace as we write it; its problem from the run folder that the file lies in, else from its messages."""
        trace = msgspec.convert(row, Trace)
        asked = [m for m in trace.messages if m.role == "system"] + [
            m for m in trace.messages if m.role == "user"
        ][-1:]
        question = asked[-1].content if asked else ""
        prompt = self._saved.get(trace.prompt_id) or Prompt(
            trace.prompt_id, question, _reference(row, REFERENCE), _kind(row, self.answer_kind)
        )
        return prompt, trace, asked

    def trace_of(self, line: bytes) -> Trace:
        """The trace of a line that was readable before."""
        row = msgspec.json.decode(line)
        return (self._own(row) if row.keys() >= OWN else _foreign(row, self.answer_kind))[1]

    def notes(self) -> list[str]:
        """A sentence about skipped lines, if there are any."""
        if not self.skipped:
            return []
        first = self.skipped[0]
        return [
            f"{len(self.skipped):,} lines can't be read as traces and are listed in skipped.jsonl; "
            f"the first is {first['file']}:{first['line']} ({first['reason']})."
        ]

    def _no_trace_sentence(self) -> str:
        names = ", ".join(str(path) for path in self.files)
        fields = ", ".join(name for name, _ in self._seen_fields.most_common(20)) or "no JSON object at all"
        reason = f" (line {self.skipped[0]['line']}: {self.skipped[0]['reason']})" if self.skipped else ""
        return (
            f"No trace can be read from {names}{reason}; the fields seen are: {fields}. A row needs a question "
            f"({', '.join(QUESTION)} or messages) and an answer ({', '.join(REPLY)}, or reasoning and answer)."
        )


def _foreign(row: dict[str, Any], kind: AnswerKind) -> tuple[Prompt, Trace, list[Message]]:
    """A row that is not ours. Raises ValueError naming what is missing."""
    asked, question = _asked(row)
    reasoning, answer, source = _reply(row)
    had_reply = _has_reply(row)
    reference = _reference(row, (*REFERENCE, "answer") if had_reply else REFERENCE)
    prompt = Prompt(prompt_id_of(question), question, reference, _kind(row, kind))
    teacher = _text(row, ("teacher", "model", "generator")) or "unknown"
    trace = Trace(
        id="", slot="", prompt_id=prompt.id, sample=0, teacher=teacher, model=teacher, messages=asked, reasoning=reasoning,
        answer=answer, finish=_finish(row), usage=usage_of(row.get("usage")), reasoning_source=source,
    )  # fmt: skip
    return prompt, trace, asked


def _asked(row: dict[str, Any]) -> tuple[list[Message], str]:
    """(the messages to ask, the question): from a question field, else from the messages before the last answer."""
    question = _text(row, QUESTION)
    if question is not None:
        return [Message("user", question)], question
    for name in ("messages", "prompt", "conversations"):
        said = _messages(row.get(name))
        asked = said[:-1] if said and said[-1].role == "assistant" else said
        users = [m for m in asked if m.role == "user"]
        if users:
            return [*(m for m in asked if m.role == "system"), users[-1]], users[-1].content
    raise ValueError(f"no question (none of {', '.join(QUESTION)}, messages)")


def _reply(row: dict[str, Any]) -> tuple[str, str, str]:
    """(reasoning, answer, where the reasoning stood)."""
    apart = _text(row, REASONING)
    text = _reply_text(row)
    if text is None:
        text = _text(row, ("answer", "content", "solution"))
        if text is None or (apart is None and "answer" in row and not _has_thinking(text)):
            raise ValueError(
                f"no answer of a teacher (none of {', '.join(REPLY)}, messages, or reasoning with answer)"
            )
    if apart is not None:
        return apart.strip(), text.strip(), "field"
    return split_thinking(text)


def _has_thinking(text: str) -> bool:
    return "</think>" in text or "<think>" in text


def _has_reply(row: dict[str, Any]) -> bool:
    return _reply_text(row) is not None


def _reply_text(row: dict[str, Any]) -> str | None:
    found = _text(row, REPLY)
    if found is not None:
        return found
    for name in ("completion", "messages", "conversations"):
        said = _messages(row.get(name))
        if said and said[-1].role == "assistant":
            return said[-1].content
    return None


def _messages(value: Any) -> list[Message]:
    """Chat messages in OpenAI's shape, or ShareGPT's (from/value); [] for anything else."""
    roles = {"human": "user", "gpt": "assistant"}
    found = []
    for item in value if isinstance(value, list) else []:
        role = item.get("role", item.get("from")) if isinstance(item, dict) else None
        content = item.get("content", item.get("value")) if isinstance(item, dict) else None
        if not isinstance(role, str) or not isinstance(content, str):
            return []
        found.append(Message(roles.get(role, role), content))
    return found


def _text(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the fields that holds text (or a number), as text."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return None


def _reference(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """The right answer, None when the row has none. Raises ValueError for one that is neither text nor number."""
    for name in names:
        found = _text(row, (name,))
        if found is not None:
            return found
        if not isinstance(row.get(name), str | None):
            raise ValueError(
                f"the reference in {name!r} is neither text nor number but {type(row[name]).__name__}"
            )
    return None


def _kind(row: dict[str, Any], default: AnswerKind) -> AnswerKind:
    found = row.get("answer_kind")
    return cast(AnswerKind, found) if found in get_args(AnswerKind) else default


def _finish(row: dict[str, Any]) -> Finish:
    return FINISHES.get((_text(row, FINISH) or "").lower(), "unknown")


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number, offset, line without its newline) of every line that is not blank; the last may lack its newline."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, offset, line.rstrip(b"\n")
            offset += len(line)


def _sibling_prompts(path: Path) -> list[Prompt]:
    """The problems of the run folder that a file in traces/ belongs to; [] when there is none."""
    beside = path.resolve().parent.parent / "prompts.jsonl"
    if path.resolve().parent.name != "traces" or not beside.is_file():
        return []
    decoder = msgspec.json.Decoder(Prompt)
    return [decoder.decode(line) for _, _, line in _lines(beside)]
