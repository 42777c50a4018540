#!/usr/bin/env python3
"""Write the problems of the "arithmetic" example: seeded word problems of one or two steps, integer answers.

In: a seed. Out: train.jsonl, validation.jsonl and heldout.jsonl (templates of SEEN) and unseen.jsonl
(templates of UNSEEN). The same seed gives the same bytes. No question stands in two files, and no two problems
share both template and numbers: a held-out question is never a training question with another name in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

SIZES = {"train": 200, "validation": 200, "heldout": 200, "unseen": 60}
"""Problems per file; every template of a file gets the same number, give or take one."""

NAMES = (
    *("Ana", "Bella", "Chen", "Dina", "Ella", "Fatima", "Grace", "Hana", "Iris", "Julia", "Kira", "Mei", "Nora"),
    *("Adam", "Ben", "Carlos", "David", "Emil", "Felix", "George", "Hugo", "Ivan", "Jonas", "Kofi", "Leo", "Omar"),
)  # fmt: skip
THINGS = ("apples", "books", "buttons", "cards", "coins", "cookies", "marbles", "pencils", "shells", "stamps")
BOXES = ("bags", "baskets", "boxes", "crates", "drawers", "jars")
GOODS = ("Balls", "Cups", "Hats", "Kites", "Maps", "Mugs", "Plants", "Toys")

Numbers = tuple[int, ...]
DrawNumbers = Callable[[Random], Numbers]


@dataclass(frozen=True)
class Template:
    """One kind of problem: how to draw its numbers, the answer they give, and a text with slots for them."""

    name: str
    operation: str
    numbers: DrawNumbers
    answer: Callable[..., int]
    text: str


def each_of(*ranges: tuple[int, int]) -> DrawNumbers:
    """Return a drawer of one number from each inclusive range."""
    return lambda rng: tuple(rng.randint(low, high) for low, high in ranges)


def part_of(low: int, high: int) -> DrawNumbers:
    """Return a drawer of a whole between low and high, and of a smaller part of it."""

    def draw(rng: Random) -> Numbers:
        whole = rng.randint(low, high)
        return whole, rng.randint(2, whole - 2)

    return draw


def shares(parts: tuple[int, int], each: tuple[int, int]) -> DrawNumbers:
    """Return a drawer of a total, and of a number of parts that divides it."""

    def draw(rng: Random) -> Numbers:
        count = rng.randint(*parts)
        return count * rng.randint(*each), count

    return draw


def less_than(result: Callable[..., int], numbers: DrawNumbers) -> DrawNumbers:
    """Return a drawer of `numbers`, and of one more below the result that they give so far."""

    def draw(rng: Random) -> Numbers:
        drawn = numbers(rng)
        return *drawn, rng.randint(2, min(9, result(*drawn) - 1))

    return draw


SEEN = (
    Template(
        "get_more", "add", each_of((2, 20), (2, 15)), lambda a, b: a + b,
        "{name} has {0} {things}. {name} gets {1} more {things}. How many {things} does {name} have now?",
    ),
    Template(
        "give_away", "subtract", part_of(6, 20), lambda a, b: a - b,
        "{name} has {0} {things}. {name} gives {1} {things} to {friend}. How many {things} are left?",
    ),
    Template(
        "full_boxes", "multiply", each_of((2, 9), (2, 12)), lambda a, b: a * b,
        "There are {0} {boxes}. Each of the {boxes} holds {1} {things}. How many {things} are there in all?",
    ),
    Template(
        "share", "divide", shares((2, 9), (2, 12)), lambda a, b: a // b,
        "{name} shares {0} {things} equally among {1} children. How many {things} does each child get?",
    ),
    Template(
        "price", "multiply", each_of((2, 9), (2, 12)), lambda a, b: a * b,
        "{goods} cost {1} dollars each. {name} buys {0} of them. How many dollars does {name} pay?",
    ),
    Template(
        "rope", "divide", shares((2, 9), (2, 12)), lambda a, b: a // b,
        "{name} cuts {0} feet of rope into {1} equal pieces. How many feet long is each piece?",
    ),
    Template(
        "two_colors", "add", each_of((2, 20), (2, 15)), lambda a, b: a + b,
        "{name} has {0} red {things} and {1} blue {things}. How many {things} does {name} have in all?",
    ),
    Template(
        "every_day", "multiply", each_of((2, 9), (2, 12)), lambda a, b: a * b,
        "{name} reads {1} pages every day. How many pages does {name} read in {0} days?",
    ),
    Template(
        "get_then_give", "add, subtract", less_than(lambda a, b: a + b, each_of((4, 15), (2, 9))),
        lambda a, b, c: a + b - c,
        "{name} has {0} {things}. {name} buys {1} more and then gives {2} away. How many {things} are left?",
    ),
    Template(
        "boxes_and_loose", "multiply, add", each_of((2, 6), (2, 9), (2, 9)), lambda a, b, c: a * b + c,
        "{name} has {0} {boxes} with {1} {things} each, and {2} loose {things}. How many {things} in all?",
    ),
)  # fmt: skip

UNSEEN = (
    Template(
        "age", "add", each_of((3, 20), (2, 15)), lambda a, b: a + b,
        "{name} is {0} years old. {friend} is {1} years older than {name}. How old is {friend}?",
    ),
    Template(
        "pages_left", "subtract", part_of(6, 20), lambda a, b: a - b,
        "A story has {0} pages. {name} has read {1} pages. How many pages are still to read?",
    ),
    Template(
        "rows_of_seats", "multiply", each_of((2, 9), (2, 12)), lambda a, b: a * b,
        "A hall has {0} rows of seats with {1} seats in every row. How many seats does the hall have?",
    ),
    Template(
        "walking", "divide", shares((2, 9), (2, 12)), lambda a, b: a // b,
        "{name} walks {0} miles in {1} days, equally far every day. How many miles is that per day?",
    ),
    Template(
        "bus", "subtract, add", lambda rng: (*part_of(6, 20)(rng), rng.randint(2, 9)),
        lambda a, b, c: a - b + c,
        "A bus carries {0} people. At a stop {1} get off and {2} get on. How many people are on the bus now?",
    ),
    Template(
        "broken_eggs", "multiply, subtract", less_than(lambda a, b: a * b, each_of((2, 6), (3, 9))),
        lambda a, b, c: a * b - c,
        "{name} buys {0} cartons of {1} eggs and breaks {2} eggs. How many whole eggs does {name} have?",
    ),
)  # fmt: skip


def draw_words(rng: Random) -> dict[str, str]:
    """Return the words that vary a question without changing its answer."""
    name, friend = rng.sample(NAMES, 2)
    things, boxes, goods = rng.choice(THINGS), rng.choice(BOXES), rng.choice(GOODS)
    return {"name": name, "friend": friend, "things": things, "boxes": boxes, "goods": goods}


def draw_numbers(template: Template, rng: Random, used: set[tuple[str, Numbers]]) -> Numbers:
    """Return numbers that this template has not had yet, and note them in `used`; ValueError if none is left."""
    for _ in range(10_000):
        key = template.name, template.numbers(rng)
        if key not in used:
            used.add(key)
            return key[1]
    raise ValueError(
        f"Template {template.name} ran out of numbers: widen its ranges or ask for fewer problems."
    )


def make_problem(
    split: str, index: int, template: Template, numbers: Numbers, rng: Random
) -> dict[str, object]:
    """Return one row of a problem file."""
    steps = template.operation.count(",") + 1
    tags = {"template": template.name, "steps": steps, "operation": template.operation, "split": split}
    return {
        "id": f"arithmetic-{split}-{index:03}",
        "question": template.text.format(*numbers, **draw_words(rng)),
        "answer": str(template.answer(*numbers)),
        "answer_kind": "math",
        "tags": tags,
    }


def make_files(seed: int) -> dict[str, list[dict[str, object]]]:
    """Return the rows of each file: split name -> rows."""
    rng, used = Random(seed), set[tuple[str, Numbers]]()
    files: dict[str, list[dict[str, object]]] = {}
    for split, size in SIZES.items():
        templates = UNSEEN if split == "unseen" else SEEN
        chosen = [templates[index % len(templates)] for index in range(size)]
        files[split] = [
            make_problem(split, i, t, draw_numbers(t, rng, used), rng) for i, t in enumerate(chosen)
        ]
    return files


def check_disjoint(files: Mapping[str, list[dict[str, object]]]) -> None:
    """Raise ValueError if a question stands twice, in one file or in two."""
    found: dict[object, str] = {}
    for split, rows in files.items():
        for question in (row["question"] for row in rows):
            if question in found:
                raise ValueError(f"In {found[question]} and again in {split}: {question}")
            found[question] = split


def write_files(files: Mapping[str, list[dict[str, object]]], out: Path) -> None:
    """Write one JSONL file per split into `out`: the same rows, the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    for split, rows in files.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


def main() -> None:
    """Make the problems, check them, write them, and say how many there are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("data/arithmetic"), metavar="DIR", help="where to write"
    )
    arguments = parser.parse_args()
    files = make_files(arguments.seed)
    check_disjoint(files)
    write_files(files, arguments.out)
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in files.items())
    print(f"{counts} problems in {arguments.out}")


if __name__ == "__main__":
    main()
