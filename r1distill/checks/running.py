"""Running the code of answers: the bridge between answers/code.py, the sandbox and the workers.

In: an answer text, the problem's tests, the consent (a CodeRun). Out: a Grade, or the Job that makes one. A module of its own,
since a worker that runs programs needs no computer algebra.
"""

from __future__ import annotations

from typing import Any

import msgspec

from r1distill.answers import Grade
from r1distill.answers.code import MAX_CHARS, NO_BLOCK, NO_TESTS, NOT_RUN, find_program, run_tests
from r1distill.answers.code_tests import read_tests
from r1distill.checks.base import Job, Value
from r1distill.sandbox import Box, Limits

CODE_TIMEOUT_S, CODE_TOTAL_S, CODE_MEMORY_MB = 6.0, 60.0, 1024
"""CPU seconds for one test and for all tests of an answer's program, and its memory."""
BACKSTOP_S = 10.0
"""CPU seconds at least for a worker that only waits for programs."""


class CodeRun(msgspec.Struct, frozen=True):
    """The consent to run code, and how."""

    box: Box
    limits: Limits = Limits(CODE_TIMEOUT_S, CODE_MEMORY_MB)
    total_s: float = CODE_TOTAL_S


def begin_code(answer_text: str, tests: Any, code: CodeRun | None) -> Grade | Job:
    """The job that runs the answer's program, or a grade where nothing is to be run (never without `code`)."""
    if code is None:
        return Grade("error", note=NOT_RUN)
    if tests is None or tests in ("", [], {}):
        return Grade("unreadable_reference", note=NO_TESTS)
    source = find_program(answer_text)
    if source is None or not source.strip():
        return Grade("no_answer", note=NO_BLOCK)
    if len(source) > MAX_CHARS:
        return Grade("error", note=f"code longer than {MAX_CHARS} characters")
    args = (source, tests, msgspec.to_builtins(code))
    return Job(
        "r1distill.checks.running:run_in_worker", args, {"how": "fenced"}, max(code.total_s, BACKSTOP_S)
    )


def run_in_worker(source: str, tests: Any, code: Any) -> Value:
    """Runs in a worker: the Grade of a program as a dict. Raises SandboxError, which makes the trace UNJUDGED."""
    how = msgspec.convert(code, CodeRun)
    found, fault = read_tests(tests)
    if fault or not found:
        grade = Grade("unreadable_reference", note=fault or NO_TESTS)
    else:
        grade = run_tests(source, found, how.box, how.limits, how.total_s)
    value: Value = msgspec.to_builtins(grade)
    return value
