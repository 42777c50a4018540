"""References that may be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judged_rows import judged
from test_filter import PROBLEMS, World

from r1distill.checks import build_checks
from r1distill.filter import filter
from r1distill.filtering.suspects import SuspectRow, reads, suspects
from r1distill.records import Prompt
from r1distill.show import Show

CHECKS = build_checks({"correct": {}})


def found_of(answers: list[dict[str, Any]], checks: Any = CHECKS, kind: str = "math") -> list[SuspectRow]:
    prompt = Prompt("p", "1 + 1?", "3", kind)  # type: ignore[arg-type]
    rows = [judged(prompt, 4, n, values={"correct": value}) for n, value in enumerate(answers)]
    return suspects(rows, checks, {4: prompt})


def wrong(answer: str, how: str = "boxed") -> dict[str, Any]:
    return {"outcome": "wrong", "extracted": answer, "how": how}


RIGHT = {"outcome": "right", "extracted": "3", "how": "boxed"}
NONE = {"outcome": "no_answer"}
TIMEOUT = {"unmeasured": "timeout", "extracted": "9^{9^9}", "how": "boxed"}


def test_most_samples_agree_with_each_other_and_not_with_the_reference() -> None:
    found = found_of([wrong("2"), wrong("2.0"), wrong("\\frac{4}{2}"), RIGHT, NONE])
    assert found == [SuspectRow("p", "1 + 1?", "3", "2", 3, 5)]


@pytest.mark.parametrize(
    "answers",
    [
        [wrong("2"), wrong("2"), RIGHT, RIGHT],  # no more than half
        [wrong("2"), wrong("4"), wrong("5")],  # wrong, each in its own way
        [wrong("2"), wrong("2")],  # too few
        [wrong("2", "last_number")] * 4,  # not marked as final
        [wrong("x" * 199 + "…")] * 4,  # cut: nobody knows whether they are equal
        [TIMEOUT, TIMEOUT, TIMEOUT, wrong("2")],
        [{"outcome": "unreadable_reference", "extracted": "2", "how": "boxed"}] * 4,
        [{}] * 4,
    ],
)
def test_no_suspect(answers: list[dict[str, Any]]) -> None:
    assert found_of(answers) == []


def test_the_recipes_own_agreement_and_extraction_count() -> None:
    four = [wrong("2")] * 4
    assert found_of(four, build_checks({"correct": {}, "agreement": {"min_samples": 5}})) == []
    assert found_of(four, build_checks({"correct": {}, "votes": {"use": "agreement", "min_samples": 4}}))
    guessed = [wrong("2", "last_number")] * 4
    assert found_of(guessed, build_checks({"correct": {"extraction": "lenient"}}))[0].count == 4


def test_without_correct_there_is_nothing_to_compare_with() -> None:
    assert reads(build_checks({"length": {}})) == set()
    assert found_of([wrong("2")] * 4, build_checks({"length": {}})) == []


def test_suspects_of_a_run_stand_in_a_file_and_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    world.write_problems([{**row, "answer": "17"} if row["id"] == "a" else row for row in PROBLEMS])
    same = {"b": "2", "c": "\\sqrt{2}", "d": "7"}
    world.harvest(
        {"a": ["\\boxed{18}"] * 3 + ["\\boxed{17}"], **{k: [f"\\boxed{{{v}}}"] * 4 for k, v in same.items()}}
    )
    summary = filter(world.recipe, world.run, show=Show(1))
    assert summary.suspect_references == 1
    assert world.rows("suspect_references") == [
        {
            "prompt_id": "a",
            "question": "What is 9 * 2?",
            "reference": "17",
            "majority_answer": "18",
            "count": 3,
            "samples": 4,
        }
    ]
    assert "1 reference may be wrong (most samples agree" in capsys.readouterr().err
    world.write_problems(PROBLEMS)
    assert filter(world.recipe, world.run).suspect_references == 0
    assert world.rows("suspect_references") == []
    assert (
        json.loads((world.run.folder / "filter/latest/summary.json").read_text())["suspect_references"] == 0
    )
