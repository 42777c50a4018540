"""Grading JSON: structure counts, spelling does not."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.answers.json_answer import grade_exact, same_json

SUBSET = {"subset": True}


@pytest.mark.parametrize(
    ("reference", "answer", "how"),
    [
        ('{"a": 1, "b": [2, 3]}', '{"b": [2.0, 3e0], "a": 1.00}', "whole"),
        ('{"a": 1}', 'Here it is:\n```json\n{"a": 1}\n```\nDone.', "fenced"),
        ('{"a": 1}', '```\n{"a": 2}\n```\nno, rather\n```json\n{"a": 1}\n```', "fenced"),
        ('{"a": 1}', '```json\n{"a": 1}\n```\n```python\nprint(1 +)\n```', "fenced"),
        ('```json\n{"a": 1}\n```', '{"a": 1}', "whole"),
        ('{"a": 1}', '\\boxed{{"a": 1}}', "boxed"),
        ("[1, 2]", "The answer is [1, 2]", "phrase"),
        ('{"a": 1}', 'first {"a": 0}, then {"a": 1} as asked', "last_json"),
        ('"x"', '"x"', "whole"),
        ("null", "null", "whole"),
        ("0.1", "0.10", "whole"),
    ],
)
def test_right(reference: str, answer: str, how: str) -> None:
    found = grade_exact(reference, answer)
    assert (found.outcome, found.how, found.tier) == ("right", how, "exact")
    assert found.right() == (how != "last_json")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 0}', '{"a": false}'),
        ('{"a": 0}', '{"a": null}'),
        ('{"a": 1}', '{"a": 1, "b": 2}'),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ("[1, 2]", "[2, 1]"),
        ("[1, 2]", "[1, 2, 3]"),
        ("{}", "[]"),
        ('"A"', '"a"'),
        ("9007199254740993", "9007199254740992.0"),
    ],
)
def test_wrong(reference: str, answer: str) -> None:
    assert grade_exact(reference, answer).outcome == "wrong"


def test_subset_allows_further_keys_only() -> None:
    wanted = '{"a": {"b": 1}, "c": [{"d": 2}]}'
    assert (
        grade_exact(wanted, '{"a": {"b": 1, "x": 0}, "c": [{"d": 2, "y": 0}], "z": 0}', SUBSET).outcome
        == "right"
    )
    assert grade_exact(wanted, '{"a": {"b": 1}, "c": [{"d": 2}, {}]}', SUBSET).outcome == "wrong"
    assert grade_exact(wanted, '{"a": {}, "c": [{"d": 2}]}', SUBSET).outcome == "wrong"
    assert (
        grade_exact(wanted, '{"a": {"b": 1, "x": 0}, "c": [{"d": 2}]}', '{"subset": false}').outcome
        == "wrong"
    )


@pytest.mark.parametrize(
    "reference", ["{a: 1}", '{"a": 1, "a": 1}', "[1", "NaN", "words", 'see {"a": 1} there']
)
def test_unreadable_reference_is_never_right(reference: str) -> None:
    assert grade_exact(reference, reference).outcome == "unreadable_reference"


@pytest.mark.parametrize(
    "answer", ["", "no idea", '{"a": 1', '{"a": 1, "a": 2}', "{'a': 1}", "NaN", "1" * 5000]
)
def test_no_json_in_the_answer(answer: str) -> None:
    assert grade_exact('{"a": 1}', answer).outcome == "no_answer"


@pytest.mark.parametrize("tests", [{"subset": "yes"}, {"subsets": True}, "{", [1], 5])
def test_bad_options_can_not_be_judged(tests: Any) -> None:
    found = grade_exact("1", "1", tests)
    assert found.outcome == "error" and found.note.startswith("tests: ")


def test_degenerate_answers_name_themselves() -> None:
    assert grade_exact("[]", "[" * 100_000).note == "answer nested deeper than 100"
    assert grade_exact("[]", " " * 300_000).note == "answer longer than 200000 characters"


@pytest.mark.parametrize("piece", ["{", '{"a":', "```\n", "[1,", '"', "{}", "[]] "])
def test_bounded_time(piece: str) -> None:
    started = time.process_time()
    grade_exact("[1]", (piece * 200_000)[:200_000])
    assert time.process_time() - started < 3.0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(VALUES, VALUES)
def test_agrees_with_a_canonical_spelling(one: Any, other: Any) -> None:
    def canonical(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    assert same_json(one, other) == (canonical(one) == canonical(other))
    assert grade_exact(canonical(one), f"```json\n{json.dumps(one, indent=2)}\n```").outcome == "right"


def test_a_broken_last_block_is_not_replaced_by_a_draft() -> None:
    draft = '```json\n{"a": 1}\n```\nCorrected:\n```json\n{"a": 2,}\n```'
    assert grade_exact('{"a": 1}', draft).outcome == "no_answer"
