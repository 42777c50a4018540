"""Answers that are words: number words, sayings for the same thing, names, choice labels. Text in, verdict out."""

from __future__ import annotations

import re

WORD = re.compile(r"\(?[A-Za-z][A-Za-z' -]*\)?")
LABEL = re.compile(r"\(([A-J])\) ?(.*)|([A-J])[.:)] ?(.+)", re.DOTALL)
ARTICLE = re.compile(r"^(?:an?|the) ")
PHRASE = re.compile(r"^[^+*/^=<>]*\b[^\W\d]{3,}\b[^+*/^=<>]*$")
"""A text with a word in it and no formula."""
LETTER = re.compile(r"\(?([A-J])\)?")
PRODUCT_LETTERS = 3
"""So many letters may be a product of variables: xy = yx."""
YES_OR_NO = re.compile(r"\W{0,4}(yes|no)(?:[*\s]{0,4}$|[*]{0,2}[,.;:!][*]{0,2}\s?(.{0,200}))", re.IGNORECASE)
WAVERS = re.compile(
    r"\b(?:but|no|not|yes|or|if|unless|only|maybe|perhaps|except|wait|sometimes|cannot)\b|n't|\?",
    re.IGNORECASE,
)
NO_WAVERS = re.compile(
    r"\b(?:but|yes|or|if|unless|only|maybe|perhaps|except|wait|sometimes)\b|\?", re.IGNORECASE
)
NOUNS = frozenset(
    ["function", "functions", "number", "numbers", "series", "sequence", "triangle", "integer", "curve"]
)
"""What a word like "even" says something about."""
SMALL_WORDS = frozenset(
    ["no", "yes", "odd", "one", "two", "six", "ten", "red", "sun", "mon", "tue", "wed", "thu", "fri", "sat"]
)
"""Answers that are words, however short."""
VERBAL = frozenset([
    "true", "false", "even", "odd", "neither", "both", "never", "always", "sometimes", "yes", "no", "prime",
    "composite", "positive", "negative", "rational", "irrational", "converges", "diverges", "convergent",
    "divergent", "convergence", "divergence", "increasing", "decreasing", "continuous", "discontinuous",
    "differentiable", "linear", "quadratic", "cubic", "exponential", "ellipse", "circle", "parabola", "hyperbola",
    "line", "point", "plane", "sphere", "cone", "cylinder", "square", "rectangle", "rhombus", "trapezoid",
    "triangle", "equilateral", "isosceles", "scalene", "right", "acute", "obtuse", "similar", "congruent",
    "parallel", "perpendicular", "north", "south", "east", "west", "left", "up", "down", "heads", "tails", "red",
    "blue", "green", "yellow", "black", "white", "orange", "purple", "pink", "brown", "grey", "gray", "monday",
    "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "january", "february", "march", "april",
    "may", "june", "july", "august", "september", "october", "november", "december", "infinity", "infinite",
    "infinitely", "undefined", "equal", "greater", "less", "more", "fewer", "first", "second", "third", "last",
    "odds", "evens", "symmetric", "reflexive", "transitive", "injective", "surjective", "bijective", "independent",
    "dependent",
])  # fmt: skip
"""Words that answer a question; a number in their place is wrong."""
_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBER_WORDS = {
    **{word: number for number, word in enumerate(_UNITS)},
    **{word: 20 + 10 * n for n, word in enumerate(_TENS)},
    **{
        f"{tens}{dash}{_UNITS[n]}": 20 + 10 * t + n
        for t, tens in enumerate(_TENS)
        for n in range(1, 10)
        for dash in ("-", " ")
    },
    "hundred": 100,
    "one hundred": 100,
    "thousand": 1000,
    "one thousand": 1000,
}
SAYINGS = {
    spelling: meaning
    for meaning, spellings in {
        "reals": (
            "all real numbers", "all reals", "any real number", "the set of all real numbers", "real numbers",
            r"\mathbb{R}", r"\mathbb R", r"\R", r"(-\infty,\infty)", r"(-\infty,+\infty)", r"x \in \mathbb{R}",
        ),
        "none": (
            "no solution", "no solutions", "no real solution", "no real solutions", "none", "there are no solutions",
            "there is no solution", "empty set", "the empty set", r"\emptyset", r"\varnothing", r"\{\}", r"\{ \}",
        ),
        "undefined": ("undefined", "does not exist", "dne", "the limit does not exist", "not defined"),
        "unlimited": ("infinitely many", "infinitely many solutions", "infinite", "infinite solutions"),
    }.items()
    for spelling in spellings
}  # fmt: skip


