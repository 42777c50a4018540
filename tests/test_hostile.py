"""Answers that nobody meant well: nothing in a text may hang, crash or exhaust the normaliser or the graders.

Each text of hostile_texts.py goes through all that reads answers, in a time that grows no faster than its length. With `long`
the texts are twenty times as long, and the random ones many.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1distill.answers import Grade, grade_exact
from r1distill.answers.code import find_program, same_output
from r1distill.answers.code_tests import read_tests
from r1distill.answers.json_answer import find_json, same_json
from r1distill.answers.normalise import MAX_MARKS, compatible, folded, speakable, unicode_digits
from r1distill.answers.outcome import SHOWN_CHARS
from r1distill.checks.grading import grade_many
from r1distill.show import STEERING, Show
from r1distill.teachers.reasoning import normalise, summary_of
from r1distill.thinking import SPELLINGS, join_thinking, split_thinking
from tests.hostile_texts import HUGE, boxed, hostile

NAMES = list(hostile())
REFERENCES = {"math": "18", "choice": "B", "text": "yes", "json": '{"a": 1}'}
SECONDS, SECONDS_PER_CHARACTER = 1.0, 10e-6
"""CPU time for one reading of a text: far above what it takes on a slow machine, far below what a quadratic scan takes."""


def quick(work: Callable[..., Any], *given: Any) -> Any:
    """The result of `work(*given)`, which must not take longer than a linear pass may."""
    started = time.process_time()
    result = work(*given)
    spent = time.process_time() - started
    size = sum(len(item) for item in given if isinstance(item, str))
    assert spent < SECONDS + SECONDS_PER_CHARACTER * size, f"{work.__name__} took {spent:.1f} s"
    return result


def graded(kind: str, reference: str, answer: str, tests: Any = None) -> None:
    found = quick(grade_exact, kind, reference, answer, tests)
    if isinstance(found, Grade):
        assert len(found.extracted or "") <= SHOWN_CHARS
        msgspec.json.encode(found)
    else:
        assert len(found.reference) + len(found.extracted) < 2000  # what computer algebra is asked is short


def read_all(text: str) -> None:
    """All that reads an answer, once."""
    split = quick(split_thinking, text)
    quick(split_thinking, f"<think>{text}</think>{text}")
    assert len(split.reasoning) + len(split.answer) <= len(text) + 4
    quick(normalise, {"content": text, "reasoning_details": [{"type": "reasoning.summary", "summary": text}]})
    quick(
        normalise,
        {"content": [{"type": "thinking", "thinking": [{"text": text}]}, {"type": "text", "text": text}]},
    )
    quick(summary_of, {"content": text})
    for reader in (find_program, read_tests, find_json, unicode_digits, folded):
        quick(reader, text)
    quick(same_output, text, text + "1")
    for kind, reference in REFERENCES.items():
        graded(kind, reference, text)
        graded(kind, reference, boxed(text))
        graded(kind, text, boxed(text + "1"))
    graded("text", "18", boxed(text), {"tolerance": 0.1, "relative": True})


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text(name: str) -> None:
    read_all(hostile()[name])


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_huge_hostile_text(name: str) -> None:
    read_all(hostile(HUGE)[name])


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<think></think>", "`<think>`", "<|channel|>"])
def test_a_million_tags(tag: str) -> None:
    text = tag * 1_000_000
    quick(split_thinking, text)
    quick(normalise, {"content": text, "reasoning": tag})


def test_combining_marks_are_sorted_in_linear_time_and_ordinary_text_is_untouched() -> None:
    marks = "\u05b0\u0301\u0327\u0316"
    assert len(quick(unicode_digits, "1" + marks * 100_000)) <= MAX_MARKS + 1
    vietnamese = unicodedata.normalize("NFD", "Tiếng Việt có dấu " * 10)
    assert compatible(vietnamese) == unicodedata.normalize("NFC", vietnamese)
    for text in ("数学题目的答案是" * 20, "한국어" * 40, "e\u0301" * 100, marks * 7, "ﬁ① Ⅻ"):
        assert compatible(text) == unicodedata.normalize("NFKC", text)


@given(st.text(max_size=25).map(lambda text: text * 3))
def test_compatible_is_nfkc(text: str) -> None:
    assert compatible(text + "x" + text) == unicodedata.normalize("NFKC", text + "x" + text)


def test_half_a_surrogate_pair_is_no_end_of_a_run() -> None:
    assert speakable("a\ud83d\ude00\ud800") == "a\U0001f600\ufffd" and speakable("é") == "é"
    items = [
        ("math", "x+1", "\\boxed{1+x\ud800}"),
        ("text", "yes", "\\boxed{yes\ud800}"),
        ("text", None, "\udfff", {"regex": "\ud800+"}),
        ("math", "x+1", "\\boxed{1+x}"),
    ]
    found = grade_many(items, workers=1)  # type: ignore[arg-type]
    assert found[1].outcome == "wrong" and found[3].outcome == "right"
    msgspec.json.encode(found)


def test_numbers_without_end_compare_at_once() -> None:
    big = find_json("[1e1000000000]")
    assert big is not None and not quick(same_json, [1], big.value) and quick(same_json, big.value, big.value)
    assert find_json("[NaN]") is None and find_json('{"a": 1, "a": 2}') is None
    assert find_json("[1" + "0" * 100_000 + "]") is None  # beyond the digits that Python reads


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(2)
    for name in ("terminal escapes", "bidi controls", "carriage returns", "NULs", "lone surrogates"):
        text = hostile()[name][:200]
        show.note(text)
        show.table(text, ["name", "n"], [[text, text]])
        with show.progress(text, 2) as progress:
            progress.update(2, text)
    assert not STEERING.search(capsys.readouterr().err)


# random texts: few by default, many with `long`

MARKS = [(s.opener, s.closer, s.between, *s.wrapping) for s in SPELLINGS]
TAGS = [part for marks in MARKS for part in marks if part]
PIECES = [*TAGS, "`", "'", '"', "\n", " ", "x", "<", "|", "</", "think", "\ud800", "\x00"]
MATHS = [
    *"0123456789.,+-*/^_(){}[]|!=<>$%:;&~#`'\" \n", "\\", "\\frac", "\\sqrt", "\\boxed{", "\\text{", "\\pm", "\\cup", "\\infty",
    "\\left", "\\begin{matrix}", "\\overline{", "####", "answer is ", "A:", " and ", " or ", "(B)", "x", "yes", "٣", "²", "½",
    "，", "e", "cm", "\u0301", "\u202e", "\ud800", "```", "json\n", "null", "true", '{"a":', "1e9", "percent", "{,}",
]  # fmt: skip
MANY = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
THINKING_TEXT = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
MATHS_TEXT = st.lists(st.sampled_from(MATHS), max_size=40).map("".join)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | THINKING_TEXT
FIELDS = ["content", "reasoning", "reasoning_content", "thinking", "reasoning_details", "type", "text", "summary", "index",
          "reasoningContent", "reasoningText", "redactedContent", "encrypted_content"]  # fmt: skip
TYPES = st.sampled_from(
    ["thinking", "reasoning", "text", "reasoning.text", "reasoning.summary", "reasoning.encrypted"]
)
JSON = st.recursive(
    LEAF | TYPES,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=8,
)
MESSAGE = st.dictionaries(st.sampled_from(FIELDS), JSON)


def split_holds(text: str) -> None:
    split = split_thinking(text)
    assert split.source in ("inline", "inline-no-opener", "unclosed", "none")
    assert split.reasoning == split.reasoning.strip() and split.answer == split.answer.strip()
    if split.source == "none":
        assert (split.reasoning, split.answer) == ("", text.strip())


def written_is_read(reasoning: str, answer: str) -> None:
    """What the toolkit writes it reads again, when the parts hold no tags."""
    again = split_thinking(join_thinking(reasoning, answer))
    assert (again.reasoning, again.answer) == (reasoning.strip(), answer.strip())


def message_holds(message: dict[str, Any]) -> None:
    found = normalise(message)
    assert all(isinstance(part, str) for part in (*found, summary_of(message)))


def grades_hold(kind: str, reference: str, answer: str) -> None:
    graded(kind, reference, answer)
    graded(kind, reference, boxed(answer))


PLAIN = st.text(alphabet="abc 12\n.", min_size=1).filter(str.strip)
KINDS = st.sampled_from(sorted(REFERENCES))


@given(THINKING_TEXT)
def test_any_text_is_split(text: str) -> None:
    split_holds(text)


@given(PLAIN, PLAIN)
def test_what_is_written_is_read(reasoning: str, answer: str) -> None:
    written_is_read(reasoning, answer)


@given(MESSAGE)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_message_is_normalised(message: dict[str, Any]) -> None:
    message_holds(message)


@given(KINDS, MATHS_TEXT, MATHS_TEXT)
@settings(deadline=None)
def test_any_answer_is_graded(kind: str, reference: str, answer: str) -> None:
    grades_hold(kind, reference, answer)


@pytest.mark.long
@pytest.mark.parametrize(
    ("strategies", "holds"),
    [
        ((THINKING_TEXT,), split_holds),
        ((MESSAGE,), message_holds),
        ((KINDS, MATHS_TEXT, MATHS_TEXT), grades_hold),
        ((KINDS, st.text(), st.text()), grades_hold),
    ],
)
def test_many_random_texts(strategies: tuple[Any, ...], holds: Callable[..., None]) -> None:
    MANY(given(*strategies)(holds))()
