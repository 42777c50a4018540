"""Grading mathematics: a cheap exact tier first, computer algebra (symbolic.py) only for what it leaves open.

In: a reference (bare, boxed, or a worked solution that ends in #### N) and the answer text of a trace. The exact
tier settles plain numbers, lists of them, equal spellings and words in microseconds; it never guesses "right".
"""

from __future__ import annotations

import functools
import re
from collections import deque
from typing import Any

from r1distill.answers.bare import is_bare, is_list, one_list
from r1distill.answers.claims import NUMBER, claims_one, negated
from r1distill.answers.closing import closing_value, tag_closing
from r1distill.answers.compare import PROSE, same
from r1distill.answers.extract import WHOLE_CHARS, Found, all_boxes, find_marked, without_closing_tags
from r1distill.answers.forms import aligned, rewritten, same_angle
from r1distill.answers.json_reply import fenced_reply, json_reply
from r1distill.answers.lists import read_collection
from r1distill.answers.normalise import balanced, latex, nesting, unicode_digits, without_name
from r1distill.answers.numbers import read_number
from r1distill.answers.outcome import FALLBACKS, Grade, How, Pending, shown
from r1distill.answers.phrases import from_phrase
from r1distill.answers.placeholders import is_placeholder
from r1distill.answers.plain_notation import in_tex
from r1distill.answers.units import Unit, read_unit
from r1distill.answers.wording import by_reference

MAX_CHARS = 500
"""Longer answers are not given to computer algebra: one of them costs as much as 1,000 ordinary ones."""
MAX_NESTING = 50
"""Nor are answers with deeper brackets than this."""
LAST_NUMBERS = 8
LOOSE_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
MAX_BOXES = 20
"""So many parts of a problem are looked for."""
MATHEMATICS = re.compile(r"[\d\\$]")
PRIMED = re.compile(r"^[A-Za-z]'{1,3} ?(?:\([a-z]\) ?)?=(?!=) ?")
TRAILING_UNIT = re.compile(
    r"(?:(?<=[\d})])|(?<=\\pi))(?: (?:(?:square|cubic|sq|cu)\.? )?(?:[A-Za-z]{3,20}|[cdkm]m|m|ft|in|yd|mi|kg|ml)|[A-Za-z]{5,20})"
    r"(?: ?\^ ?\{?[23]\}?)?$"
)
DANGLING = re.compile(r"(?:\\(?:sqrt|frac|times|cdot|cup|pm)|[*/^_=<>])$")
"""A reference that ends so was cut off."""
WORDS_BEFORE = re.compile(r"(?:[A-Za-z'-]{1,20} ){1,8}(?:is|are|equals)(?: equal to)? ?:? (?=\S)")
FOR_ALL = re.compile(r",? for (?:all|any|every|each) .{1,100}$")
LOOSE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}|\*\*")
"""Without one, nothing is to be turned into TeX."""
END_CHARS = 16
REPLY_ENDS = ("}", "]", "`")
"""How a JSON reply ends, its fence too."""
EMPTY_FIELD = re.compile(r"\s?<[A-Za-z ]{1,60}>\s?")


def grade_exact(reference: str, answer_text: str, tests: Any = None) -> Grade | Pending:
    """The grade, or what computer algebra has to settle. Linear in the length of the texts."""
    wanted = read_reference(reference)
    if wanted is None:
        return Grade("unreadable_reference", note="unreadable reference")
    found = find_answer(answer_text)
    if found is None or found.how in FALLBACKS:
        found = by_reference(wanted, unicode_digits(answer_text)) or found
    if found is None:
        return Grade("no_answer")
    parts = _parts(wanted, found, answer_text)
    if parts is not None:
        return compare_exact(*parts)
    angles = same_angle(_stated(reference), found.text)
    if angles is not None:
        return Grade("right" if angles else "wrong", shown(found.text.strip()), found.how, "exact")
    return compare_exact(wanted, found)


@functools.lru_cache(maxsize=256)
def _stated(reference: str) -> str:
    found = find_marked(reference)
    return found.text if found else reference


def _parts(reference: str, found: Found, answer_text: str) -> tuple[str, Found] | None:
    """Reference and answer when each part of the reference has a box of its own: they are compared in order."""
    if found.how != "boxed" or not 1 < answer_text.count("boxed") <= MAX_BOXES:
        return None
    wanted, last = read_collection(reference), read_collection(latex(found.text))
    boxes = all_boxes(answer_text)
    listed = last is not None and last.shape != "()"
    if wanted is None or wanted.shape or listed or len(wanted.items) != len(boxes):
        return None
    if wanted.system:
        return reference, Found(", ".join(boxes), "boxed")
    parts = ", ".join(without_name(latex(box)) for box in boxes)
    return f"({', '.join(wanted.items)})", Found(f"({parts})", "boxed")


@functools.lru_cache(maxsize=256)
def read_reference(reference: str) -> str | None:
    """The bare answer of a reference, normalised; None when it has none that can be compared."""
    found = find_marked(reference)
    text = rewritten(PRIMED.sub("", latex(one_list(found.text if found else reference))))
    if found is not None and found.how == "phrase":
        text = rewritten(latex(from_phrase(found).text))
    text = in_tex(text, text)
    if is_placeholder(text) or is_placeholder(reference):
        return None
    if not _says_something(text) or DANGLING.search(text):
        return None
    return text if len(text) <= MAX_CHARS and balanced(text) else None


def _says_something(text: str) -> bool:
    return "\\" in text or any(char.isalnum() for char in text)


