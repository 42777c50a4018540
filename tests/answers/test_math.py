r"""Grading mathematics: what is right, wrong, or can't be told, and by which tier."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.answers import Grade, Pending, grade, grade_exact
from r1distill.answers.extract import find_marked, last_boxed
from r1distill.answers.math import find_answer
from r1distill.answers.normalise import folded, latex
from r1distill.answers.numbers import read_number

RIGHT = [
    ("18", "The answer is 18."),
    ("18", r"\boxed{18}"),
    ("18", "16 - 3 + 5\n#### 18"),
    ("She has 16 - 3.\n#### 18", r"\boxed{18}"),
    (r"Worked out: \boxed{18}", "Answer: 18"),
    ("1,234", r"\boxed{1234}"),
    ("70000", "#### $70,000"),
    ("18", "**Answer:** 18"),
    ("18", r"The final answer is: $\boxed{18}$."),
    ("18", "The answer is that she has 18 ducks."),
    ("18", "She got 9 * 2 = 18. The answer is 16 + 2 = 18."),
    ("18", "18"),
    ("18", "**18**"),
    ("5", r"I think \boxed{5}. Also \boxed{}"),
    (r"\frac{1}{2}", r"\boxed{0.5}"),
    (r"\frac12", r"$\boxed{\dfrac{1}{2}}$"),
    (r"-\frac{3}{5}", r"\boxed{\frac{-3}{5}}"),
    (r"\frac{3}{5}", r"\boxed{3/5}"),
    (r"3\frac{1}{2}", r"\boxed{3.5}"),
    ("½", r"\boxed{\frac{1}{2}}"),
    ("1/3", r"\boxed{0.33333}"),
    ("3.3333333333333335", r"\boxed{\frac{10}{3}}"),
    (r"x=12 \text{ or } x=4", r"\boxed{(4,12)}"),
    (r"50\%", r"\boxed{50}"),
    (r"50\%", r"\boxed{0.5}"),
    ("10", r"\boxed{\$10}"),
    (r"\$10", "The answer is $10 per day."),
    ("x=5", r"\boxed{5}"),
    ("2, -3", r"\boxed{x = 2, x = -3}"),
    ("2,-3", r"\boxed{-3} and \boxed{2}"),
    ("(1,2)", r"\boxed{\left(1, 2\right)}"),
    (r"\{1,2,3\}", r"\boxed{\{3,2,1\}}"),
    (r"\text{Evelyn}", r"\boxed{Evelyn}"),
    ("90", r"\boxed{90^\circ}"),
    ("12", r"\boxed{12\text{ cm}^2}"),
    (r"864 \mbox{ inches}^2", r"\boxed{864}"),
    ("18", r"\boxed{١٨}"),
    ("-5", r"\boxed{−5}"),
    (r"3 \times 10^5", r"\boxed{300000}"),
    ("1e3", r"\boxed{1000}"),
    ("18", "The answer is 3 times 6, which is 18."),
    ("18", "**Final Answer**\n\n18 dollars"),
    ("18", "The answer is 18. This answer is correct."),
    ("18", "The answer is not 17 but 18."),
    ("1000", r"\boxed{1{,}000}"),
    ("10000", r"\boxed{10\,000}"),
    ("10000", r"\boxed{10,\!000}"),
    ("18", r"\boxed{\text{Total} = 18}"),
    ("18", r"\boxed{18cm}"),
    ("18 men", r"\boxed{18}"),
    ("18", r"\boxed{18 km/h}"),
    ("18", r"\boxed{18 \, \text{dollars per day}}"),
    ("18", "The answer is\n\n$$18$$"),
    (r"11\sqrt2", r"\boxed{11\sqrt{2}}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}"),
]
WRONG = [
    ("18", r"\boxed{19}"),
    ("18", "The answer is 81."),
    ("(1,2)", r"\boxed{(2,1)}"),
    ("1/3", r"\boxed{0.33}"),
    ("Evelyn", r"\boxed{\text{Bob}}"),
    ("2, 3", r"\boxed{2}"),
    (r"50\%", r"\boxed{5}"),
    ("18", r"\boxed{" + "1" * 100_000 + "}"),
    ("10!", r"\boxed{10}"),
]
SYMBOLIC_RIGHT = [
    ("1+x", r"\boxed{x+1}"),
    (r"\sqrt{2}", r"\boxed{2^{1/2}}"),
    (r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt2}}"),
    ("xy", r"\boxed{yx}"),
    ("2^{10}", r"\boxed{1024}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{pmatrix} 1 \\ 1+1 \end{pmatrix}}"),
    ("2xyz", r"\boxed{2zyx}"),
    (r"2\sqrt{3}", r"\boxed{\sqrt{12} \text{ meters}}"),
    ("y = 2x + 3", r"\boxed{3 + 2x}"),
]
SYMBOLIC_WRONG = [
    ("2xy", r"\boxed{2ab}"),
    ("2xyz", r"\boxed{2}"),
    ("2", r"\boxed{2xy}"),
    ("3x", r"\boxed{3y}"),
    ("[0,1)", r"\boxed{(0,1]}"),
    (r"\sqrt{2}", r"\boxed{\sqrt{3}}"),
    ("10!", r"\boxed{10x}"),
]


@pytest.mark.parametrize(("reference", "answer"), RIGHT)
def test_exact_right(reference: str, answer: str) -> None:
    found = grade_exact("math", reference, answer)
    assert isinstance(found, Grade) and found.outcome == "right" and found.tier == "exact", found
    assert found.right(strict=True)


@pytest.mark.parametrize(("reference", "answer"), WRONG)
def test_wrong(reference: str, answer: str) -> None:
    found = grade("math", reference, answer)
    assert found.outcome == "wrong" and not found.right(strict=False)


@pytest.mark.parametrize(("reference", "answer"), SYMBOLIC_RIGHT)
def test_symbolic_right(reference: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    assert isinstance(grade_exact("math", reference, answer), Pending)
    found = grade("math", reference, answer)
    assert (found.outcome, found.tier) == ("right", "symbolic")


@pytest.mark.parametrize(("reference", "answer"), SYMBOLIC_WRONG)
def test_symbolic_wrong(reference: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    assert grade("math", reference, answer).outcome == "wrong"


@pytest.mark.parametrize("reference", ["", "  ", "???", r"\frac{1}{", "$$", "1" * 2000 + "x"])
def test_unreadable_reference_is_never_right(reference: str) -> None:
    assert grade("math", reference, r"\boxed{5}").outcome == "unreadable_reference"
    assert grade("math", reference, rf"\boxed{{{reference}}}").outcome == "unreadable_reference"


def test_undefined_reference_is_never_right() -> None:
    pytest.importorskip("math_verify")
    assert grade("math", r"\frac{1}{0}", r"\boxed{\frac{2}{0}}").outcome == "unreadable_reference"


@pytest.mark.parametrize("answer", ["", "no idea", "\n\n", "####", r"\boxed{", "the answer is"])
def test_no_answer(answer: str) -> None:
    assert grade("math", "18", answer).outcome == "no_answer"


def test_last_number_is_a_guess() -> None:
    found = grade("math", "18", "She makes 9 * 2 = 18 dollars every day at the farmers' market.")
    assert found == Grade("right", "18", "last_number", "exact")
    assert found.right(strict=False) and not found.right()


def test_words_are_no_products() -> None:
    found = grade("math", "rotation about the origin", r"\boxed{\frac{x}{2} turned}")
    assert (found.outcome, found.note) == ("error", "words that are no mathematics")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("3abcd", "3abce"),
        ("31/2", "3 1/2"),
        ("12", "1 2"),
        ("no", "on"),
        ("5 and 3", "5"),
        ("1/0", "2/0"),
        ("1/2", r"0.5\%"),
        ("x=", "m="),
    ],
)
def test_look_alikes_are_never_right(reference: str, answer: str) -> None:
    assert not grade("math", reference, rf"\boxed{{{answer}}}").right(strict=False)


def test_caps_name_themselves() -> None:
    assert grade("math", "x", r"\boxed{" + "x+" * 600 + "1}").note == "answer longer than 500 characters"
    assert (
        grade("math", "x", r"\boxed{" + "(" * 60 + "x" + ")" * 60 + "}").note
        == "answer nested deeper than 50"
    )


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\boxed{a}", "a"),
        (r"\boxed{\frac{1}{2}} so", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{1}, \boxed{2}", "1, 2"),
        (r"\boxed{1} and $\boxed{2}$", "1, 2"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed 7.", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed{open \boxed{5}", "5"),
        (r"\boxed{open", None),
        ("none", None),
        (r"\boxedx{1}", None),
    ],
)
def test_last_boxed(text: str, inside: str | None) -> None:
    assert last_boxed(text) == inside


FRAGMENTS = [
    r"\boxed{", "}", "{", "####", "answer is", "Answer:", "A:", "\n", " ", "$", "(", ")", ",", r"\frac", r"\text{", "1", "-",
    "½", "١", "=", ".", "x", "**", r"\(", r"\)", "\\", "\x00", "😀", "%", "^", "/", "or", "and",
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join))


@settings(max_examples=120, deadline=None)
@given(TEXTS, TEXTS)
def test_never_raises(reference: str, answer: str) -> None:
    for kind in ("math", "choice", "text"):
        found = grade_exact(kind, reference, answer)
        assert isinstance(found, Grade | Pending)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_normalising_twice_changes_nothing_that_counts(text: str) -> None:
    folded(text)
    once = latex(text)
    assert read_number(latex(once)) == read_number(once)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", r"\boxed{{{}}}", "The answer is {}.", "#### {}", "${}$"]),
)
def test_an_integer_equals_itself_in_every_dress(number: int, dress: str) -> None:
    assert grade("math", str(number), dress.format(f"{number:,}")).outcome == "right"
    assert grade("math", str(number), dress.format(number + 1)).outcome == "wrong"


@pytest.mark.parametrize(
    "piece",
    [
        *FRAGMENTS,
        r"\boxed{}",
        "{ ",
        r"\! ",
        r"\\[1pt]",
        "1 mod ",
        "<answer>",
        r"\boxed{1} \quad ",
        "answer ",
        "answer is ",
        "1,",
        "1 ",
        "a ",
        r"\ ",
        "$1",
        r"\text{a}",
    ],
)
def test_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    find_marked(text), find_answer(text), grade_exact("math", "18", text), grade_exact("choice", "A", text)
    grade_exact("math", text, "18")
    assert time.process_time() - started < 3.0  # quadratic would take minutes


GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_model_solutions.jsonl"


@pytest.mark.skipif(not GSM8K.is_file(), reason="the labelled GSM8K solutions are not here")
def test_agrees_with_people_on_gsm8k() -> None:
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    counts: Counter[bool] = Counter()
    for row in rows[:: max(1, len(rows) // 150)]:
        for solver in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            found = grade("math", row["ground_truth"], row[solver]["solution"])
            counts[found.right(strict=False) == row[solver]["is_correct"]] += 1
    assert counts.total() >= 600
    assert counts[False] <= counts.total() / 100
