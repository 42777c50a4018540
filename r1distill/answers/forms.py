r"""Other ways to write an answer: set builders, systems line by line, names in front, degrees for radians.

In: normalised texts (`degrees` reads the raw one). Out: the text as the other tiers read it. Bounded patterns, so linear.
"""

from __future__ import annotations

import re
from fractions import Fraction

from r1distill.answers.lists import ORDERING, read_collection
from r1distill.answers.normalise import ASSIGNMENT, DEGREES, latex, without_name
from r1distill.answers.numbers import read_number

MAX_CHARS = 500
SET_BUILDER = re.compile(
    r"\\\{ ?([a-zA-Z])(?: ?\\in ?\\mathbb ?\{? ?R ?\}?)? ?(?:\||:|\\mid(?![A-Za-z])|\\colon(?![A-Za-z])) ?"
    r"([^{}|:]{1,120}(?:\{[^{}]{1,40}\}[^{}|:]{0,80}){0,4}) ?\\\}"
)
ROWS = re.compile(
    r"(?:\\\{ ?)?\\begin ?\{(aligned|align\*?|cases|array)\}(?:\{[lcr|]{1,6}\})?(.{1,400})\\end ?\{\1\}"
)
ROW = re.compile(r"[A-Za-z](?:_\{?\w\}?)? ?= ?[^=,;]{1,80}")
MATRIX = re.compile(r"\\begin ?\{[pb]matrix\}(.{1,400})\\end ?\{[pb]matrix\}")
IDENTICALLY = re.compile(r"\b([A-Za-z] ?\([a-z]\)) ?\\equiv(?![A-Za-z])")
INTEGER = re.compile(
    r"(?:[,;]? ?(?:where|with|for) |, ?| )\(?([a-z]) (?:is )?(?:an |any )(?:arbitrary )?integer\)?$"
)
NATURAL = re.compile(
    r",? ?\(? ?[a-z] ?\\in ?(?:\\mathbb ?\{? ?N ?\}?|\\N(?![A-Za-z])|N)"
    r"(?: ?[\^_] ?\{? ?(?:\*|\+|\\ast|\\times) ?\}?)? ?\)?$"
)
SET_NAME = re.compile(
    r"(?:[A-Z]|\\complement ?)(?: ?(?:\\cap|\\cup|\\setminus|\\times) ?\(?[A-Z]\)?){1,3} ?= ?(?=\\\{|[(\[]|\\)"
)
POINT_NAME = re.compile(r"[A-Z](?:_\{?\w\}?|')? ?(?:= ?)?(?=\()")
AXIS = re.compile(r"([xy]) ?=(?!=) ?([^=,;xy]+)")
PI_MULTIPLE = re.compile(
    r"(-?) ?(?:(\d{1,6})? ?\\pi(?: ?/ ?(\d{1,6}))?|\\frac\{ ?(-?) ?(\d{0,6}) ?\\pi ?\}\{ ?(\d{1,6}) ?\})(?: rad(?:ians?)?)?"
)
PI_SIGNS = ("pi", "\u03c0", "\U0001d70b")
"""How pi may be written; few answers have it."""
DEGREE_WORD = re.compile(r"(?<=[\d}]) ?(?:\\text ?\{ ?degrees?\.? ?\}|degrees?)$")


def rewritten(text: str) -> str:
    """`text` in the form that lists, intervals and equations are read in; most texts unchanged."""
    if len(text) > MAX_CHARS:
        return text
    text = IDENTICALLY.sub(r"\1 =", text) if "\\equiv" in text and "mod" not in text else text
    text = INTEGER.sub(r", \1 \\in \\mathbb{Z}", text) if "integer" in text else text
    text = _without_domain(text)
    if (found := SET_BUILDER.fullmatch(text)) and ORDERING.search(found[2]):
        return found[2].strip()
    if (rows := ROWS.fullmatch(text)) is not None:
        return _system(rows[2]) or text
    return _tuples(text) or text


def _without_domain(text: str) -> str:
    r"""2n + 1 of "2n + 1, n \in \mathbb{N}"; an inequality there keeps it, since it has other solutions then."""
    if "\\in" not in text or ORDERING.search(text):
        return text
    return NATURAL.sub("", text) or text


