"""Grading mathematics: a cheap exact tier first, computer algebra (symbolic.py) only for what it leaves open.

In: a reference (bare, boxed, or a worked solution that ends in #### N) and the answer text of a trace. The exact
tier settles plain numbers, lists of them, equal spellings and words in microseconds; it never guesses "right".
"""

from __future__ import annotations

import re

from r1distill.answers.extract import WHOLE_CHARS, Found, find_marked, last_match
from r1distill.answers.normalise import (
    balanced,
    latex,
    nesting,
    squeezed,
    unicode_digits,
    unwrap,
    without_name,
)
from r1distill.answers.numbers import Number, read_number, same_number
from r1distill.answers.outcome import Grade, How, Pending, shown

MAX_CHARS = 1000
"""Longer answers are not given to computer algebra: one of them costs as much as 1,000 ordinary ones."""
MAX_NESTING = 50
"""Nor are answers with deeper brackets than this."""
NUMBER = re.compile(
    r"(?<![\w.,])-?\$? ?-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?|(?<![\w.])-?\.\d+%?"
)
MATH_SPAN = re.compile(r"\$([^$\n]{1,300})\$|\\\(([^\n]{1,300}?)\\\)")
MATHEMATICS = re.compile(r"[\d\\$]")
RESULT_SIGN = re.compile(r"=|\bequals\b|\bwhich (?:is|makes)\b|\bor simply\b")
WORD = re.compile(r"\(?[A-Za-z][A-Za-z' -]*\)?")
LIST_SPLIT = re.compile(r",| and | or |;")
PRODUCT_LETTERS = 3
"""So many letters may be a product of variables: xy = yx."""
SMALL_WORDS = frozenset(
    ["no", "yes", "odd", "one", "two", "six", "ten", "red", "sun", "mon", "tue", "wed", "thu", "fri", "sat"]
)
"""Answers that are words, however short."""
PROSE = re.compile(
    r"(?<![\\A-Za-z])(?!(?:[a-zA-Z]?matrix|cases|aligned?|sqrt|sinh|cosh|tanh|arcsin|arccos|arctan|frac|begin|array)(?![A-Za-z]))[A-Za-z]{4,}"
    r"|[A-Za-z]{2,} [A-Za-z]{2,}"
)
"""Computer algebra reads words as products of letters, so that "no" would equal "on"."""
TRAILING_UNIT = re.compile(
    r"(?<=[\d})])(?: (?:(?:square|cubic|sq|cu)\.? )?[A-Za-z]{3,20}|[A-Za-z]{5,20})(?: ?\^ ?\{?[23]\}?)?$"
)
PLAIN_CHARS = re.compile(r"[\d\s.,$%+*/()^=-]+")


def grade_exact(reference: str, answer_text: str) -> Grade | Pending:
    """The grade, or what computer algebra has to settle. Linear in the length of the texts."""
    wanted = read_reference(reference)
    if wanted is None:
        return Grade("unreadable_reference", note="unreadable reference")
    found = find_answer(answer_text)
    if found is None:
        return Grade("no_answer")
    return compare_exact(wanted, found)


def read_reference(reference: str) -> str | None:
    """The bare answer of a reference, normalised; None when it has none that can be compared."""
    found = find_marked(reference)
    text = latex(found.text if found else reference)
    if found is not None and found.how == "phrase":
        text = latex(_number_in(found.text) or found.text)
    if not _says_something(text):
        return None
    return text if len(text) <= MAX_CHARS and balanced(text) else None


def _says_something(text: str) -> bool:
    return "\\" in text or any(char.isalnum() for char in text)


def find_answer(text: str) -> Found | None:
    """The final answer of an answer text: marked, else the whole of a short text, else its last number (a guess)."""
    text = unicode_digits(text)
    found = find_marked(text, MATHEMATICS)
    if found is not None:
        return _from_phrase(found) if found.how == "phrase" else found
    if len(text) <= WHOLE_CHARS and _is_bare(text):
        return Found(text.strip(), "whole")
    last = last_match(NUMBER, text)
    return None if last is None else Found(last.group().strip(), "last_number")


def _is_bare(text: str) -> bool:
    """True for a text that is nothing but a number or a formula."""
    bare = latex(text)
    return (
        read_number(bare) is not None or bool(PLAIN_CHARS.fullmatch(bare)) or unwrap(text) != text.strip(" .")
    )


def _from_phrase(found: Found) -> Found:
    """Trim what stands behind "the answer is": a formula, or the one number of a clause, or the clause."""
    clause = found.text
    if read_number(latex(clause)) is not None:
        return found
    span = MATH_SPAN.search(clause)
    if span:
        return Found(span.group(1) or span.group(2), "phrase")
    number = _number_in(clause)
    if number is not None and re.search(r"[A-Za-z]{2}", clause) and "\\" not in clause:
        return Found(number, "phrase")
    return found