def find_answer(text: str) -> Found | None:
    """The final answer of an answer text: the "answer" of a JSON reply, what is marked, else the whole of a short text, else
    what its last sentence states, else its last number (a guess).
    """
    text = unicode_digits(text)
    if (end := text[-END_CHARS:].rstrip()[-1:]) == ">":
        text = without_closing_tags(text)
    elif (
        end in REPLY_ENDS
        and ('nswer"' in text or text[:1] == "[")
        and (reply := json_reply(text)) is not None
    ):
        return _of_reply(reply)
    found = find_marked(text, MATHEMATICS)
    if found is not None:
        return from_phrase(found) if found.how == "phrase" else found
    if (reply := fenced_reply(text)) is not None:
        return _of_reply(reply)
    if (len(text) <= WHOLE_CHARS and is_bare(text)) or is_list(text):
        return Found(text.strip(), "whole")
    stated = tag_closing(text) or closing_value(text)
    if stated is not None and is_bare(stated):
        return Found(stated, "closing")
    return _last_number(text)


def _of_reply(reply: str) -> Found | None:
    """What the answer of a JSON reply states."""
    if not reply.strip() or EMPTY_FIELD.fullmatch(reply):
        return None
    found = find_marked(reply, MATHEMATICS) or Found(reply, "phrase")
    return from_phrase(found) if found.how == "phrase" else found


def _last_number(text: str) -> Found | None:
    """The last number that is not denied, as the 17 of "18, not 17" is; of the last LAST_NUMBERS."""
    for found in reversed(deque(NUMBER.finditer(text), maxlen=LAST_NUMBERS)):
        if not negated(text, found.start()):
            return Found(found.group().strip(), "last_number")
    return None


def compare_exact(reference: str, found: Found) -> Grade | Pending:
    """Compare a normalised reference with a found answer, as far as text and exact fractions reach."""
    answer = latex(one_list(found.text))
    if answer == reference:
        return Grade("right", shown(found.text.strip()), found.how, "exact")
    answer = _result_only(reference, _without_words_before(reference, answer))
    if LOOSE_WORD.search(answer):
        answer = in_tex(answer, reference)
    if not _says_something(answer):
        return Grade("no_answer")
    reference, answer = aligned(reference, rewritten(answer))
    same_value = same(reference, answer)
    if same_value is None and read_collection(reference) is None and not claims_one(answer[:MAX_CHARS]):
        return Grade("wrong", shown(found.text.strip()), found.how, "exact", "no single answer")
    if same_value is None and len(found.text) > MAX_CHARS:
        return _refused(found, f"answer longer than {MAX_CHARS} characters")
    if same_value is None and nesting(answer) > MAX_NESTING:
        return _refused(found, f"answer nested deeper than {MAX_NESTING}")
    if same_value is None and nesting(reference) > MAX_NESTING:
        return Grade(
            "unreadable_reference",
            shown(found.text),
            found.how,
            note=f"reference nested deeper than {MAX_NESTING}",
        )
    if same_value is None:
        reference, answer = FOR_ALL.sub("", reference), FOR_ALL.sub("", answer)
        units = _units(reference, answer)
        if units and units[0][:2] != units[1][:2]:
            return Grade("wrong", shown(found.text.strip()), found.how, "exact", "another unit")
        if units and units[0] != units[1]:
            return _refused(found, "units to be converted")
        reference, answer = TRAILING_UNIT.sub("", reference), TRAILING_UNIT.sub("", answer)
        if PROSE.search(reference) or PROSE.search(answer):
            return _refused(found, "words that are no mathematics")
        return Pending(reference, answer, found.how)
    return Grade("right" if same_value else "wrong", shown(found.text.strip()), found.how, "exact")


def _units(reference: str, answer: str) -> tuple[Unit, Unit] | None:
    r"""The units of 25\pi cm and 25\pi m^2; None unless both are known and nothing else is in words."""
    left, right = TRAILING_UNIT.search(reference), TRAILING_UNIT.search(answer)
    if left is None or right is None:
        return None
    if LOOSE_LETTER.search(reference[: left.start()]) or LOOSE_LETTER.search(answer[: right.start()]):
        return None
    wanted, given = read_unit(left.group()), read_unit(right.group())
    return None if wanted is None or given is None else (wanted, given)


def _without_words_before(reference: str, answer: str) -> str:
    """`3/2` of "The sum is 3/2"; other answers, and all to references that are words, unchanged."""
    found = WORDS_BEFORE.match(answer)
    if found is None or PROSE.search(answer, found.end()) or PROSE.search(reference):
        return answer
    return answer[found.end() :]


def _result_only(reference: str, answer: str) -> str:
    r"""The exact side of `1/3 \approx 0.33`, the rounded one for a reference with decimals; f'(x) = goes."""
    answer = PRIMED.sub("", answer)
    exact, sign, rounded = answer.partition("\\approx")
    if not sign:
        return answer
    wanted = read_number(reference)
    takes_rounded = not MATHEMATICS.search(exact) or (wanted is not None and wanted.decimals is not None)
    return (rounded if takes_rounded else exact).strip()


def _refused(found: Found, why: str) -> Grade:
    return Grade("error", shown(found.text), found.how, None, why)


def settle(reference: str, extracted: str, how: How) -> Grade:
    """The grade by computer algebra. May take seconds or gigabytes on hostile input: call it in a killable process."""
    from r1distill.answers.symbolic import compare

    outcome, note = compare(reference, extracted)
    return Grade(outcome, shown(extracted), how, "symbolic", note)
