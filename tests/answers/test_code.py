"""Code answers: which block is taken, the layouts of tests, what counts as equal, and no run without consent."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.answers import grade
from r1distill.answers.code import NOT_RUN, find_program, same_output, same_result, same_value
from r1distill.answers.code_tests import CodeTest, read_tests
from r1distill.checks import build_checks
from r1distill.checks.base import Job
from r1distill.checks.correct import Correct
from r1distill.checks.grading import grade_many
from r1distill.checks.running import CodeRun
from r1distill.errors import RecipeError
from r1distill.records import Message, Prompt, Trace
from r1distill.sandbox import Box, Limits, find_box

PAIRS = {"inputs": ["1 2\n", "5 6\n"], "outputs": ["3\n", "11\n"]}


def block(code: str, language: str = "python") -> str:
    return f"Here it is:\n\n```{language}\n{code}\n```\nDone."


@pytest.fixture(scope="module")
def how() -> CodeRun:
    return CodeRun(find_box(without_sandbox=True), Limits(cpu_s=2), total_s=20)


def graded(how: CodeRun, code: str, tests: Any) -> tuple[str, str]:
    (found,) = grade_many([("code", None, block(code), tests)], workers=1, code=how)
    return found.outcome, found.note


# which block


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (block("a"), "a"),
        (block("a") + block("b"), "b"),
        (block("a") + block("b", "text"), "a"),
        (block("a", "") + block("b", "cpp"), "a"),
        (block("a", "python") + block("b", ""), "a"),
        (block("a", "Python3"), "a"),
        ("~~~py\nx = '''\n```\n'''\n~~~", "x = '''\n```\n'''"),
        ("````python\n```\n````", "```"),
        ("1. so\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y"),
        ("```python title=x\na\r\n```\r\n", "a"),
        ("```python\nnever closed", None),
        ("x = 1", None),
        (block("a", "cpp"), None),
        ("`a`", None),
        ("", None),
    ],
)
def test_the_block_that_is_taken(text: str, program: str | None) -> None:
    assert find_program(text) == program


@given(st.text(alphabet="`~ \npython{x", max_size=200))
def test_finding_a_program_never_fails(text: str) -> None:
    found = find_program(text)
    assert found is None or all(line in text for line in found.split("\n"))


# the layouts of tests

STDIN = [CodeTest("stdin", "1 2\n", "3\n"), CodeTest("stdin", "5 6\n", "11\n")]
CALLS = [CodeTest("call", name="f", args=[1, [2]], wanted=[3])]


@pytest.mark.parametrize(
    ("tests", "wanted"),
    [
        (PAIRS, STDIN),
        (json.dumps(PAIRS), STDIN),
        (str(PAIRS), STDIN),
        ({**PAIRS, "fn_name": None}, STDIN),
        ({"input": PAIRS["inputs"], "output": PAIRS["outputs"]}, STDIN),
        ({"inputs": [["1 2", ""], "5 6\n"], "outputs": ["3\n", ["11", ""]]}, STDIN),
        ([{"input": "1 2\n", "output": "3\n"}, {"input": "5 6\n", "output": "11\n", "testtype": "stdin"}], STDIN),
        ({"language": "python", "test_cases": [{"type": "stdin_stdout", "fn_name": None, "input": "1 2\n", "output": "3\n"}]},
         STDIN[:1]),
        ({"test_cases": json.dumps(PAIRS)}, STDIN),
        ({"fn_name": "f", "inputs": [[1, [2]]], "outputs": [[3]]}, CALLS),
        ([{"fn_name": "f", "type": "function_call", "input": "[1, [2]]", "output": [3]}], CALLS),
        ({"func_name": "f", "test_cases": [{"testtype": "functional", "input": "1\n[2]", "output": "[3]"}]}, CALLS),
        (["assert f(1) == 2"], [CodeTest("assert", after=["assert f(1) == 2"])]),
        ("assert f(1) == 2\nassert f(2) == 3", [CodeTest("assert", after=["assert f(1) == 2\nassert f(2) == 3"])]),
        ({"test_list": ["assert f()"], "test_setup_code": "x = 1", "test_imports": ["import math"]},
         [CodeTest("assert", before=["import math", "x = 1"], after=["assert f()"])]),
        ({"test": "def check(c): assert c()", "entry_point": "f"},
         [CodeTest("assert", after=["def check(c): assert c()", "check(f)"])]),
        (None, []),
        ("  ", []),
        ([], []),
    ],
)  # fmt: skip
def test_layouts(tests: Any, wanted: list[CodeTest]) -> None:
    assert read_tests(tests) == (wanted, "")


@pytest.mark.parametrize(
    ("tests", "fault"),
    [
        ({"inputs": ["1"], "outputs": []}, "tests: not as many outputs as inputs"),
        ({"tolerance": 1}, "tests: layout not known"),
        (7, "tests: layout not known"),
        ([7], "tests: layout not known"),
        ("(" * 5000, "tests: nested too deeply"),
        ("__import__('os').abort()", "tests: layout not known"),
        ({"fn_name": "f; x", "inputs": [[1]], "outputs": [1]}, "tests: the function's name is no name"),
        ({"test": "x", "entry_point": "f) or print("}, "tests: the function's name is no name"),
        ([{"testtype": "functional", "input": "1", "output": "2"}], "tests: a call without fn_name"),
        ({"inputs": "[" * 3000, "outputs": "9" * 9000, "fn_name": "f"}, ""),
    ],
)
def test_faults(tests: Any, fault: str) -> None:
    assert read_tests(tests)[1] == fault


FIELDS = [
    "inputs",
    "outputs",
    "fn_name",
    "test_cases",
    "test_list",
    "input",
    "output",
    "type",
    "test",
    "entry_point",
]
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner), max_leaves=20
)


@given(JSON)
def test_any_json_is_read_or_refused(tests: Any) -> None:
    found, fault = read_tests(tests)
    assert not (found and fault)
    msgspec.json.encode(found)


# what counts as equal


@pytest.mark.parametrize(
    ("expected", "given", "same"),
    [
        ("1 2\n3\n", "1  2 \r\n3", True),
        ("\n1\n\n", "1", True),
        ("1\n\n2", "1\n2", False),
        ("0.5", "0.50000001", True),
        ("0.5", ".5", True),
        ("1", "1.0", True),
        ("1000000.0", "1000000.4", True),
        ("0.5", "0.51", False),
        ("10000000", "10000001", False),
        ("007", "7", False),
        ("yes", "Yes", False),
        ("nan", "nan", True),
        ("1e5", "100000", True),
        ("1e999", "inf", False),
        ("٣.0", "3.0", False),
        ("", "", True),
        ("", "x", False),
        ("1 2", "1", False),
    ],
)
def test_outputs(expected: str, given: str, same: bool) -> None:
    assert same_output(expected, given) is same


@given(st.text(), st.text())
def test_outputs_compare_both_ways(one: str, two: str) -> None:
    assert same_output(one, one) and same_output(one, two) == same_output(two, one)


@pytest.mark.parametrize(
    ("wanted", "given", "same"),
    [
        ([3], 3, True),
        ([3], [3], True),
        ([3], [[3]], False),
        ([[1, 2]], [1, 2], True),
        (1, True, False),
        (1, 1.0, True),
        ({"a": 0.1}, {"a": 0.1 + 1e-9}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("1", 1, False),
        (None, None, True),
        (10**400, 1.5, False),
        (float("nan"), float("nan"), False),
    ],
)
def test_results(wanted: Any, given: Any, same: bool) -> None:
    assert same_result(wanted, given) is same


def test_deep_results_are_no_crash() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert same_result(deep, [[deep]]) is False
    assert same_value([1.5], [1.5])


# running


ADD = "print(sum(map(int, input().split())))"
HUMAN = {"test": "def check(candidate):\n    assert candidate(2) == 4", "entry_point": "f"}
VERDICTS: list[tuple[str, Any, str, str]] = [
    (ADD, PAIRS, "right", ""),
    ("print(3)", PAIRS, "wrong", "test 2 fails"),
    ("print(input())[", PAIRS, "wrong", "error: SyntaxError"),
    ("print(3)\n1 / 0", PAIRS, "wrong", "error: ZeroDivisionError"),
    ("print(3); raise SystemExit(0)", {"inputs": ["12"], "outputs": ["3"]}, "right", ""),
    ("print(3); raise SystemExit(1)", {"inputs": [""], "outputs": ["3"]}, "wrong", "error: exit status 1"),
    (
        "import sys; print(3); sys.exit('failed')",
        {"inputs": [""], "outputs": ["3"]},
        "wrong",
        "error: exit status 1",
    ),
    ("def f(a, b): return a + b[0]", {"fn_name": "f", "inputs": [[1, [2]]], "outputs": [3]}, "right", ""),
    ("def f(a): return a", ["assert f(1) == 1", "assert f(1) == 2"], "wrong", "test 2 fails"),
    ("def f(x): return x * x", HUMAN, "right", ""),
    ("x = bytearray(2_000_000_000)", PAIRS, "wrong", "memory limit"),
    ("while True: print('x' * 10_000)", PAIRS, "wrong", "output limit"),
    (ADD, {"inputs": [1], "outputs": []}, "unreadable_reference", "tests: not as many outputs as inputs"),
    (ADD, {"inputs": [], "outputs": []}, "unreadable_reference", "no tests"),
    ("import numpy as np", PAIRS, "error", "a package that is not here"),
    ("(" * 5000, PAIRS, "wrong", "error: SyntaxError"),
    ("\ud800", PAIRS, "wrong", "error: SyntaxError"),
]


def test_verdicts(how: CodeRun) -> None:
    items = [("code", None, block(source), tests) for source, tests, _, _ in VERDICTS]
    found = grade_many(items, workers=1, code=how)  # type: ignore[arg-type]
    assert [(g.outcome, g.note) for g in found] == [(outcome, note) for _, _, outcome, note in VERDICTS]


def test_time_runs_out(how: CodeRun) -> None:
    short = msgspec.structs.replace(how, limits=Limits(cpu_s=1))
    assert graded(short, "while True: pass", PAIRS) == ("wrong", "timeout")
    in_all = msgspec.structs.replace(how, total_s=0.4)
    busy = (
        "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\nprint(input())"
    )
    assert graded(in_all, busy, {"inputs": ["1"] * 4, "outputs": ["1"] * 4}) == (
        "timeout",
        "tests take too long in all",
    )


def test_a_sandbox_that_does_not_start_is_nobodys_fault(how: CodeRun) -> None:
    broken = msgspec.structs.replace(how, box=msgspec.structs.replace(how.box, python="/usr/bin/false"))
    assert graded(broken, "print(1)", PAIRS) == ("error", "error: SandboxError")


# the check


def trace(answer: str) -> Trace:
    return Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
        reasoning="r", answer=answer, finish="stop",
    )  # fmt: skip


def judged(check: Any, answer: str, tests: Any = PAIRS) -> tuple[str, str]:
    prompt = Prompt("p", "q", None, "code", tests)
    found = check.judge(check.measure(prompt, trace(answer)))
    return found.outcome, found.reason


def test_without_consent_nothing_is_run() -> None:
    text = block("import os; os.abort()")
    assert judged(Correct(), text) == ("UNJUDGED", NOT_RUN)
    assert NOT_RUN.endswith("add --set filter.checks.correct.allow_exec=true")
    assert not isinstance(Correct().begin(Prompt("p", "q", None, "code", PAIRS), trace(text)), Job)
    assert grade("code", "x", text, PAIRS).outcome == "error"
    assert judged(Correct(allow_exec=True), text)[0] == "UNJUDGED"  # not prepared: no box was found
    assert "code" not in Correct().measuring()


def test_with_consent_the_check_runs_code_and_says_how() -> None:
    table = {"correct": {"allow_exec": True, "allow_exec_without_sandbox": True}}
    check = build_checks(table)["correct"]
    assert isinstance(check, Correct)
    assert judged(check, block("print(sum(map(int, input().split())))")) == ("PASS", "right")
    assert judged(check, block("print(3)")) == ("FAIL", "test 2 fails")
    assert judged(check, "no code") == ("FAIL", "no code block")
    assert judged(check, block("print(3)"), None) == ("UNJUDGED", "no tests")
    assert judged(check, block("#" * 300_000)) == ("UNJUDGED", "code longer than 200000 characters")
    (note,) = check.notes()
    assert "Python 3" in note and ("sandbox" in note)
    assert check.code is not None and check.code.box.level in check.measuring()["code"]


@pytest.mark.parametrize(
    "note", ["no tests", "tests: layout not known", "tests: not as many outputs as inputs"]
)
def test_no_tests_and_bad_tests_follow_the_policy_for_no_reference(note: str) -> None:
    keeping, dropping = Correct(without_reference="keep"), Correct()
    value = {"outcome": "unreadable_reference", "note": note}
    assert keeping.judge(value).outcome == "UNJUDGED"
    assert keeping.keeps(keeping.judge(value)) and not dropping.keeps(dropping.judge(value))


def test_no_sandbox_is_said_when_the_recipe_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RecipeError, match=r"filter.checks.correct, allow_exec: .*can't be run in a sandbox here"
    ):
        build_checks({"correct": {"allow_exec": True}})


def test_the_level_is_part_of_what_is_measured() -> None:
    boxes = [
        Box("bubblewrap", "p", "/usr", "3.11.7"),
        Box("limits", "p", "/usr", "3.11.7"),
        Box("limits", "p", "/usr", "3.12.1"),
    ]
    found = []
    for box in boxes:
        check = Correct()
        check._code = CodeRun(box)
        found.append(json.dumps(check.measuring()))
    assert len(set(found)) == 3