def _number_in(clause: str) -> str | None:
    """The number that a clause states: the one it begins with, else the one behind its last "=", else its only or last one."""
    equals = last_match(RESULT_SIGN, clause)
    numbers = list(NUMBER.finditer(clause[equals.end() :] if equals else clause))
    if not numbers:
        return None
    first = numbers[0]
    chosen = first if equals or first.start() <= 1 else numbers[-1]
    return chosen.group().strip()


def compare_exact(reference: str, found: Found) -> Grade | Pending:
    """Compare a normalised reference with a found answer, as far as text and exact fractions reach."""
    answer = latex(found.text)
    if not _says_something(answer):
        return Grade("no_answer")
    same = _same(reference, answer)
    if same is None and len(found.text) > MAX_CHARS:
        return _refused(found, f"answer longer than {MAX_CHARS} characters")
    if same is None and nesting(answer) > MAX_NESTING:
        return _refused(found, f"answer nested deeper than {MAX_NESTING}")
    if same is None and nesting(reference) > MAX_NESTING:
        return Grade(
            "unreadable_reference",
            shown(found.text),
            found.how,
            note=f"reference nested deeper than {MAX_NESTING}",
        )
    if same is None:
        reference, answer = TRAILING_UNIT.sub("", reference), TRAILING_UNIT.sub("", answer)
        if PROSE.search(reference) or PROSE.search(answer):
            return _refused(found, "words that are no mathematics")
        return Pending(reference, answer, found.how)
    return Grade("right" if same else "wrong", shown(found.text.strip()), found.how, "exact")


def _refused(found: Found, why: str) -> Grade:
    return Grade("error", shown(found.text), found.how, None, why)


def _same(reference: str, answer: str) -> bool | None:
    """True, False, or None for "computer algebra must tell"; both texts normalised."""
    if squeezed(reference) == squeezed(answer):
        return True
    left, right = without_name(reference), without_name(answer)
    wanted = read_number(left)
    given = read_number(right)
    if wanted is not None and given is not None:
        return same_number(wanted, given)
    if left and squeezed(left) == squeezed(right):
        return True
    if _digits_only(left) and _digits_only(right):
        return left.lstrip("+0") == right.lstrip("+0")  # beyond what a Fraction is made from
    if wanted is not None and (result := _result(right)) is not None:
        return same_number(wanted, result)
    words = _same_words(left, right)
    return words if words is not None else _same_list(left, right, wanted, given)


def _result(answer: str) -> Number | None:
    """The number at the end of a calculation, as in `16 + 2 = 18`; None for lists of equations."""
    _, equals, behind = answer.rpartition("=")
    if (
        not equals
        or LIST_SPLIT.search(answer)
        or any(sign in answer for sign in ("<", ">", "\\le", "\\ge", "\\ne"))
    ):
        return None
    return read_number(behind.strip())


def _digits_only(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _same_words(left: str, right: str) -> bool | None:
    """Compare answers that are words (a name, a direction, yes or no); None unless the reference is one."""
    if "\\" in left or not WORD.fullmatch(left) or len(left.strip("()")) < 2:
        return None
    if left.strip("() ").casefold() == right.strip("() ").casefold():
        return True
    product = max(len(left), len(right)) <= PRODUCT_LETTERS and left.casefold() not in SMALL_WORDS
    return False if WORD.fullmatch(right) and not product else None


def _same_list(left: str, right: str, wanted: Number | None, given: Number | None) -> bool | None:
    """Compare lists, tuples and sets of plain numbers; None unless both are such."""
    first, second = _elements(left, wanted), _elements(right, given)
    if first is None or second is None:
        return None
    (shape, numbers), (other, others) = first, second
    if "[" in (shape, other) and shape != other:
        return None  # a closed interval, or a list?
    if shape in ("(", "["):
        pairs = zip(numbers, others, strict=False)
        return len(numbers) == len(others) and other != "{" and all(same_number(a, b) for a, b in pairs)
    return {n.value for n in numbers} == {n.value for n in others}


def _elements(text: str, number: Number | None) -> tuple[str, list[Number]] | None:
    """("(", "[", "{" or "", the plain numbers) of a list; None when an element is no plain number."""
    if number is not None:
        return "", [number]
    shape, inside = "", text
    if text.startswith("\\{") and text.endswith("\\}"):
        shape, inside = "{", text[2:-2]
    elif text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        shape, inside = text[0] if text[0] + text[-1] in ("()", "[]") else "?", text[1:-1]
    if shape == "?" or len(inside) > MAX_CHARS:
        return None
    parts = [part.strip() for part in LIST_SPLIT.split(inside)]
    numbers = [read_number(without_name(part)) for part in parts if part]
    known = [n for n in numbers if n is not None]
    return (shape, known) if len(known) == len(numbers) and len(known) > 1 else None


def settle(reference: str, extracted: str, how: How) -> Grade:
    """The grade by computer algebra. May take seconds or gigabytes on hostile input: call it in a killable process."""
    from r1distill.answers.symbolic import compare

    outcome, note = compare(reference, extracted)
    return Grade(outcome, shown(extracted), how, "symbolic", note)
