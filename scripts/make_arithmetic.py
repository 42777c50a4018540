#!/usr/bin/env python3
"""Write the problem set of the "arithmetic" example: seeded one- and two-step word problems with integer answers.

In: a seed. Out: train.jsonl, validation.jsonl, heldout.jsonl (the templates of SEEN) and unseen.jsonl (those of
UNSEEN). The same seed gives the same bytes. No question stands in two files, and no two problems share both the
template and the numbers, so that a held-out question is never a training question with another name in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

SIZES = {"train": 200, "validation": 200, "heldout": 240, "unseen": 108}
"""Problems per file; every template of the file gets the same number, give or take one."""

PEOPLE = (
    *(
        (name, "she")
        for name in "Ana Bella Chen Dina Ella Fatima Grace Hana Iris Julia Kira Lena Mei Nora".split()
    ),
    *(
        (name, "he")
        for name in "Adam Ben Carlos David Emil Felix George Hugo Ivan Jonas Kofi Leo Marco Omar".split()
    ),
)
THINGS = "apples books buttons cards coins cookies marbles pencils pens shells stamps stickers".split()
BOXES = "bags baskets boxes crates drawers jars".split()
GOODS = "balls cups hats kites maps mugs plants toys".split()


@dataclass(frozen=True)
class Draw:
    """What a template fills in: numbers decide the answer, words only vary the text."""

    numbers: tuple[int, ...]
    words: Mapping[str, str]


@dataclass(frozen=True)
class Template:
    """One kind of problem: a text with slots, how to draw its numbers, and the answer they give."""

    name: str
    operation: str
    steps: int
    text: str
    numbers: Callable[[Random], tuple[int, ...]]
    answer: Callable[..., int]


def _between(*ranges: tuple[int, int]) -> Callable[[Random], tuple[int, ...]]:
    """Return a drawer of one number per inclusive range."""
    return lambda rng: tuple(rng.randint(low, high) for low, high in ranges)


def _part_of(low: int, high: int, least: int = 3) -> Callable[[Random], tuple[int, ...]]:
    """Return a drawer of a whole and a smaller part of it."""

    def draw(rng: Random) -> tuple[int, ...]:
        whole = rng.randint(low, high)
        return whole, rng.randint(least, whole - least)

    return draw


def _shares(parts: tuple[int, int], each: tuple[int, int]) -> Callable[[Random], tuple[int, ...]]:
    """Return a drawer of a total and the number of equal parts that divides it."""

    def draw(rng: Random) -> tuple[int, ...]:
        count = rng.randint(*parts)
        return count * rng.randint(*each), count

    return draw


def _packs_less(rng: Random) -> tuple[int, ...]:
    count, each = rng.randint(2, 6), rng.randint(3, 9)
    return count, each, rng.randint(1, count * each - 2)


def _sum_less(rng: Random) -> tuple[int, ...]:
    first, second = rng.randint(6, 30), rng.randint(4, 20)
    return first, second, rng.randint(2, first + second - 2)


SEEN = (
    Template(
        "get_more",
        "add",
        1,
        "{name} has {0} {things}. {name} gets {1} more {things}. How many {things} does {name} have now?",
        _between((5, 60), (3, 40)),
        lambda a, b: a + b,
    ),
    Template(
        "give_away",
        "subtract",
        1,
        "{name} has {0} {things}. {She} gives {1} of them to {friend}. How many {things} does {name} have left?",
        _part_of(10, 70),
        lambda a, b: a - b,
    ),
    Template(
        "full_boxes",
        "multiply",
        1,
        "There are {0} {boxes}. Each of the {boxes} holds {1} {things}. How many {things} are there in all?",
        _between((2, 9), (3, 12)),
        lambda a, b: a * b,
    ),
    Template(
        "share",
        "divide",
        1,
        "{name} shares {0} {things} equally among {1} children. How many {things} does each child get?",
        _shares((2, 9), (2, 12)),
        lambda a, b: a // b,
    ),
    Template(
        "price",
        "multiply",
        1,
        "{goods} cost {1} dollars each. {name} buys {0} of them. How many dollars does {name} pay?",
        _between((2, 9), (2, 12)),
        lambda a, b: a * b,
    ),
    Template(
        "pack_up",
        "divide",
        1,
        "{name} packs {0} {things} into {boxes}. {She} puts {1} {things} into each. How many {boxes} does {name} fill?",
        _shares((2, 9), (2, 12)),
        lambda a, b: a // b,
    ),
    Template(
        "how_many_more",
        "subtract",
        1,
        "{name} has {0} {things}. {friend} has {1} {things}. How many more {things} does {name} have than {friend}?",
        _part_of(10, 60),
        lambda a, b: a - b,
    ),
    Template(
        "three_days",
        "add",
        2,
        "{name} finds {0} {things} on Monday, {1} on Tuesday and {2} on Friday. How many {things} is that in all?",
        _between((2, 20), (2, 20), (2, 20)),
        lambda a, b, c: a + b + c,
    ),
    Template(
        "get_then_give",
        "add, subtract",
        2,
        "{name} has {0} {things}. {She} buys {1} more and then gives {2} to {friend}. How many {things} are left?",
        _sum_less,
        lambda a, b, c: a + b - c,
    ),
    Template(
        "boxes_and_loose",
        "multiply, add",
        2,
        "{name} has {0} {boxes} with {1} {things} each, and {2} loose {things}. How many {things} does {name} have?",
        _between((2, 6), (3, 9), (2, 20)),
        lambda a, b, c: a * b + c,
    ),
)

UNSEEN = (
    Template(
        "age",
        "add",
        1,
        "{name} is {0} years old. {friend} is {1} years older than {name}. How old is {friend}?",
        _between((4, 40), (2, 30)),
        lambda a, b: a + b,
    ),
    Template(
        "pages_left",
        "subtract",
        1,
        "A book has {0} pages. {name} has read {1} pages. How many pages are still to read?",
        _part_of(20, 90),
        lambda a, b: a - b,
    ),
    Template(
        "rows_of_seats",
        "multiply",
        1,
        "A hall has {0} rows of seats with {1} seats in every row. How many seats does the hall have?",
        _between((2, 9), (3, 12)),
        lambda a, b: a * b,
    ),
    Template(
        "walking",
        "divide",
        1,
        "{name} walks {0} miles in {1} days, the same distance every day. How many miles does {name} walk in a day?",
        _shares((2, 9), (2, 12)),
        lambda a, b: a // b,
    ),
    Template(
        "bus",
        "subtract, add",
        2,
        "A bus carries {0} people. At a stop {1} people get off and {2} get on. How many people are on the bus now?",
        lambda rng: (*_part_of(10, 50)(rng), rng.randint(2, 20)),
        lambda a, b, c: a - b + c,
    ),
    Template(
        "eggs_broken",
        "multiply, subtract",
        2,
        "{name} buys {0} cartons of {1} eggs and breaks {2} eggs. How many whole eggs does {name} have?",
        _packs_less,
        lambda a, b, c: a * b - c,
    ),
)


def _words(rng: Random) -> dict[str, str]:
    (name, pronoun), (friend, _) = rng.sample(PEOPLE, 2)
    return {
        "name": name,
        "friend": friend,
        "She": pronoun.capitalize(),
        "things": rng.choice(THINGS),
        "boxes": rng.choice(BOXES),
        "goods": rng.choice(GOODS).capitalize(),
    }


def _draw(template: Template, rng: Random, used: set[tuple[str, tuple[int, ...]]]) -> Draw:
    """Return a draw whose numbers this template has not used yet, and note them in `used`."""
    for _ in range(1000):
        numbers = template.numbers(rng)
        if (template.name, numbers) not in used:
            used.add((template.name, numbers))
            return Draw(numbers, _words(rng))
    raise ValueError(
        f"Template {template.name} has no unused numbers left: widen its ranges or ask for fewer problems."
    )


def _problem(split: str, index: int, template: Template, draw: Draw) -> dict[str, object]:
    return {
        "id": f"arithmetic-{split}-{index:03}",
        "question": template.text.format(*draw.numbers, **draw.words),
        "answer": str(template.answer(*draw.numbers)),
        "answer_kind": "math",
        "tags": {
            "template": template.name,
            "steps": template.steps,
            "operation": template.operation,
            "split": split,
        },
    }


def make_problems(seed: int) -> dict[str, list[dict[str, object]]]:
    """Return the rows of each file, file name without suffix -> rows."""
    rng, used = Random(seed), set[tuple[str, tuple[int, ...]]]()
    files: dict[str, list[dict[str, object]]] = {}
    for split, size in SIZES.items():
        templates = UNSEEN if split == "unseen" else SEEN
        chosen = [templates[index % len(templates)] for index in range(size)]
        files[split] = [_problem(split, index, t, _draw(t, rng, used)) for index, t in enumerate(chosen)]
    return files


def check_disjoint(files: Mapping[str, list[dict[str, object]]]) -> None:
    """Raise ValueError if a question stands twice, in one file or in two."""
    seen: dict[object, str] = {}
    for split, rows in files.items():
        for row in rows:
            if row["question"] in seen:
                raise ValueError(f"In {seen[row['question']]} and again in {split}: {row['question']}")
            seen[row["question"]] = split


def write_problems(files: Mapping[str, list[dict[str, object]]], out: Path) -> None:
    """Write one JSONL file per split into `out`, byte for byte the same for the same rows."""
    out.mkdir(parents=True, exist_ok=True)
    for split, rows in files.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


def main() -> None:
    """Parse the command line, make the problems, check them, write them, and say how many."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("data/arithmetic"), metavar="DIR", help="where to write"
    )
    arguments = parser.parse_args()
    files = make_problems(arguments.seed)
    check_disjoint(files)
    write_problems(files, arguments.out)
    print(", ".join(f"{len(rows)} {split}" for split, rows in files.items()), "problems in", arguments.out)


if __name__ == "__main__":
    main()
