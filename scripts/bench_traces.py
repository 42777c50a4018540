"""Makes the file that bench_filter.py filters: seeded traces in the manner of R1, with planted and labelled faults.

Out: JSONL rows {row, question, response, reference, finish_reason, usage, model}, the samples of a problem one after the
other, and beside it labels.jsonl {row, fault} with one line per row. Faults are rare and independent of each other:

  exact   the text of an earlier sample of the problem        loop    a passage that comes again and again
  near    the same with one word in a hundred changed         cut     ends in mid-thought, or before the answer's box
  empty   nothing inside the think tags                       wrong   another final answer
  good    none of these

The mathematics makes no sense; vocabulary, length, answer kinds and the share of answers that need computer algebra do.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

SAMPLES = 8
MEAN_CHARS = 7_600
SHARES = {"exact": 0.015, "near": 0.015, "loop": 0.015, "cut": 0.015, "empty": 0.015, "wrong": 0.12}
OPENERS = (
    "Wait,", "Hmm,", "Okay, so", "Alternatively,", "Let me check:", "So", "But", "Therefore,", "First,", "Now,",
    "Let me think again.", "Since that holds,", "In other words,", "Hold on,", "Right,", "Actually,", "To verify,", "Then",
    "Let me recompute.", "That means", "Next,", "Another way:", "Maybe", "I think", "Good,", "From this,", "Because of that,",
)  # fmt: skip
CLAUSES = (
    "if {x} equals {a}, the left side becomes {a} times {b}, which is {p}",
    "the sum of {a} and {b} is {s}, and that leaves {c} for the last case",
    "dividing {p} by {b} gives {a} again, so this step is consistent",
    "substituting {x} = {c} into ${e}$ we get {s} on the right",
    "the equation ${e} = {p}$ has a solution near {x} = {a}",
    "we need to count the pairs with difference {b} among the first {s} numbers",
    "the remainder of {p} modulo {c} is what matters, not {s} itself",
    "I could factor ${e}$ and compare it with ${f}$ term by term",
    "each of the {a} groups has {b} members, so there are {p} of them in all",
    "multiplying both sides by {b} turns it into ${f} = {p}$",
    "that can't be right, because {s} is larger than {a} but smaller than {p}",
    "the area would be $\\frac{{{a}}}{{{b}}}$ of the square with side {c}",
    "the triangle with sides {a}, {b} and {c} doesn't have a right angle",
    "let {x} be the number of steps after minute {a}, counted from {b}",
    "the probability of that is $\\frac{{{b}}}{{{s}}}$, about one in {c}",
    "by symmetry the case {x} = {b} looks exactly like the case {x} = {c}",
    "it says at least {a}, so I have to include {a} itself but not {s}",
    "the square root of {p} lies between {a} and {s}, closer to {b}",
    "I get ${e}$ when I expand it, and the constant term is {c}",
    "the problem asks for {x}, not for ${f}$, so I must solve once more",
    "the average of {a}, {b} and {c} isn't an integer here",
    "adding the {c} that we took away before, the total comes to {s}",
    "we have $({x} - {a})({x} + {b}) = {c}$ as the condition",
    "the sequence goes {a}, {b}, {s}, {p}, and every term grows faster",
    "using the formula with n = {a} and k = {b}, I find {p} ways",
    "both {a} and {b} divide {p}, and their common factor is at most {c}",
    "I should double check the arithmetic: {a} * {b} = {p}",
    "the slope between ({a}, {b}) and ({c}, {s}) is negative, which fits",
    "when {x} tends to {a}, the term ${f}$ dominates everything else",
    "there are {c} choices left over, which is less than {a} but enough",
    "the last digit of {p} tells us that {x} must be odd",
    "expanding gives ${e} + {c}{x}$, hence the coefficient of {x} is {b}",
    "that would need {s} minutes at a rate of {a} per hour",
    "the smallest such number is {b} and the largest one is {p}",
    "comparing ${e}$ with ${f}$ shows where the {c} comes from",
    "no multiple of {c} between {a} and {s} satisfies both conditions",
)  # fmt: skip
CLOSERS = (". ", ". ", ". ", ". ", "? ", ", right? ", ". Yes. ", ". Hmm. ", ".\n\n", ".\n\n", ".\n\n", ".\n")


class Answer(NamedTuple):
    """What a problem's final answer looks like."""

    reference: str
    right: tuple[str, ...]
    """Spellings of it, the usual one first."""
    wrong: tuple[str, ...]


