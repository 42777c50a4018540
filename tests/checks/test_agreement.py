"""Agreement: who answers like the others, the majority in place of a reference, and references that look wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.checks import build_checks, failed, passed, unjudged
from r1distill.checks.agreement import (
    MAX_CLASSES,
    Agreement,
    answer_classes,
    same_answer,
    suspect_references,
)
from r1distill.checks.base import Check, Judgement, Row
from r1distill.records import AnswerKind, Message, Prompt, Trace

AGREES, MAJORITY = "agrees", "agrees with the majority (no reference)"
Problem = tuple[str | None, Sequence[str]]


def checks(correct: dict[str, Any] | None = None, **options: Any) -> dict[str, Check]:
    return build_checks(
        {"agreement": options, "correct": {"without_reference": "keep", **(correct or {})}}, Path()
    )


def trace(answer: str) -> Trace:
    return Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
        reasoning="", answer=answer, finish="stop",
    )  # fmt: skip


def measured(built: dict[str, Check], *problems: Problem, kind: AnswerKind = "math") -> list[Row]:
    rows = []
    for number, (reference, answers) in enumerate(problems):
        prompt = Prompt(f"p{number}", "q", reference, kind)
        for sample, answer in enumerate(answers):
            values = {name: check.measure(prompt, trace(answer)) for name, check in built.items()}
            rows.append(Row(f"{number}-{sample}", prompt.id, number, "r1", sample, values))
    return rows


def judged(built: dict[str, Check], *problems: Problem, kind: AnswerKind = "math") -> list[Judgement]:
    return built["agreement"].judge_all(measured(built, *problems, kind=kind), "agreement")


def boxed(*answers: str) -> list[str]:
    return [f"So \\boxed{{{answer}}}." for answer in answers]


def suspects(built: dict[str, Check], *problems: Problem, **options: Any) -> list[tuple[int, str, float]]:
    check = built["agreement"]
    assert isinstance(check, Agreement)
    found = suspect_references(measured(built, *problems), check, **options)
    return [(suspect.problem, suspect.answer, suspect.share) for suspect in found]


def test_equal_answers_in_other_spellings_agree() -> None:
    answers = ["The answer is 18.", "#### 18.0", r"\boxed{\$18}", r"\boxed{\frac{36}{2}}", r"\boxed{19}"]
    found = judged(checks(), ("18", answers))
    assert [j[:2] for j in found] == [("PASS", 0.8)] * 4 + [("FAIL", 0.2)]
    assert {j.reason for j in found} == {AGREES, "agreement under 0.5"}


def test_the_majority_stands_for_a_missing_reference() -> None:
    for reference in (None, "???"):
        found = judged(checks(), (reference, boxed("7", "7", "7", "8")))
        assert found == [passed(MAJORITY, 0.75)] * 3 + [failed("agreement under 0.5 (no reference)", 0.25)]


def test_a_minority_stays_only_beside_a_reference() -> None:
    answers = boxed("7", "7", "7", "8", "8")
    low = checks(min_share=0.3)
    assert [j.outcome for j in judged(low, ("8", answers))] == ["PASS"] * 5
    assert judged(low, (None, answers))[4] == failed("disagrees with the majority (no reference)", 0.4)


def test_a_tie_is_no_majority() -> None:
    assert set(judged(checks(), (None, boxed("7", "7", "8", "8")))) == {
        unjudged("no majority (no reference)", 0.5)
    }
    assert {j.outcome for j in judged(checks(), ("7", boxed("7", "7", "8", "8")))} == {"PASS"}


def test_samples_without_an_answer_count() -> None:
    found = judged(checks(), (None, [*boxed("7", "7"), "I don't know", "It is about 7 then, maybe"]))
    assert found[:2] == [passed(MAJORITY, 0.5)] * 2 and found[2:] == [failed("no answer found", 0.0)] * 2
    lenient = judged(
        checks(extraction="lenient"), (None, [*boxed("7", "7"), "I don't know", "It is about 7 then, maybe"])
    )
    assert lenient[3] == passed(MAJORITY, 0.75) and lenient[2].outcome == "FAIL"


def test_too_few_samples() -> None:
    few = unjudged("fewer than 3 samples")
    assert judged(checks(), (None, boxed("7", "7")), ("7", boxed("7"))) == [few] * 3
    assert judged(checks(min_samples=2), (None, boxed("7", "7")))[0].outcome == "PASS"


def test_right_answers_are_one_answer() -> None:
    pytest.importorskip("math_verify")
    found = judged(checks(), (r"\sqrt{2}", boxed(r"\sqrt{2}", "2^{1/2}", r"\frac{2}{\sqrt{2}}", "3")))
    assert [j.score for j in found] == [0.75, 0.75, 0.75, 0.25]


def test_other_kinds() -> None:
    assert [j.score for j in judged(checks(), (None, ["(C)", "Answer: C", "option c", "B"]), kind="choice")] == [
        0.75, 0.75, 0.75, 0.25,
    ]  # fmt: skip
    assert [j.score for j in judged(checks(), (None, ["Paris", "paris.", "Rome"]), kind="text")] == [
        0.667,
        0.667,
        0.333,
    ]


def test_an_answer_that_is_the_same_for_long_only() -> None:
    long = "+".join(f"x_{{{n}}}" for n in range(90))
    found = judged(checks(), (None, boxed(long, long, long + "+1", long + "+2")))
    assert [j.score for j in found] == [0.5, 0.5, 0.25, 0.25]


def test_suspect_references() -> None:
    problems: list[Problem] = [
        ("18", boxed("18", "18", "18", "19")),
        ("18", boxed("81", "81", "81.0", "18")),  # most agree, and not with the reference
        ("18", boxed("81", "81", "18", "18")),  # half are not most
        (None, boxed("5", "5", "5")),
        ("???", boxed("5", "5", "5")),
        ("18", boxed("5", "5")),  # too few
        ("18", ["about 18 then, or so"] * 4),
        ("18", ["I don't know"] * 4),
        ("3", boxed("4", "4", "4", "4")),
        (r"\sqrt{2}", boxed(*["the root of the sum"] * 4)),  # nobody can tell
    ]
    assert suspects(checks(), *problems) == [(8, "4", 1.0), (1, "81", 0.75)]
    assert suspects(checks(), *problems, min_share=0.8) == [(8, "4", 1.0)]
    lenient = checks(extraction="lenient")
    assert suspects(lenient, *problems) == [(8, "4", 1.0), (1, "81", 0.75)]


def test_planted_wrong_references_are_found_and_no_other() -> None:
    rng = random.Random(5)
    problems: list[Problem] = []
    planted = []
    for number in range(200):
        truth = rng.randint(1, 999)
        wrong = number % 10 == 0
        planted += [number] if wrong else []
        skill = rng.choice((0.8, 0.9, 1.0)) if wrong else rng.random()
        answers = [str(truth if sample < 8 * skill else 1000 + sample) for sample in range(8)]
        problems.append((str(truth + 1000 * wrong + 17 * wrong), boxed(*answers)))
    assert sorted(problem for problem, _, _ in suspects(checks(), *problems)) == planted


def test_many_different_answers_stay_quick() -> None:
    answers: list[str | None] = [f"x+{n}" for n in range(400)]
    classes = answer_classes("math", answers, [False] * 400)
    assert classes == answers and MAX_CLASSES < 400


def test_the_reference_plays_no_part_in_measuring() -> None:
    check = Agreement()
    assert check.measuring() == Agreement(min_share=0.9, extraction="lenient").measuring() == {}
    assert check.reads(Prompt("p", "q", "1")) == check.reads(Prompt("r", "s", "2"))
    assert check.measure(Prompt("p", "q", "18"), trace("so 18, or 19")) == check.measure(
        Prompt("p", "q"), trace("so 18, or 19")
    )


def test_the_correct_of_the_recipe_is_asked() -> None:
    built = checks({"extraction": "lenient"})
    agreement = built["agreement"]
    assert isinstance(agreement, Agreement) and agreement._correct is built["correct"]


def test_what_can_not_be_compared_is_unjudged() -> None:
    found = judged(checks(), (None, ["print(1)"] * 3), kind="code")
    assert {j.outcome for j in found} in (
        {"UNJUDGED"},
        {"PASS"},
    )  # PASS once answers/ can tell programs apart
    with pytest.raises(ValueError, match="build_checks"):
        Agreement().judge_all(measured(checks(), ("1", boxed("1"))), "agreement")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=40), st.from_regex(r"-?\d{1,3}(\.\d)?", fullmatch=True)),
        max_size=12,
    )
)
def test_classes_part_the_answers(answers: list[str | None]) -> None:
    classes = answer_classes("math", answers, [False] * len(answers))
    assert [c is None for c in classes] == [a is None for a in answers]
    for answer, chosen in zip(answers, classes, strict=True):
        assert chosen in answers and classes[answers.index(chosen)] == chosen
        assert answer == chosen or (
            answer is not None and chosen is not None and same_answer("math", chosen, answer)
        )


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_answer_can_be_measured(text: str) -> None:
    value = Agreement().measure(Prompt("p", "q"), trace(text))
    assert value["kind"] == "math" and len(value.get("answer", "")) < 240
