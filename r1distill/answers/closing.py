r"""The sentence that a text ends with, when it states a value: "The slope is $\frac{1}{2}$.", "Total: **7**", "So x = 6."

In: an answer text without a box or another mark. Out: the value as it stands there, its
delimiters too, or None. Only the last TAIL_CHARS
characters are read.
"""

from __future__ import annotations

import re

from r1distill.answers.claims import negated

TAIL_CHARS = 400
"""A last line longer than this states nothing that one could read."""
SENTENCE = re.compile(r"(?<=[.!?])[*_]{0,2} +(?=[A-Z*$\\])")
SPAN = re.compile(r"\*\*([^*\n]{1,120})\*\*|\$([^$\n]{1,120})\$|\\\(((?:[^\\\n]|\\(?!\)))+)\\\)")
"""Something in bold, or a formula."""
STATES = re.compile(r"(?:^|\b(?:is|are|be|was|were|equals?|to)\b ?:?|[:=]) ?$", re.IGNORECASE)
"""What stands in front of a stated value."""
UNIT = re.compile(r"[A-Za-z]*(?: [A-Za-z]+){0,2}")
BARE_END = re.compile(r"(?:\b(?:is|are|equals)\b ?:?|[:=]) ?([^=:\n]{1,60})$")
DIGIT = re.compile(r"\d")
DIGITS = re.compile(r"(?<![\w.,/-])-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?(?![\w^/\\])")
CONCLUDES = re.compile(
    r"(?:So|Thus|Therefore|Hence|Altogether|Finally|Consequently|In (?:total|all|conclusion))\b"
)
DENIES = re.compile(r"\b(?:not|never|cannot|neither|wrong|incorrect)\b|n't", re.IGNORECASE)
DOUBTS = re.compile(r"n't (?:think|believe|say|claim|mean)\b|\bdoubt\b", re.IGNORECASE)
SOLUTION = re.compile(r"is (?:the|our|its) [A-Za-z ]{1,40}$")
MATHEMATICAL = re.compile(r"[\d\\]")


def closing_value(text: str) -> str | None:
    """The value that the last sentence states in a formula, in bold, or behind its last "is", ":" or "="; the
    one number of a sentence that begins with "So" or "Therefore".
    """
    tail = text[-TAIL_CHARS - 1 :].rstrip()
    line = tail[tail.rfind("\n") + 1 :].strip()
    if len(line) > TAIL_CHARS:
        return None
    sentence = SENTENCE.split(line)[-1].strip().rstrip(" .!")
    if sentence.endswith("?") or DOUBTS.search(sentence):
        return None
    spans = list(SPAN.finditer(sentence))
    if spans and (value := _spanned(sentence, spans)) is not None:
        return value
    bare = BARE_END.search(sentence, spans[-1].end() if spans else 0)
    if bare is not None and MATHEMATICAL.search(bare[1]):
        return bare[1].strip()
    numbers = DIGITS.findall(sentence)
    concludes = CONCLUDES.match(sentence) and not DENIES.search(sentence)
    return numbers[0] if len(numbers) == 1 and not spans and concludes else None


def _spanned(sentence: str, spans: list[re.Match[str]]) -> str | None:
    """The last formula or bold text of the sentence, when it is what the sentence says; a unit may follow."""
    last = spans[-1]
    before, behind = sentence[: last.start()], sentence[last.end() :].strip()
    value = next(group for group in last.groups() if group)
    if negated(before, len(before)):
        return None
    if STATES.search(before) and UNIT.fullmatch(behind):
        return value.rpartition(": ")[2] if ": " in value else last.group()
    if len(spans) == 1 and "=" in value and CONCLUDES.match(sentence) and SOLUTION.match(behind):
        return last.group()
    if DENIES.search(sentence):
        return None
    only_number = len(spans) == 1 and last[1] and DIGIT.search(value) and not DIGIT.search(before + behind)
    return value.rpartition(": ")[2] if only_number else None