def _system(rows: str) -> str | None:
    """The pair x = 2, y = -3 of two aligned lines."""
    lines = [line.replace("&", "").strip(" ,") for line in rows.split("\\\\")]
    lines = [line for line in lines if line]
    return ", ".join(lines) if len(lines) > 1 and all(ROW.fullmatch(line) for line in lines) else None


def _tuples(text: str) -> str | None:
    """(1, 2), (2, 1) of "x = 1, y = 2 or x = 2, y = 1"; names in the order of the alphabet, as lists of one system."""
    cases = text.split(" or ")
    if not 2 <= len(cases) <= 20 or text.count("=") < 4:
        return None
    systems = [read_collection(case.strip(" ,;")) for case in cases]
    found = [system for system in systems if system is not None and system.system and not system.shape]
    if len(found) != len(cases) or any(sorted(s.names) != sorted(found[0].names) for s in found):
        return None
    rows = ([item for _, item in sorted(zip(s.names, s.items, strict=True))] for s in found)
    return ", ".join(f"({', '.join(row)})" for row in rows)


def aligned(reference: str, answer: str) -> tuple[str, str]:
    r"""Both texts without a name that only one of them has: A \cap B = {1, 2}, F(-2, 0), z = 1 + i; a column as a tuple."""
    return _bare(reference, answer), _bare(answer, reference)


def _bare(text: str, other: str) -> str:
    if len(text) > MAX_CHARS or "=" in other:
        return text
    if (found := SET_NAME.match(text)) and "=" not in text[found.end() :]:
        return text[found.end() :]
    if other.startswith("(") and (named := POINT_NAME.match(text)):
        return text[named.end() :] if _is_tuple(text[named.end() :]) and _is_tuple(other) else text
    if (matrix := MATRIX.fullmatch(text)) and _is_tuple(other):
        return _vector(matrix[1]) or text
    if (
        "i" in other
        and ASSIGNMENT.match(text)
        and not ORDERING.search(text)
        and read_collection(text) is None
    ):
        return without_name(text)
    return text


def _is_tuple(text: str) -> bool:
    found = read_collection(text)
    return found is not None and found.shape == "()"


def _vector(rows: str) -> str | None:
    """(a, b) of a matrix that is one column or one row."""
    lines = [line.strip() for line in rows.split("\\\\") if line.strip()]
    cells = lines[0].split("&") if len(lines) == 1 else lines
    plain = len(cells) > 1 and not any("&" in cell or "," in cell for cell in cells)
    return f"({', '.join(cell.strip() for cell in cells)})" if plain else None


def other_axis(reference: str, answer: str) -> bool:
    """True for x = 3 against y = 3: another line, though the number is the same."""
    wanted, given = AXIS.fullmatch(reference), AXIS.fullmatch(answer)
    return wanted is not None and given is not None and wanted[1] != given[1]


def same_angle(reference: str, answer: str) -> bool | None:
    r"""Compare 30^\circ with \frac{\pi}{6}, both raw; None unless exactly one is in degrees and the other a multiple of pi."""
    if not any(sign in text for text in (reference, answer) for sign in PI_SIGNS):
        return None
    for degrees, arc in ((reference, answer), (answer, reference)):
        turned, part = _degrees(degrees), _pi_multiple(arc)
        if turned is not None and part is not None:
            return turned == part * 180
    return None


def _degrees(raw: str) -> Fraction | None:
    text = raw.strip("$ .")
    bare = latex(DEGREE_WORD.sub("", text))
    if not (DEGREES.search(text) or DEGREE_WORD.search(text)) or "pi" in bare:
        return None
    number = read_number(without_name(bare))
    return None if number is None or number.unit else number.value


def _pi_multiple(raw: str) -> Fraction | None:
    if DEGREES.search(raw):
        return None
    found = PI_MULTIPLE.fullmatch(without_name(latex(raw)))
    if found is None:
        return None
    top, bottom = int(found[2] or found[5] or 1), int(found[3] or found[6] or 1)
    if not bottom:
        return None
    negative = (found[1] == "-") != (found[4] == "-")
    return Fraction(-top if negative else top, bottom)