def saying(text: str) -> str | None:
    """What a set phrase means ("reals", "none", "undefined", "unlimited"), None for other texts."""
    plain = " ".join(text.split())
    return SAYINGS.get(plain) or SAYINGS.get(plain.casefold()) or SAYINGS.get(plain.replace(" ", ""))


def spelled_number(text: str) -> str | None:
    """The digits of "eighteen" or "twenty-one"; None for other texts."""
    number = NUMBER_WORDS.get(text.strip().casefold())
    return None if number is None else str(number)


def label(text: str) -> tuple[str, str] | None:
    """(letter, what follows) of "(B) 12" or "B. 12"; None when the text has no such label."""
    found = LABEL.fullmatch(text)
    return None if found is None else (found[1] or found[3], (found[2] or found[4] or "").strip())


def letter(text: str) -> str | None:
    """The letter that is the whole of the text, brackets or not."""
    found = LETTER.fullmatch(text)
    return None if found is None else found[1]


def is_words(text: str) -> bool:
    """True for words without digits or formulas, at least one of them too long for a product of variables."""
    return bool(WORD.fullmatch(text)) and (
        any(len(word) > PRODUCT_LETTERS for word in re.findall(r"[A-Za-z']+", text))
        or text.strip("() ").casefold() in SMALL_WORDS
    )


def is_verbal(text: str) -> bool:
    """True for words that are an answer for sure: set ones, sayings, numbers spelled out, and names (a capital first).

    Other words may stand where nobody wrote an answer down: a number against them is not known to be wrong.
    """
    plain = text.strip("() ")
    words = _bare(plain).split()
    known = saying(plain) is not None or spelled_number(plain) is not None or plain.casefold() in SMALL_WORDS
    return known or plain[:1].isupper() or any(word in VERBAL for word in words)


def yes_or_no(text: str) -> str | None:
    """What an answer in a sentence says ("Yes, it is possible"): "yes" or "no"; None for others, and for "yes, but not ..."."""
    found = YES_OR_NO.fullmatch(text)
    if found is None:
        return None
    said = found[1].casefold()
    wavers = WAVERS if said == "yes" else NO_WAVERS  # "No, it is not" says no
    return None if found[2] and wavers.search(found[2]) else said


def same_words(left: str, right: str) -> bool | None:
    """Compare answers that are words (a name, a direction, yes or no); None unless the reference is one."""
    if "\\" in left or not WORD.fullmatch(left) or len(left.strip("()")) < 2:
        return None
    if _bare(left) == _bare(right) or _same_quality(_bare(left), _bare(right)):
        return True
    product = max(len(left), len(right)) <= PRODUCT_LETTERS and left.casefold() not in SMALL_WORDS
    return False if WORD.fullmatch(right) and not product else None


def _same_quality(left: str, right: str) -> bool:
    """Compare "even" with "even function"."""
    short, long = sorted((left, right), key=len)
    return short in VERBAL and long.startswith(f"{short} ") and long[len(short) + 1 :] in NOUNS


def _bare(text: str) -> str:
    return ARTICLE.sub("", text.strip("() ").casefold())


def same_phrase(left: str, right: str) -> bool | None:
    """Compare words with numbers among them, as dates are; False when the numbers differ or no word is shared.

    3 men and 2 women is not 2 men and 3 women: other orders of the same words stay open (None).
    """
    if (
        "\\" in left + right
        or " " not in left
        or " " not in right
        or not (PHRASE.search(left) and PHRASE.search(right))
    ):
        return None
    words, others = (re.findall(r"\d+|[^\W\d]+", text.casefold()) for text in (left, right))
    if words == others:
        return True
    if sorted(filter(str.isdigit, words)) != sorted(filter(str.isdigit, others)):
        return False
    return False if not any(word in others for word in words if not word.isdigit()) else None
