"""The exact tier: are two normalised texts the same value? Plain numbers, labels, bases, set phrases, lists, words.

Microseconds, linear, and never a guess: None leaves the question to computer algebra.
"""

from __future__ import annotations

import re

from r1distill.answers.claims import NUMBER, negated
from r1distill.answers.forms import other_axis
from r1distill.answers.lists import ORDERING, read_collection, same_collection
from r1distill.answers.matrices import same_matrix
from r1distill.answers.normalise import latex, squeezed, without_name
from r1distill.answers.numbers import Number, based_digits, read_colons, read_number, same_number, same_unit
from r1distill.answers.words import (
    is_verbal,
    is_words,
    label,
    letter,
    same_phrase,
    same_words,
    saying,
    spelled_number,
    yes_or_no,
)

THOUSANDS_GROUP = re.compile(r"0\d\d")
"""A part of (1,000), which is no pair of 1 and 0."""
LIST_SPLIT = re.compile(r",| and | or |;")
RESIDUE = re.compile(
    r"(?:[A-Za-z] ?\\equiv ?)?([^()]{1,80}?) ?(?:\( ?\\?mod(?![A-Za-z])|\\pmod(?![A-Za-z])) ?\{? ?(\d{1,9}) ?\}?\)?"
)
"""A number and its modulus."""
DIGIT = re.compile(r"\d")
DOUBT = re.compile(
    r"\b(?:or|if|unless|otherwise|maybe|perhaps|possibly|than|not|no|never|wrong|incorrect|false|except|between|least|most)\b|n't|\?",
    re.IGNORECASE,
)
"""Words beside a number that may make it another one, or none."""
LIST_SIGNS = (",", ";", " and ", " or ", "\\pm", "\\mp", "\\cup", "<", ">", "\\le", "\\ge")
PROSE = re.compile(
    r"(?<![\\A-Za-z])(?!(?:[a-zA-Z]?matrix|cases|aligned?|sqrt|sinh|cosh|tanh|arcsin|arccos|arctan|frac|begin|array)(?![A-Za-z]))[A-Za-z]{4,}"
    r"|[A-Za-z]{2,} [A-Za-z]{2,}"
)
"""Computer algebra reads words as products of letters, so that "no" would equal "on"."""


def same(reference: str, answer: str) -> bool | None:
    """True, False, or None for "computer algebra must tell"; both texts normalised."""
    if reference == answer or squeezed(reference) == squeezed(answer):
        return True
    if other_axis(reference, answer):
        return False
    labelled = _same_label(reference, answer)
    return labelled if labelled is not None else _same_bare(reference, answer)


def _same_bare(reference: str, answer: str) -> bool | None:
    """As `_same`, choice labels not looked at."""
    for tier in (
        _same_residue,
        _same_value,
        _same_based,
        _same_colons,
        _same_saying,
        _same_matrix,
        _same_list,
        _same_prose,
    ):
        result = tier(reference, answer)
        if result is not None:
            return result
    return None


def _same_value(reference: str, answer: str) -> bool | None:
    """Compare two plain numbers, names in front of them passed over; None unless both are such."""
    left, right = without_name(reference), without_name(answer)
    wanted, given = read_number(left), read_number(right)
    if wanted is not None and given is not None:
        return same_number(wanted, given)
    if left and squeezed(left) == squeezed(right):
        return True
    if _digits_only(left) and _digits_only(right):
        return left.lstrip("+0") == right.lstrip("+0")  # beyond what a Fraction is made from
    result = _result(right) if wanted is not None else None
    return same_number(wanted, result) if wanted is not None and result is not None else None


def _same_residue(reference: str, answer: str) -> bool | None:
    r"""Compare "x \equiv 3 (mod 7)" with "3 \pmod{7}", or with plain 3 (the question names the modulus)."""
    if "mod" not in reference and "mod" not in answer:
        return None
    wanted, given = RESIDUE.fullmatch(reference), RESIDUE.fullmatch(answer)
    if wanted is None and given is None:
        return None
    if wanted and given and wanted[2] != given[2]:
        return False
    return _same_value(wanted[1] if wanted else reference, given[1] if given else answer)


def _same_label(reference: str, answer: str) -> bool | None:
    """Compare "(B) 12" with "B", "(B)" or "12"; None when neither has such a label."""
    wanted, given = label(reference), label(answer)
    if wanted is None and given is None:
        return None
    if wanted is None or given is None:
        labelled, other = (wanted, answer) if wanted is not None else (given, reference)
        assert labelled is not None
        other_letter = letter(other)
        if other_letter is not None:
            return labelled[0] == other_letter
        if not labelled[1]:
            return None if label(other) is None and read_number(other) is None else False
        return _same_bare(labelled[1], other) if wanted is not None else _same_bare(other, labelled[1])
    if wanted[0] != given[0]:
        return False
    return _same_bare(wanted[1], given[1]) if wanted[1] and given[1] else True


