"""Contamination: planted benchmark questions are found, whatever their numbers and instructions; clean ones are not."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.checks import build_checks
from r1distill.checks.base import Check, Judgement
from r1distill.checks.contamination import (
    INSTRUCTIONS,
    Benchmarks,
    Contamination,
    instruction_patterns,
    masked_ngrams,
    says_something,
    without_instructions,
)
from r1distill.checks.keys import check_identity
from r1distill.errors import InputError, RecipeError
from r1distill.records import Message, Prompt, Trace, canonical_json

TRACE = Trace(
    id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
    reasoning="", answer="", finish="stop",
)  # fmt: skip
FARM = (
    "A farmer keeps 12 hens and 7 geese in a shed. Each hen lays 5 eggs and each goose 2 eggs a week. "
    "How many eggs does he gather in 3 weeks?"
)
NAMES = [
    "Ann",
    "Bob",
    "Cleo",
    "Dan",
    "Eve",
    "Finn",
    "Gus",
    "Hana",
    "Ivo",
    "Jo",
    "Kim",
    "Lea",
    "Max",
    "Nora",
    "Otto",
    "Pia",
]
THINGS = [
    "apples",
    "boats",
    "cards",
    "drums",
    "eggs",
    "flags",
    "gloves",
    "hats",
    "kites",
    "lamps",
    "maps",
    "nails",
    "pens",
    "rings",
    "shoes",
    "toys",
]
DEEDS = [
    "buys",
    "sells",
    "paints",
    "counts",
    "loses",
    "borrows",
    "hides",
    "packs",
    "mends",
    "trades",
    "sorts",
    "wraps",
    "finds",
]
PLACES = [
    "market",
    "harbour",
    "school",
    "garden",
    "station",
    "museum",
    "forest",
    "library",
    "kitchen",
    "valley",
    "island",
    "tower",
]


def built(folder: Path, **options: Any) -> Check:
    return build_checks({"contamination": {"benchmarks": ["bench.txt"], **options}}, folder)["contamination"]


def judged(check: Check, question: str) -> Judgement:
    return check.judge(check.measure(Prompt("p", question), TRACE))


def outcome(check: Check, question: str) -> str:
    return judged(check, question).outcome


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    (tmp_path / "bench.txt").write_text(
        f"Which of the four seasons has the longest days in Norway, and why is that so?\n\n{FARM}\nWhat is 9 * 2?\n"
    )
    return tmp_path


def story(rng: random.Random) -> str:
    one, other = rng.sample(NAMES, 2)
    parts = [
        f"{rng.choice((one, other))} {rng.choice(DEEDS)} {rng.randint(2, 99)} {rng.choice(THINGS)} and {rng.choice(DEEDS)} "
        f"{rng.randint(2, 99)} {rng.choice(THINGS)} near the {rng.choice(PLACES)}"
        for _ in range(5)
    ]
    return f"{'. '.join(parts)}. How many {rng.choice(THINGS)} has {one} got left?"


def disguised(rng: random.Random, question: str) -> str:
    """Other numbers, another case, other white space, and an instruction."""
    question = re.sub(r"\d+", lambda _: str(rng.randint(2, 9999)), question)
    question = rng.choice((question.upper(), question.replace(" ", "\n "), f"**Problem.** {question}"))
    tail = " Please reason step by step, and put your final answer within \\boxed{}."
    return question + (tail if rng.random() < 0.5 else "")


def test_all_planted_are_found_and_no_other(tmp_path: Path) -> None:
    rng = random.Random(11)
    bench = [story(rng) for _ in range(400)]
    (tmp_path / "bench.txt").write_text("\n".join(bench))
    check = built(tmp_path)
    planted = rng.sample(range(400), 200)
    for number in planted:
        found = judged(check, disguised(rng, bench[number]))
        assert found.outcome == "FAIL" and found.detail.startswith(f"bench.txt:{number + 1}:")
    clean = [story(rng) for _ in range(1000)]
    assert [q for q in clean if outcome(check, q) != "PASS"] == []


def test_the_matching_pair_is_named(farm: Path) -> None:
    found = judged(built(farm), f"Solve this. {FARM.replace('12', '30')} Show your work.")
    assert (found.reason, found.score) == ("like bench.txt", 1.0)
    assert found.detail == 'bench.txt:3: "a farmer keeps 0 hens and 0 geese"'
    whole = judged(built(farm), FARM)
    assert whole.reason == found.reason
    assert whole.detail.startswith('bench.txt:3: "a farmer keeps 12 hens and 7 geese in a shed')


def test_the_overlap_decides(farm: Path) -> None:
    part = "My sister says that each hen lays 4 eggs and each goose 1 egg, which I doubt. What would you tell her then?"
    overlap = judged(built(farm), part).score
    assert overlap is not None and 0 < overlap < 0.2
    assert outcome(built(farm), part) == "PASS" and outcome(built(farm, min_overlap=0), part) == "FAIL"
    assert (
        outcome(built(farm, min_overlap=0), "What is the colour of the sky on a clear day in June?") == "PASS"
    )
    assert outcome(built(farm, words=15, min_overlap=0), part) == "PASS"
    assert judged(built(farm), "Each hen lays 3 eggs and each goose 9 eggs a week.").score == 1.0


def test_short_questions_match_whole_with_their_numbers_and_signs(farm: Path) -> None:
    check = built(farm)
    tail = " Please reason step by step, and put your final answer within \\boxed{}."
    for same in ("what is  9*2", "What is 9 * 2?" + tail, "Let's think step by step. What is 9 * 2?"):
        found = judged(check, same)
        assert (found.outcome, found.score, found.reason) == ("FAIL", 1.0, "like bench.txt")
        assert found.detail.startswith('bench.txt:4: "')
    for other in ("What is 9 + 2?", "What is 8 * 2?", "What is 9 * 2 * 3?", tail):
        assert outcome(check, other) == "PASS"


def test_instructions_alone_are_no_match(tmp_path: Path) -> None:
    tail = " ".join((*INSTRUCTIONS, "Write like a pirate who has only just learned to write today."))
    (tmp_path / "bench.txt").write_text(f"{FARM} {tail}\n{tail}\n")
    other = f"How tall is the Eiffel tower? {tail}"
    assert outcome(built(tmp_path), other) == "FAIL"
    assert outcome(built(tmp_path, ignore=(tail,)), tail) == "PASS"
    assert (
        outcome(
            built(tmp_path, ignore=("write like a pirate who has only just learned to write today",)), other
        )
        == "PASS"
    )


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_every_instruction_is_taken_out(instruction: str) -> None:
    patterns = instruction_patterns(INSTRUCTIONS)
    written = instruction.capitalize().replace(" boxed", r" $\boxed{}$").replace(" and", ", and")
    assert re.findall(r"\w+", without_instructions(f"Odd? {written}. Even?", patterns)) == ["odd", "even"]
    assert without_instructions("show your workbook to ann", patterns) == "show your workbook to ann"


def test_formulas_and_rows_of_numbers_are_no_match(tmp_path: Path) -> None:
    (tmp_path / "bench.txt").write_text(
        "Sort the list 4, 8, 15, 16, 23, 42, 108, 7, 9, 10, 3, 99 by digit sums.\n"
    )
    assert (
        outcome(built(tmp_path, min_overlap=0), "Add up 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 13.")
        == "PASS"
    )
    assert not says_something("0 0 x 0 y 0 z 0") and says_something("tom has 0 red and 0 blue hats")


def test_writing_without_spaces(tmp_path: Path) -> None:
    (tmp_path / "bench.txt").write_text(
        "小明有12个苹果，小红比小明多5个苹果，他们一共有多少个苹果？\n", encoding="utf-8"
    )
    assert outcome(built(tmp_path), "小明有30个苹果，小红比小明多8个苹果，他们一共有多少个苹果？") == "FAIL"
    assert outcome(built(tmp_path), "一个长方形的长是8米，宽是3米，求这个长方形的面积和周长。") == "PASS"


def test_files_of_all_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"Problem": "{FARM}"}}\n{{"Problem": null}}\n')
    (tmp_path / "b.csv").write_text(f'q,a\n"{FARM}",1\n')
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbf" + FARM.encode())
    for name, options in (("a.jsonl", {}), ("b.csv", {"column": "q"}), (str(tmp_path / "c.txt"), {})):
        check = built(tmp_path, benchmarks=[name], **options)
        found = judged(check, FARM)
        assert found.reason == f"like {name}"
        assert found.detail.startswith(f"{name}:{2 if name == 'b.csv' else 1}:")


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("datasets").Dataset.from_dict({"question": [FARM]}).to_parquet(
        str(tmp_path / "d.parquet")
    )
    found = judged(built(tmp_path, benchmarks=["d.parquet"]), FARM)
    assert found.reason == "like d.parquet" and found.detail.startswith("d.parquet: row 1:")


@pytest.mark.parametrize(
    ("file", "content", "options", "words"),
    [
        ("gone.txt", None, {}, "There is no benchmark file"),
        ("a.txt", b"\n \n", {}, "holds no question"),
        ("a.txt", b"\xff\xfe\x00", {}, "no UTF-8 text"),
        ("a.jsonl", b'{"q": "x"}', {}, "a.jsonl:1: the benchmark's row has not a question"),
        ("a.jsonl", b'{"q": "x"}', {"column": "r"}, "has not the column 'r'; it has q"),
        ("a.jsonl", b'{"prompt": ["x"]}', {}, "(column 'prompt') is no text"),
        ("a.jsonl", b"{", {}, "no valid JSON"),
        ("a.pdf", b"", {}, "no problem file that can be read"),
    ],
)
def test_bad_files(
    file: str, content: bytes | None, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        built(tmp_path, benchmarks=[file], **options)
    assert words in str(caught.value)


def test_one_file_and_one_phrase_need_no_brackets(farm: Path) -> None:
    check = built(farm, benchmarks="bench.txt", ignore="write like a pirate")
    assert outcome(check, FARM) == "FAIL"
    assert check_identity(check) == check_identity(built(farm, ignore=["write like a pirate"]))


def test_no_benchmark_is_an_error(tmp_path: Path) -> None:
    for table in ({}, {"benchmarks": []}):
        with pytest.raises(RecipeError, match="benchmarks"):
            build_checks({"contamination": table}, tmp_path)


def test_the_identity_names_what_the_files_hold(farm: Path) -> None:
    def identity(**options: Any) -> bytes:
        return canonical_json(check_identity(built(farm, **options)))

    before = identity()
    assert identity(min_overlap=0.5, unjudged="keep") == before
    assert identity(words=9) != before and identity(ignore=("say please",)) != before
    with (farm / "bench.txt").open("a") as file:
        file.write("Is it raining?\n")
    assert identity() != before


def test_a_check_whose_files_are_not_read_says_so() -> None:
    with pytest.raises(ValueError, match="not read"):
        Contamination(benchmarks=("a.txt",)).measure(Prompt("p", FARM), TRACE)


def test_it_travels_to_other_processes(farm: Path) -> None:
    copy = pickle.loads(pickle.dumps(built(farm)))
    assert outcome(copy, FARM) == "FAIL" and copy.reads(Prompt("p", FARM, "1")) == copy.reads(
        Prompt("q", FARM, "2")
    )


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.integers(2, 10))
def test_any_question_matches_itself_and_never_fails(text: str, words: int) -> None:
    known = Benchmarks([("a:1", text), ("a:2", FARM)], words, ())
    found = known.nearest(text)
    assert found is None or (0 < found.overlap <= 1 and found.row in ("a:1", "a:2"))
    if any(says_something(ngram) for ngram in masked_ngrams(without_instructions(text, []), words)):
        assert found is not None
    assert Benchmarks([("a:1", FARM)], words, ()).digest != known.digest
