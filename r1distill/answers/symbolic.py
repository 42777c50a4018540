"""The symbolic tier: math-verify compares what text and fractions could not. Only for killable worker processes.

Its own time-outs are off: they clear the host's alarms, raise outside the main thread, and turn into "wrong".
Reference first: the comparison is not symmetric. Source: https://github.com/huggingface/Math-Verify
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
from typing import Any

from r1distill.answers.families import same_families
from r1distill.answers.lists import ORDERING, PLUS_MINUS, Collection, read_collection, same_collection
from r1distill.answers.matrices import same_matrix
from r1distill.answers.numeric import same_at_points, same_general_solution
from r1distill.answers.outcome import AnswerOutcome

DROPPED = re.compile(
    r"\\(?:[cl]?dots|mid|[bp]mod|mod|equiv|oplus|otimes|sim|approx|parallel|perp|triangle|angle)(?![A-Za-z])|'"
)
"""Signs at which the parser stops without a word, so that 1 + \\cdots + n would be 1."""
COMMAND = re.compile(r"\\(?:begin|end) ?\{[a-z*]+\}(?:\{[lcr|]+\})?|\\[A-Za-z]+")
VARIABLE = re.compile(r"(?<![A-Za-z])(?![deiE])[A-Za-z](?![A-Za-z])")
CONSTANTS = re.compile(r"(?<![A-Za-z])[Cc]_\{?1\}?.*[Cc]_\{?2")
"""Two constants of integration or more."""
INSTALL = "math-verify is not installed: pip install 'r1distill[math]'"


VERIFIER_ERRORS = (
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    AssertionError,
    MemoryError,
)


class PartlyReadError(ValueError):
    """The parser would read a part of the text only."""


def installed() -> bool:
    """True when math-verify can be imported."""
    return importlib.util.find_spec("math_verify") is not None


def warm_up() -> None:
    """Import computer algebra (about 0.4 s), so that the first comparison's time is its own."""
    if installed():
        compare("x+1", "1+x")


def compare(reference: str, answer: str) -> tuple[AnswerOutcome, str]:
    """(right | wrong | unreadable_reference | error, note). Both are bare LaTeX or plain expressions.

    Lists are taken apart here, so that their order and brackets count as they should.
    """
    if not installed():
        return "error", INSTALL
    try:
        families = same_families(reference, answer, _only)
        if families is not None:
            return ("right" if families else "wrong"), ""
        matrices = same_matrix(reference, answer, _same_part)
        if matrices is not None:
            return ("right" if matrices else "wrong"), ""
        wanted, given = read_collection(reference), read_collection(answer)
        if wanted is not None and given is None and _both_signs(reference, answer):
            found = [_same_part(item, answer) for item in wanted.items]
            return ("right" if all(found) else "wrong"), ""
        if wanted is not None and given is not None:
            if not all(_readable(item) for item in wanted.items):
                return "unreadable_reference", "unreadable reference"
            same = same_collection(wanted, given, _same_part)
            if same is not None:
                return ("right" if same else "wrong"), ""
        if (
            wanted is not None
            and given is None
            and " or " in reference
            and _alternatives(wanted)
            and _parsed(answer)
        ):
            return ("right" if all(_same_part(item, answer) for item in wanted.items) else "wrong"), ""
        outcome, note = _compare_one(reference, answer)
        if outcome == "wrong" and (wanted is None) != (given is None) and _inequality(reference, answer):
            return "error", "an inequality against intervals"
        return outcome, note
    except PartlyReadError:
        return "error", "only a part can be read"
    except VERIFIER_ERRORS as error:
        return "error", f"the verifier raised {type(error).__name__}"


def _compare_one(reference: str, answer: str) -> tuple[AnswerOutcome, str]:
    wanted = _parsed(reference)
    if not wanted:
        return "unreadable_reference", "unreadable reference"
    given = _parsed(answer)
    if not given:
        return "wrong", "unreadable answer"
    if CONSTANTS.search(reference) and CONSTANTS.search(answer):
        same = same_general_solution(wanted[0], given[0])
        return ("right", "") if same else ("error", "constants of integration")
    same = _verify(wanted, given) or bool(same_at_points(wanted[0], given[0]))
    return ("right" if same else "wrong"), ""


def _only(text: str) -> Any:
    """The one expression that `text` can be read as, None when it is none."""
    found = _parsed(text)
    return found[0] if found else None


def _both_signs(reference: str, answer: str) -> bool:
    r"""True for 3 \pm \sqrt{5} against one plain value."""
    return bool(PLUS_MINUS.search(reference)) and not PLUS_MINUS.search(answer) and bool(_parsed(answer))


def _alternatives(wanted: Collection) -> bool:
    """True for values joined by "or" that can be read: a single answer has to equal all of them, as 1/2 does 1/2 or 0.5."""
    return not wanted.shape and not wanted.system and all(_readable(item) for item in wanted.items)


def _inequality(reference: str, answer: str) -> bool:
    """True when one side is an inequality that can't be read as an interval, as |x| > 1."""
    return any(ORDERING.search(text) and read_collection(text) is None for text in (reference, answer))


def _readable(item: str) -> bool:
    inner = read_collection(item)
    return all(_readable(part) for part in inner.items) if inner is not None else bool(_parsed(item))


def _same_part(reference: str, answer: str) -> bool | None:
    """One part of a list: again a list, or one expression."""
    wanted, given = read_collection(reference), read_collection(answer)
    if wanted is not None and given is not None:
        return same_collection(wanted, given, _same_part)
    return _compare_one(reference, answer)[0] == "right"


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[Any, ...]:
    """The sympy objects that `text` can be read as; () when none. Raises PartlyReadError when the parser leaves a part out."""
    from math_verify import parse

    if DROPPED.search(text):
        raise PartlyReadError
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    found = parse(
        f"${text}$", _readings(), parsing_timeout=None, fallback_mode="no_fallback", raise_on_error=True
    )
    if not all(_holds_every_letter(item, text) for item in found if not isinstance(item, str)):
        raise PartlyReadError
    undefined = ("ComplexInfinity", "NaN")  # 1/0 equals 2/0 for sympy
    return tuple(
        _one_symbol_per_name(item)
        for item in found
        if not isinstance(item, str) and type(item).__name__ not in undefined
    )


@functools.lru_cache(maxsize=1)
def _readings() -> list[Any]:
    r"""How texts are read: units stay, since they are letters as well (the h of \pi r^2 h); math.py takes real ones off."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig

    tidied = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
    )
    return [LatexExtractionConfig(normalization_config=tidied)]


def _holds_every_letter(item: Any, text: str) -> bool:
    """False when a variable of `text` is not in what was read from it: the parser stops in silence where it is lost."""
    kept = str(item).casefold()
    return all(letter.casefold() in kept for letter in VARIABLE.findall(COMMAND.sub(" ", text)))


def _one_symbol_per_name(item: Any) -> Any:
    """`item` with i as the imaginary unit, and every other letter as one symbol: the parser's differ by what it assumes."""
    from sympy import I, Symbol  # type: ignore[import-untyped]

    symbols = getattr(item, "free_symbols", ())
    table = {symbol: I if symbol.name == "i" else Symbol(symbol.name, real=True) for symbol in symbols}
    return item.xreplace(table) if any(old != new for old, new in table.items()) else item


def _verify(wanted: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    from math_verify import verify

    return bool(verify(list(wanted), list(given), timeout_seconds=None, raise_on_error=True))
