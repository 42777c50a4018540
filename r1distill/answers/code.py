"""Grading programs: the code of an answer is run against the problem's tests, in a sandbox (r1distill.sandbox).

Taken is the last closed fenced block that says it is Python (python, python3, py), else the last one that names no language.
A program passes a test when

- (input and output) it prints what is expected: line by line, white space between and around words does not count, nor do
  empty lines at both ends; two words that are numbers, one of them with a point or an exponent, may differ by 1e-6, absolute
  or relative; all other words have to be the same;
- (a function) the call returns the value: tuples are lists, numbers as above where one is no integer;
- (assertions) they raise nothing. Tricks can meet them: an object that says it equals everything, or a program that looks at
  the assertions. No other kind of test shows a program what is expected.

A program that ends with an exit status other than 0 passes no test, whatever it printed. All tests have to pass; the first
that does not ends the grading. A program that runs out of its time, memory or output fails like one that is wrong; when
nobody is to blame (a package that is missing, too many tests for the time in all) nobody can tell. Nothing runs without the
caller's consent: `grade_exact` alone never runs anything.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any

from r1distill.answers.code_tests import CodeTest
from r1distill.answers.outcome import Grade, shown
from r1distill.errors import R1DistillError
from r1distill.sandbox import Box, Limits, Program, Ran, execute

NOT_RUN = "code is not run: to run it in a sandbox, add --set filter.checks.correct.allow_exec=true"
NO_TESTS = "no tests"
BAD_TESTS = "tests: "
"""How the reasons begin when there are tests that can't be read: as good as none."""
NO_BLOCK = "no code block"
NO_PACKAGE = "a package that is not here"
"""Programs find the standard library only."""
IN_ALL = "tests take too long in all"
MAX_CHARS = 200_000
"""Longer programs are not run."""
LANGUAGES = ("python", "python3", "py", "py3")
FENCE = re.compile(r"([ \t]{0,32})(`{3,100}|~{3,100})[ \t]{0,8}([^\s`{]{0,40})[^`\n]{0,200}")
NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
TOLERANCE = 1e-6


class SandboxError(R1DistillError):
    """The sandbox, which worked before, did not start a program: nobody's answer is to blame."""


def grade_exact(reference: str, answer_text: str, tests: Any = None) -> Grade:
    """Without running it nobody can tell."""
    return Grade("error", note=NOT_RUN)


def find_program(answer_text: str) -> str | None:
    """The Python program of an answer text; None when it holds none."""
    plain = None
    for language, content in reversed(_blocks(answer_text)):
        if language in LANGUAGES:
            return content
        if not language and plain is None:
            plain = content
    return plain


def _blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every closed fenced block, in one pass over the lines."""
    found: list[tuple[str, str]] = []
    fence, indent, language, inside = "", "", "", list[str]()
    for line in text.split("\n"):
        mark = FENCE.fullmatch(line.rstrip())
        if (
            fence
            and mark
            and mark[2][0] == fence[0]
            and len(mark[2]) >= len(fence)
            and mark[2] == line.strip()
        ):
            found.append((language, "\n".join(inside)))
            fence = ""
        elif fence:
            inside.append(line.removeprefix(indent).rstrip("\r"))
        elif mark:
            indent, fence, language, inside = mark[1], mark[2], mark[3].lower(), []
    return found


def run_tests(source: str, tests: list[CodeTest], box: Box, limits: Limits, total_s: float) -> Grade:
    """The grade of a program by all its tests, at most `total_s` CPU seconds (and three times as many, and five, on the
    clock) in all. Raises SandboxError.
    """
    left_s, end = total_s, time.monotonic() + total_s * 3 + 5
    for number, test in enumerate(tests, start=1):
        wall_s = end - time.monotonic()
        if min(left_s, wall_s) <= 0:
            return _grade(source, "timeout", IN_ALL)
        ran = _run(source, test, box, limits, wall_s)
        left_s -= ran.cpu_s
        if ran.stop == "timeout" and time.monotonic() > end:
            return _grade(source, "timeout", IN_ALL)
        if ran.error == "ModuleNotFoundError":
            return _grade(source, "error", NO_PACKAGE)
        fault = fault_of(test, ran, number)
        if fault:
            return _grade(source, "wrong", fault)
    return _grade(source, "right", "")


def _run(source: str, test: CodeTest, box: Box, limits: Limits, max_wall_s: float) -> Ran:
    program = Program(source, test.kind, test.stdin, test.name, test.args, test.before, test.after)
    try:
        ran = execute(box, program, limits.expecting(len(test.expected)), max_wall_s)
    except OSError as error:
        raise SandboxError(f"A program can't be started: {error.strerror or error}.") from None
    if ran.stop == "no start":
        raise SandboxError("The sandbox does not start.")
    return ran


def _grade(source: str, outcome: Any, note: str) -> Grade:
    return Grade(outcome, shown(source.strip()), "fenced", None, note)


def fault_of(test: CodeTest, ran: Ran, number: int) -> str:
    """Why a program does not pass a test, in countable words; "" when it does."""
    if ran.stop:
        return ran.stop
    if ran.error and ran.error != "AssertionError":
        return f"error: {ran.error}"
    if test.kind == "stdin":
        passes = same_output(test.expected, ran.output.decode("utf-8", "replace"))
    elif test.kind == "call":
        passes = ran.value is not None and same_result(test.wanted, ran.value[0])
    else:
        passes = ran.done
    return "" if passes else f"test {number} fails"


def same_output(expected: str, given: str) -> bool:
    """Whether a program printed what was expected."""
    wanted, found = expected.strip().split("\n"), given.strip().split("\n")
    if len(wanted) != len(found):
        return False
    return all(_same_line(a.split(), b.split()) for a, b in zip(wanted, found, strict=True))


def _same_line(wanted: list[str], given: list[str]) -> bool:
    return len(wanted) == len(given) and all(
        a == b or _near(a, b) for a, b in zip(wanted, given, strict=True)
    )


def _near(wanted: str, given: str) -> bool:
    """Two numbers, one of them no integer, that are as good as equal."""
    if not (NUMBER.fullmatch(wanted) and NUMBER.fullmatch(given)):
        return False
    if wanted.lstrip("+-").isdigit() and given.lstrip("+-").isdigit():
        return False
    return math.isclose(float(wanted), float(given), rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def same_result(wanted: Any, given: Any) -> bool:
    """Whether a call returned the value; data sets write it as it is or in a list of one."""
    try:
        in_list = isinstance(wanted, list) and len(wanted) == 1
        return same_value(wanted, given) or (in_list and same_value(wanted[0], given))
    except RecursionError:
        return False


def same_value(wanted: Any, given: Any) -> bool:
    """Whether two JSON values are the same, but for the last digits of a fraction."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        return wanted.keys() == given.keys() and all(same_value(wanted[key], given[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(given, list):
        return len(wanted) == len(given) and all(same_value(a, b) for a, b in zip(wanted, given, strict=True))
    if isinstance(wanted, bool) or isinstance(given, bool):
        return wanted is given
    if isinstance(wanted, int) and isinstance(given, int):
        return wanted == given
    if isinstance(wanted, int | float) and isinstance(given, int | float):
        return _close(wanted, given)
    return type(wanted) is type(given) and bool(wanted == given)


def _close(wanted: float, given: float) -> bool:
    try:
        return math.isclose(wanted, given, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except OverflowError:  # an integer beyond all floats
        return False
