r"""Matrices: \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}, [1, 2; 3, 4] and [[1, 2], [3, 4]] are the same one.

In: normalised texts. Out: rows of cells, or a verdict; None for "can't tell".
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_CHARS = 500
ENVIRONMENT = re.compile(r"\\begin ?\{([pb]matrix)\}(.{1,400})\\end ?\{\1\}", re.DOTALL)
ARRAY = re.compile(
    r"[\[(] ?\\begin ?\{array\}(?:\{[lcr]{1,9}\})?(.{1,400})\\end ?\{array\} ?[\])]", re.DOTALL
)
"""One with a bar in its columns has a right side of its own."""
BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}

Matrix = list[list[str]]


def read_matrix(text: str) -> Matrix | None:
    """The rows of a matrix, all of one length; None for other texts. [1, 2] and [1; 2] are lists."""
    if len(text) > MAX_CHARS:
        return None
    if found := ENVIRONMENT.fullmatch(text) or ARRAY.fullmatch(text):
        lines = found[found.lastindex or 0].split("\\\\")
        rows = [[cell.strip() for cell in line.split("&")] for line in lines if line.strip()]
    elif text.startswith("[") and text.endswith("]"):
        inside = _split(text[1:-1], ";")
        rows = [_split(row, ",") for row in inside] if len(inside) > 1 else _nested(_split(text[1:-1], ","))
        if len(rows) < 2 or len(rows[0]) < 2:
            return None
    else:
        return None
    return rows if rows and all(len(row) == len(rows[0]) and all(row) for row in rows) else None


def same_matrix(reference: str, answer: str, same: Callable[[str, str], bool | None]) -> bool | None:
    """Whether two matrices are equal cell by cell; False against a flat list; None unless one is a matrix and the other too,
    or such a list.
    """
    if "[" not in reference + answer:
        return None  # two in TeX: equal spelling or computer algebra
    wanted, given = read_matrix(reference), read_matrix(answer)
    if wanted is None or given is None:
        return False if (_is_flat(reference) or _is_flat(answer)) and _is_block(wanted or given) else None
    if len(wanted) != len(given) or len(wanted[0]) != len(given[0]):
        return False
    cells = zip((c for row in wanted for c in row), (c for row in given for c in row), strict=True)
    results = [same(left, right) for left, right in cells]
    return False if False in results else None if None in results else True


def _is_flat(text: str) -> bool:
    """True for a list like [1, 2, 3, 4]."""
    return text[:1] == "[" and text[-1:] == "]" and not any(sign in text[1:] for sign in ("[", "&", ";"))


def _is_block(matrix: Matrix | None) -> bool:
    return matrix is not None and len(matrix) > 1 and len(matrix[0]) > 1


def _nested(rows: list[str]) -> Matrix:
    """The cells of rows that have brackets of their own; [] when one has none."""
    if not all(row.startswith("[") and row.endswith("]") for row in rows):
        return []
    return [_split(row[1:-1], ",") for row in rows]


def _split(text: str, sign: str) -> list[str]:
    """`text` parted at each `sign` outside of brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += BRACKETS.get(char, 0)
        if char == sign and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]
