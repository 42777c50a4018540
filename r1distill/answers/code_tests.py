"""The tests of a code problem, in the layouts of public data sets.

In: the problem's `tests`, as JSON values or as their text. Out: a list of CodeTest, or what is wrong with it. Known are:

- {"inputs": [...], "outputs": [...]}, with "fn_name" the arguments and results of that function (APPS, TACO:
  https://github.com/hendrycks/apps); "input" and "output" do as well (CodeContests);
- a list of {"input", "output"}, each with "fn_name" and "type" or "testtype" if it has some (SYNTHETIC-1, DeepCoder,
  LiveCodeBench: of a "functional" test each line of the input is an argument), also under "test_cases";
- a list of assert statements, also as "test_list" with "test_setup_code" and "test_imports" (MBPP);
- {"test": "def check(candidate): ...", "entry_point": name} (HumanEval).
"""

from __future__ import annotations

import ast
import json
from typing import Any, Literal

import msgspec

from r1distill.answers.normalise import nesting

MAX_NESTING = 100
UNKNOWN = "tests: layout not known"
READ_ERRORS = (ValueError, SyntaxError, RecursionError, MemoryError)


class CodeTest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One test: what goes in, and what has to come out."""

    kind: Literal["stdin", "call", "assert"]
    stdin: str = ""
    expected: str = ""
    """What has to stand on standard output."""
    name: str = ""
    args: list[Any] = []
    wanted: Any = None
    """What the call has to return."""
    before: list[str] = []
    after: list[str] = []


def read_tests(tests: Any) -> tuple[list[CodeTest], str]:
    """(tests, "") or ([], what is wrong in one short clause); ([], "") where there are none."""
    try:
        value = _value(tests)
        found = [] if value is None else _by_layout(value)
    except READ_ERRORS as error:
        return [], str(error) if str(error).startswith("tests: ") else UNKNOWN
    return found, ""


def _value(tests: Any) -> Any:
    """The JSON value that a text holds, or a Python literal of it; a text with assert statements stays a text."""
    if not isinstance(tests, str):
        return tests
    if not tests.strip():
        return None
    try:
        return json.loads(tests)
    except (ValueError, RecursionError):
        if "assert" in tests and not tests.lstrip().startswith(("{", "[")):
            return [tests]
    if nesting(tests) > MAX_NESTING:
        raise ValueError("tests: nested too deeply")
    return ast.literal_eval(tests.strip())


def _by_layout(value: Any) -> list[CodeTest]:
    if isinstance(value, list):
        return [_one(item, {}) for item in value]
    if not isinstance(value, dict):
        raise ValueError(UNKNOWN)
    given = {key: item for key, item in value.items() if item is not None}
    if "test_cases" in given:
        inner = _value(given["test_cases"])
        return [_one(item, given) for item in inner] if isinstance(inner, list) else _by_layout(inner)
    if "test_list" in given:
        return _assertions(given)
    if "test" in given and "entry_point" in given:
        return [CodeTest("assert", after=[_text(given["test"]), f"check({_name(given['entry_point'])})"])]
    return _columns(given)


def _columns(given: dict[str, Any]) -> list[CodeTest]:
    """Inputs and outputs as two lists of the same length."""
    inputs, outputs = (given.get(f"{name}s", given.get(name)) for name in ("input", "output"))
    if isinstance(inputs, str) and isinstance(outputs, str):
        inputs, outputs = [inputs], [outputs]
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError(UNKNOWN)
    if len(inputs) != len(outputs):
        raise ValueError("tests: not as many outputs as inputs")
    pairs = zip(inputs, outputs, strict=True)
    return [_one({"input": given_in, "output": out}, given) for given_in, out in pairs]


def _assertions(given: dict[str, Any]) -> list[CodeTest]:
    """MBPP: each assert statement is a test of its own, behind what sets it up."""
    imports = given.get("test_imports") or []
    before = [_text(item) for item in [*imports, given.get("test_setup_code", "")] if item]
    tests = _value(given["test_list"])
    if not isinstance(tests, list):
        raise ValueError(UNKNOWN)
    return [CodeTest("assert", before=before, after=[_text(item)]) for item in tests]


def _one(item: Any, around: dict[str, Any]) -> CodeTest:
    """One test of a list."""
    if isinstance(item, str):
        return CodeTest("assert", after=[item])
    if not isinstance(item, dict) or "input" not in item or "output" not in item:
        raise ValueError(UNKNOWN)
    name = next(
        (found for place in (item, around) for key in ("fn_name", "func_name") if (found := place.get(key))),
        None,
    )
    kind = str(item.get("testtype") or item.get("type") or "")
    if name is None and kind in ("functional", "function_call"):
        raise ValueError("tests: a call without fn_name")
    if name is None or kind in ("stdin", "stdin_stdout"):
        return CodeTest("stdin", stdin=_lines(item["input"]), expected=_lines(item["output"]))
    args, wanted = _call(item["input"], item["output"], kind)
    return CodeTest("call", name=_name(name), args=args, wanted=wanted)


def _call(given: Any, output: Any, kind: str) -> tuple[list[Any], Any]:
    """(arguments, the value that has to come back)."""
    if kind == "functional" and isinstance(given, str):
        return [json.loads(line) for line in given.splitlines() if line.strip()], _json_or_text(output)
    args = _json_or_text(given)
    return args if isinstance(args, list) else [args], _json_or_text(output)


def _json_or_text(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _lines(value: Any) -> str:
    """A text, or the lines of one."""
    if isinstance(value, list):
        return "\n".join(_lines(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(UNKNOWN)
    return value


def _name(value: Any) -> str:
    if not (isinstance(value, str) and value.isidentifier()):
        raise ValueError("tests: the function's name is no name")
    return value