def integer(rng: random.Random) -> Answer:
    """A whole number, sometimes with a separator or a unit."""
    n = rng.choice((rng.randint(2, 99), rng.randint(100, 9_999), rng.randint(10_000, 999_999)))
    return Answer(
        str(n),
        (str(n), f"{n:,}".replace(",", "{,}"), f"{n} \\text{{ cm}}"),
        (str(n + 1), str(2 * n), str(n - 1)),
    )


def fraction(rng: random.Random) -> Answer:
    """A proper fraction, spelled with frac, dfrac or a slash."""
    value = Fraction(rng.randint(1, 30), rng.choice((7, 9, 11, 13, 16)))
    top, bottom = value.numerator, value.denominator
    right = (f"\\frac{{{top}}}{{{bottom}}}", f"\\dfrac{{{top}}}{{{bottom}}}", f"{top}/{bottom}")
    return Answer(
        right[0], right, (f"\\frac{{{bottom}}}{{{top + 31}}}", f"\\frac{{{top + bottom + 1}}}{{{bottom}}}")
    )


def decimal(rng: random.Random) -> Answer:
    """Hundredths, or dollars."""
    cents = rng.randint(101, 9_999)
    text = f"{cents / 100:.2f}"
    return Answer(
        text,
        (text, f"\\${text}", text.rstrip("0").rstrip(".")),
        (f"{(cents + 10) / 100:.2f}", f"{cents / 10:.1f}"),
    )


def expression(rng: random.Random) -> Answer:
    """A root, a polynomial or a multiple of pi: other spellings and wrong ones are for computer algebra."""
    a, b = rng.randint(2, 9), rng.choice((2, 3, 5, 6, 7))
    if rng.random() < 0.4:
        return Answer(
            f"{a}\\sqrt{{{b}}}", (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}"), (f"{a + 1}\\sqrt{{{b}}}",)
        )
    if rng.random() < 0.5:
        right = (f"x^2+{a + b}x+{a * b}", f"(x+{a})(x+{b})")
        return Answer(right[0], right, (f"x^2+{a}x+{b}", f"x^2-{a + b}x+{a * b}"))
    return Answer(
        f"\\frac{{{a}\\pi}}{{{11}}}", (f"\\frac{{{a}\\pi}}{{11}}", f"\\frac{{{a}}}{{11}}\\pi"), (f"{a}\\pi",)
    )


def point(rng: random.Random) -> Answer:
    """A pair of numbers."""
    a, b = rng.randint(-9, 9), rng.randint(1, 20)
    return Answer(
        f"({a}, {b})", (f"({a}, {b})", f"({a},{b})", f"\\left({a}, {b}\\right)"), (f"({b}, {a - 1})",)
    )


KINDS: tuple[tuple[Callable[[random.Random], Answer], float], ...] = (
    (integer, 0.55), (fraction, 0.14), (decimal, 0.09), (expression, 0.17), (point, 0.05),
)  # fmt: skip


