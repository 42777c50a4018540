"""What a clause behind "the answer is" states: a number, a list of them, a formula, or the clause itself."""

from __future__ import annotations

import re

from r1distill.answers.claims import NUMBER, chosen_number, claims_one, free_numbers, negated
from r1distill.answers.compare import LIST_SPLIT
from r1distill.answers.extract import Found, last_match
from r1distill.answers.lists import read_collection
from r1distill.answers.normalise import latex
from r1distill.answers.numbers import read_number
from r1distill.answers.words import yes_or_no

MATH_SPAN = re.compile(r"\$([^$\n]{1,300})\$|\\\(([^\n]{1,300}?)\\\)")
BETWEEN_SPANS = re.compile(
    r" ?(?:[,;]|,? ?(?:and|or)) ?(?:(?:maybe|perhaps|possibly|even|also|else) ?){0,2}", re.IGNORECASE
)
VERB = re.compile(r"\b(?:is|are|equals)\b|=")
LEADING_NUMBER = re.compile(rf"(?:{NUMBER.pattern})(?= |$)")
RESULT_SIGN = re.compile(r"=|\bequals\b|\bwhich (?:is|makes)\b|\bor simply\b")
WORD_WITH_REASON = re.compile(
    r"(?!(?:so|thus|then|therefore|hence|indeed|clearly|obviously|simply|just|only|exactly|also|still)\b)"
    r"((?:not )?[A-Za-z]{2,20}),? (?:(?:because|since)\b|(?<=, )as\b(?! (?:long|soon|far|if|well|much|many)\b))",
    re.IGNORECASE,
)
"""A word, and why."""
TAKEN_BACK = re.compile(r"\b(?:but|unless|if|except|however|only|though|although)\b|\?", re.IGNORECASE)
SENTENCE = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]")
WORD = re.compile(r"[A-Za-z]{2}")


def from_phrase(found: Found) -> Found:
    """Trim what stands behind "the answer is": its formulas, or the one number of a clause, or the clause.

    A clause that denies its number, or offers two, comes back whole.
    """
    clause = found.text
    if (word := WORD_WITH_REASON.match(clause)) and not TAKEN_BACK.search(clause, word.end()):
        return Found(word[1], found.how)
    if clause[:1] in ("Y", "y", "N", "n") and SENTENCE.search(clause) and (said := yes_or_no(clause)):
        return Found(said, found.how)
    for plain in (clause, clause.replace("$", " ")):
        bare = latex(plain)
        if read_number(bare) is not None or _is_number_list(bare):
            return Found(plain, found.how)
    if not claims_one(clause):
        return found
    subject, clause = clause, _behind_subject(clause)
    if clause != subject and (leading := LEADING_NUMBER.match(clause)):
        return Found(leading.group(), "phrase")
    formulas = _formulas(clause)
    if formulas is not None:
        return Found(formulas, "phrase")
    number = _number_in(clause)
    if number is not None and WORD.search(clause) and "\\" not in clause:
        return Found(number, "phrase")
    return Found(clause, "phrase")


def _behind_subject(clause: str) -> str:
    """`34` of "The largest $n$ is 34": what follows the verb, where only the subject holds a formula before it."""
    span = MATH_SPAN.search(clause)
    if span is None or span.start() == 0 or VERB.search(clause, 0, span.start()):
        return clause
    verb = VERB.search(clause, span.end())
    return clause[verb.end() :].strip() if verb else clause


def _formulas(clause: str) -> str | None:
    """The first formula that is not denied, and those joined to it by a comma, "and" or "or", as a list."""
    spans = [span for span in MATH_SPAN.finditer(clause) if not negated(clause, span.start())]
    if not spans:
        return None
    parts: list[str] = []
    end = spans[0].start()
    for span in spans:
        if parts and not BETWEEN_SPANS.fullmatch(clause, end, span.start()):
            break
        parts.append(span.group(1) or span.group(2))
        end = span.end()
    return ", ".join(parts)


def _is_number_list(text: str) -> bool:
    if not LIST_SPLIT.search(text):
        return False
    found = read_collection(text)
    return found is not None and all(read_number(item) is not None for item in found.items)


def _number_in(clause: str) -> str | None:
    """The number that a clause states: the one behind its last "=", else the one it begins with, else its only or last one."""
    equals = last_match(RESULT_SIGN, clause)
    numbers = free_numbers(clause[equals.end() :] if equals else clause)
    if not numbers:
        return None
    chosen = numbers[0] if equals else chosen_number(numbers)
    return chosen.group().strip()
