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
SINCE = re.compile(
    r"(?:Since|Because) (?!.{0,120}\b(?:more|less|fewer|another|each|every|per)\b)[^,.:\d$\\]{3,120}, (?=[A-Z])"
)
"""A reason without numbers in front of what is concluded about somebody."""
WE_GET = re.compile(r"\bwe (?:get|obtain) ?$")
ONE_NUMBER = re.compile(
    r"-?\d[\d,.]{0,20}(?:_\{?\d{1,2}\}?|\\?%)?|-?\\[dt]?frac\{-?\d{1,9}\}\{\d{1,9}\}|-?\d{1,9}/\d{1,9}"
)
CALCULATION = re.compile(
    r"(?:\\(?:times|cdot|div|log|left|right|[dt]?frac|sqrt|binom)(?![A-Za-z])|[^\\A-Za-z<>=,]|=)+= ?-?\d[\d,.]*"
)
"""A chain of numbers and signs that ends in its result."""
# The last words of a solution that stands inside an answer tag.
TAG_END = re.compile(r"\b(?:should|must|will|would) be ?:? (\$?-?\d[\d,.]{0,20}(?:/\d{1,9})?\$?%?)$")
DENIES = re.compile(r"\b(?:not|never|cannot|neither|wrong|incorrect)\b|n't", re.IGNORECASE)
DOUBTS = re.compile(r"n't (?:think|believe|say|claim|mean)\b|\bdoubt\b", re.IGNORECASE)
SOLUTION = re.compile(r"is (?:the|our|its) [A-Za-z ]{1,40}$")
ONE_VALUE = re.compile(r"(?:[A-Za-z](?:_\{?\w{1,3}\}?)? ?(?:\([a-z]\) ?)?=(?!=)|[^=]*$)[^=<>]*$")
"""A value, with a name in front or none; no equation, no chain of steps."""
NAMED_VALUE = re.compile(r"[A-Za-z](?:_\{?\w{1,3}\}?)? ?=(?!=) ?[^=<>,]+$")
SUPPOSES = re.compile(
    r"\b(?:if|when|where|whenever|for|at|with|suppose|let|set|assume|choose|take|try|pick|put|plug\w*|substitut\w+|using|use"
    r"|guess|consider|cases?|may|might|maybe|perhaps|possibly|could|should|would|show|check|verify|or)\b",
    re.IGNORECASE,
)
"""In front of a formula: it is no result."""
ANNOUNCES = re.compile(
    r"(?:So|Thus|Therefore|Hence|Consequently|Finally|In conclusion|Conclusion)\b"
    r"|The (?:only|minimum|maximum|smallest|largest|least|greatest|general|final|required|desired)\b"
)
"""How a sentence begins that states the result."""
QUALIFIES = re.compile(
    r",? (?:for (?:all|every|any|each)|(?:and )?(?:it |which )?(?:is )?(?:attained|achieved|reached)|with equality|when)\b"
)
"""Behind a stated value: when it holds or is reached."""
CONCLUDED = re.compile(r"\bconcludes? that ?$")
HEDGES = re.compile(r"\b(?:or|maybe|perhaps|possibly|unless|but|and)\b|\?", re.IGNORECASE)
GOES_ON = re.compile(
    r"(?! ?(?:is|are|was|were|fails?|gives?|does|leads?|yields?|works?|satisf\w+)\b)"
    r"(?: [a-z]{1,20}){0,3}(?: (?:to|for|in|until|before) [A-Za-z ]{1,60})?"
)
"""A unit, and what it is for."""
CONDITION = re.compile(
    r"\s*(?:,|\\q?quad)?\s*\(?\s*[a-z] ?\\in ?\\mathbb ?\{?[A-Z]\}?(?: ?[\^_] ?\{?[*+]\}?)?\s*\)?$"
)
DISPLAY_ENDS = (("\\]", "\\["), ("$$", "$$"))
NEEDS = re.compile(r"\b(?:needs?|takes?|requires?|has|have|gets?|costs?|weighs?|is|are|equals?|obtain) ?$")
MAX_DISPLAY_CHARS = 200
MATHEMATICAL = re.compile(r"[\d\\]")