class Maker:
    """The samples of one problem."""

    def __init__(self, seed: int, problem: int) -> None:
        self.rng = random.Random(f"{seed}/{problem}")
        self.numbers = [self.rng.randint(2, 97) for _ in range(12)]
        self.name = self.rng.choice("xyznkmt")
        self.answer = self.rng.choices([kind for kind, _ in KINDS], [share for _, share in KINDS])[0](
            self.rng
        )
        self.question = (
            f"Problem {problem + 1}: {self.sentence()}Find the value that is asked for. "
            "Please reason step by step, and put your final answer within \\boxed{}."
        )
        self.earlier: list[str] = []
        """Texts without a fault of form, to be copied."""

    def sentence(self) -> str:
        """One sentence with numbers of the problem, and some that are not."""
        rng, pick = self.rng, self.numbers
        a, b, c = rng.choice(pick), rng.choice(pick), rng.randint(2, 60)
        e, f = f"{a}{self.name}^2 - {c}{self.name}", f"{self.name}({b} + {c})"
        clause = rng.choice(CLAUSES).format(a=a, b=b, c=c, p=a * b, s=a + b, x=self.name, e=e, f=f)
        return f"{rng.choice(OPENERS)} {clause}{rng.choice(CLOSERS)}"

    def thoughts(self, chars: int) -> list[str]:
        """Sentences of about so many characters together."""
        found, size = [], 0
        while size < chars:
            found.append(self.sentence())
            size += len(found[-1])
        return found

    def sample(self) -> tuple[str, str]:
        """(response, fault)."""
        fault = self._fault()
        if fault in ("exact", "near"):
            text = self.rng.choice(self.earlier)
            return (text if fault == "exact" else self._edited(text)), fault
        chars = int(MEAN_CHARS * math.exp(self.rng.gauss(-0.03, 0.25)))
        thoughts = self.thoughts(chars)
        if fault == "loop":
            thoughts = self._looped(thoughts)
        final = self._final(wrong=fault == "wrong")
        text = "" if fault == "empty" else "".join(thoughts).strip()
        if fault == "cut":
            return self._cut(text, final), fault
        response = f"<think>\n{text}\n</think>\n\n{final}"
        if fault in ("good", "wrong"):
            self.earlier.append(response)
        return response, fault

    def _fault(self) -> str:
        draw = self.rng.random()
        for fault, share in SHARES.items():
            draw -= share
            if draw < 0:
                return fault if self.earlier or fault not in ("exact", "near") else "good"
        return "good"

    def _edited(self, text: str) -> str:
        """One word in a hundred of the reasoning becomes another."""
        head, closing, final = text.partition("\n</think>")
        words = head.split(" ")
        for at in self.rng.sample(range(1, len(words)), max(1, len(words) // 100)):
            words[at] = self.rng.choice(("indeed", "surely", "again", "exactly", "roughly", "perhaps"))
        return " ".join(words) + closing + final

    def _looped(self, thoughts: list[str]) -> list[str]:
        """A sentence, a paragraph or three words come again, somewhere or until the end."""
        at, length, copies = self.rng.choice(
            ((0.3, 1, 24), (0.5, 4, 12), (0.9, 1, 40), (0.8, 9, 10), (1.0, 0, 200))
        )
        cut = int(at * len(thoughts))
        passage = "".join(self.thoughts(length * 70)) if length else "Wait, no. "
        return [*thoughts[:cut], *([passage] * copies), *thoughts[cut:]]

    def _cut(self, text: str, final: str) -> str:
        """Four in five end inside the thought, the others before the box."""
        if self.rng.random() < 0.8:
            return f"<think>\n{text[: int(len(text) * self.rng.uniform(0.3, 0.95))]}"
        return f"<think>\n{text}\n</think>\n\n{final.partition('**Final')[0].rstrip()}"

    def _final(self, wrong: bool) -> str:
        usual = self.rng.random() < 0.8
        known = self.answer.wrong if wrong else self.answer.right[:1] if usual else self.answer.right
        steps = " ".join(self.sentence().strip() for _ in range(self.rng.randint(2, 5)))
        return f"I go through it in steps.\n\n{steps}\n\n**Final answer**\n\n\\[\\boxed{{{self.rng.choice(known)}}}\\]"


def rows(count: int, seed: int = 0) -> Iterator[tuple[dict[str, Any], str]]:
    """`count` rows with their fault."""
    for number in range(count):
        if number % SAMPLES == 0:
            maker = Maker(seed, number // SAMPLES)
        response, fault = maker.sample()
        tokens = len(response) // 4
        yield {
            "row": number, "question": maker.question, "response": response, "reference": maker.answer.reference,
            "finish_reason": "length" if fault == "cut" else "stop",
            "usage": {"prompt_tokens": len(maker.question) // 4, "completion_tokens": tokens}, "model": "r1-like",
        }, fault  # fmt: skip


def write_traces(folder: Path, count: int, seed: int = 0) -> Path:
    """The path of traces.jsonl with `count` rows in `folder`, made with labels.jsonl unless it is there already."""
    path, labels = folder / "traces.jsonl", folder / "labels.jsonl"
    if labels.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file, (folder / "labels.part").open("w") as side:
        for row, fault in rows(count, seed):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            side.write(json.dumps({"row": row["row"], "fault": fault}) + "\n")
    (folder / "labels.part").replace(labels)
    return path


def read_labels(folder: Path) -> list[str]:
    """The fault of each row, in order."""
    return [json.loads(line)["fault"] for line in (folder / "labels.jsonl").read_text().splitlines()]