def _same_based(reference: str, answer: str) -> bool | None:
    """Compare 1010_2 with 1010_{two} or with plain 1010 (the question names the base); None when neither has a base."""
    wanted, given = based_digits(reference), based_digits(answer)
    if wanted is None or given is None or not (wanted[1] or given[1]):
        return None
    return wanted[0] == given[0] and (wanted[1] == given[1] or not (wanted[1] and given[1]))


def _same_colons(reference: str, answer: str) -> bool | None:
    """Compare ratios and times of day, spelled alike; None unless both are such."""
    wanted, given = read_colons(reference), read_colons(answer)
    if wanted is None or given is None:
        return None
    return wanted[0] == given[0] and (wanted[1] == given[1] or not (wanted[1] and given[1]))


def _same_saying(reference: str, answer: str) -> bool | None:
    """Compare "no solution" and its like, and number words with numbers; None unless the texts are such."""
    wanted, given = saying(reference), saying(answer)
    if wanted is not None and given is not None:
        return wanted == given
    if wanted or given:
        other = answer if wanted else reference
        if read_number(without_name(other)) is not None:
            return False
        if (
            "none" in (wanted, given)
            and DIGIT.search(other)
            and not PROSE.search(other)
            and "set" not in other
        ):
            return False
    left, right = spelled_number(reference), spelled_number(answer)
    return None if left is None and right is None else _same_value(left or reference, right or answer)


def _same_matrix(reference: str, answer: str) -> bool | None:
    return same_matrix(reference, answer, _same_part)


def _same_list(reference: str, answer: str) -> bool | None:
    """Compare lists, tuples, sets and intervals whose parts the exact tier can tell; None unless one side is such."""
    if not any(sign in reference or sign in answer for sign in LIST_SIGNS):
        return None
    wanted, given = read_collection(reference), read_collection(answer)
    if wanted is not None and given is not None:
        return same_collection(wanted, given, _same_part)
    if wanted is not None and read_number(without_name(answer)) is not None:
        again = read_collection(answer, every_comma=True)
        return same_collection(wanted, again, _same_part) if again else _repeats(wanted.items, answer)
    if given is not None and read_number(without_name(reference)) is not None:
        return _repeats(given.items, reference)
    return None


def _repeats(items: list[str], single: str) -> bool | None:
    """Whether a list says nothing but one number again and again: 2, 2 is 2."""
    results = [_same_part(single, item) for item in items]
    return False if False in results else None if None in results else True


def _same_part(reference: str, answer: str) -> bool | None:
    """One part of a list: plain numbers, equal spellings, and lists of them."""
    if squeezed(reference) == squeezed(answer):
        return True
    if THOUSANDS_GROUP.fullmatch(reference) or THOUSANDS_GROUP.fullmatch(answer):
        return False
    left, right = read_number(reference), read_number(answer)
    if left is not None and right is not None:
        equal = same_number(left, right)
        return equal if not equal or same_unit(left, right) else None  # 3 men and 2 women
    result = _same_value(reference, answer)
    return result if result is not None else _same_list(reference, answer)


def _same_prose(reference: str, answer: str) -> bool | None:
    """Compare words: names, and answers in a sentence; None when they may be mathematics."""
    left, right = without_name(reference), without_name(answer)
    if left.casefold() in ("yes", "no") and (said := yes_or_no(right)) is not None:
        return left.casefold() == said
    words = same_words(left, right)
    if words is None and read_number(left) is None and read_number(right) is None:
        words = same_phrase(left, right)
    if words is not None:
        return words
    if is_words(left) and (read_number(right) is not None or letter(right) is not None):
        return False if is_verbal(left) else None
    wanted = read_number(left)
    if wanted is None or "\\" in right:
        return None
    numbers = list(NUMBER.finditer(right))
    if len(numbers) == 1 and negated(right, numbers[0].start()):
        return False
    if not PROSE.search(right):
        return None
    if not any(char.isdigit() for char in right):
        return False if is_words(right) and saying(right) is None else None
    number = read_number(latex(numbers[0].group())) if len(numbers) == 1 else None
    return None if number is None or DOUBT.search(right) else same_number(wanted, number)


def _result(answer: str) -> Number | None:
    """The number at the end of a calculation, as in `16 + 2 = 18`; None for lists of equations."""
    _, equals, behind = answer.rpartition("=")
    if not equals or LIST_SPLIT.search(answer) or ORDERING.search(answer):
        return None
    return read_number(behind.strip())


def read_value(text: str) -> Number | None:
    """The number that a normalised text states, also as `x = 5`, `16 + 2 = 18` or "five"; None when it states none."""
    bare = without_name(text)
    return read_number(bare) or _result(bare) or read_number(spelled_number(bare) or "")


def _digits_only(text: str) -> bool:
    return text.isascii() and text.isdigit()