def closing_value(text: str) -> str | None:
    """The value that the last sentence states in a formula, in bold, or behind its last "is", ":" or "="; the
    one number of a sentence that begins with "So" or "Therefore".
    """
    tail = text[-TAIL_CHARS - 1 :].rstrip()
    if (displayed := _displayed(tail)) is not None:
        return displayed
    sentence = last_sentence(tail)
    if not sentence or sentence.endswith("?") or DOUBTS.search(sentence):
        return None
    spans = list(SPAN.finditer(sentence))
    if (announced := _announced(sentence, spans)) is not None:
        return announced
    if spans and (value := _spanned(sentence, spans)) is not None:
        return value
    bare = BARE_END.search(sentence, spans[-1].end() if spans else 0)
    if bare is not None and MATHEMATICAL.search(bare[1]):
        return bare[1].strip()
    numbers = DIGITS.findall(sentence)
    since = SINCE.match(sentence) and not SUPPOSES.search(sentence)
    concludes = (CONCLUDES.match(sentence) or since) and not DENIES.search(sentence)
    return numbers[0] if len(numbers) == 1 and not spans and concludes else None


def tag_closing(text: str) -> str | None:
    """`110` of "<answer> ... so the number should be 110": the end of a whole solution inside an answer tag."""
    if "<answer>" not in text:
        return None
    sentence = last_sentence(text)
    found = TAG_END.search(sentence)
    return None if found is None or DENIES.search(sentence) else found[1]


def last_sentence(text: str) -> str:
    """The sentence that the last line of a text ends with, without its stop; "" for a line too long to be read."""
    tail = text[-TAIL_CHARS - 1 :].rstrip()
    line = tail[tail.rfind("\n") + 1 :].strip()
    return "" if len(line) > TAIL_CHARS else SENTENCE.split(line)[-1].strip().rstrip(" .!")


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
    if len(spans) == 1 and not last[1] and not behind and _obtained(before, value):
        return last.group()
    only_number = len(spans) == 1 and last[1] and DIGIT.search(value) and not DIGIT.search(before + behind)
    return value.rpartition(": ")[2] if only_number else None


def _obtained(before: str, value: str) -> bool:
    r"""True for "..., we get $3120_4$" and for a calculation that concludes: "So $\log_2 64 = 6$"."""
    if DIGIT.search(before) or SUPPOSES.search(before):
        return False
    if "=" in value:
        return bool(CONCLUDES.match(before) and CALCULATION.fullmatch(value))
    return bool(WE_GET.search(before) and ONE_NUMBER.fullmatch(value))


def _announced(sentence: str, spans: list[re.Match[str]]) -> str | None:
    """`12` of "So pipe B needs $t = 12$ hours to fill the tank."; `3` of "The minimum is $3$, attained at $a = 1$", or None."""
    if not spans or (first := spans[0])[1] or DENIES.search(sentence):
        return None
    if _concluded(sentence, spans[-1]):
        return spans[-1].group()
    value = (first[2] or first[3]).strip()
    before, behind = sentence[: first.start()], sentence[first.end() :]
    if not ONE_VALUE.match(value) or SUPPOSES.search(before) or HEDGES.search(behind):
        return None
    if not ANNOUNCES.match(sentence):
        return None
    if STATES.search(before) and QUALIFIES.match(behind):
        return first.group()
    alone = len(spans) == 1 and NEEDS.search(before) and not DIGIT.search(before + behind)
    return first.group() if alone and NAMED_VALUE.match(value) and GOES_ON.fullmatch(behind) else None


def _concluded(sentence: str, last: re.Match[str]) -> bool:
    """True for a sentence that ends in "we conclude that $x = 2$"."""
    value = (last[2] or last[3] or "").strip()
    at_end = not sentence[last.end() :].strip()
    return at_end and bool(CONCLUDED.search(sentence, 0, last.start()) and NAMED_VALUE.match(value))


def _displayed(tail: str) -> str | None:
    r"""The formula of a display at the end, when a sentence like "Therefore the general term is" leads to it."""
    bare = tail.rstrip(" .\n")
    for closer, opener in DISPLAY_ENDS:
        start = bare.rfind(opener, 0, -len(closer)) if bare.endswith(closer) else -1
        if start < 0:
            continue
        value = CONDITION.sub("", bare[start + len(opener) : -len(closer)].strip(" .,\n"))
        lead = SENTENCE.split(bare[:start].rstrip().rpartition("\n")[2])[-1].strip()
        stated = STATES.search(lead) and ANNOUNCES.match(lead.lstrip("*_"))
        if not stated or DENIES.search(lead) or SUPPOSES.search(lead) or lead.count("$") % 2:
            return None
        return value if len(value) <= MAX_DISPLAY_CHARS and ONE_VALUE.match(value) else None
    return None
