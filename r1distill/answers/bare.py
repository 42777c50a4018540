"""Is a text nothing but a number, a formula or a list of them? Such a text is an answer by itself."""

from __future__ import annotations

import re

from r1distill.answers.lists import read_collection
from r1distill.answers.normalise import balanced, latex, unwrap
from r1distill.answers.numbers import read_number
from r1distill.answers.plain_notation import NAMES as PLAIN_NAMES

MAX_CHARS = 500
"""A longer text is no list that one could read."""
OPERATOR = re.compile(r"[\\+*/^=<>]|\d ?- ?\w|\w ?- ?\d")
NAMES = re.compile(
    rf"(?<![\\A-Za-z])(?!(?:or|and|{PLAIN_NAMES})(?![A-Za-z]))[A-Za-z]{{2,}}|[?!]|(?:^| )[a-zA-Z] [a-zA-Z](?: |$)"
)
"""What a bare formula does not hold: words."""
DOLLARS = re.compile(r"\$( ?(?:,|;|,? ?(?:or|and)) ?)\$")
"""Between two formulas of a list."""
PLAIN_CHARS = re.compile(r"[\d\s.,$%+*/()^=-]+")


def is_bare(text: str) -> bool:
    """True for a text that is nothing but a number or a formula."""
    bare = latex(text)
    return (
        read_number(bare) is not None
        or bool(PLAIN_CHARS.fullmatch(bare))
        or unwrap(text) != text.strip(" .\n\t")
        or (bool(OPERATOR.search(bare)) and balanced(bare) and not NAMES.search(bare))
    )


def is_list(text: str) -> bool:
    """True for a text of one line that is nothing but a list, a tuple or a matrix, also one longer than WHOLE_CHARS."""
    parted = "," in text or " or " in text or " and " in text
    if len(text) > MAX_CHARS or not parted or "=" in text or "\n" in text.strip():
        return False
    bare = latex(one_list(text))
    return not NAMES.search(bare) and balanced(bare) and read_collection(bare) is not None


def one_list(text: str) -> str:
    """`$2, 3$` of "$2$, $3$"."""
    return DOLLARS.sub(r"\1", text) if "$" in text else text
