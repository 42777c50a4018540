"""Reading the letters of a multiple-choice answer: "C", "(c)", "C. text", "option C", "B or C"; and what takes one back.

In: a normalised text. Out: the letters in order, as "C" or "B, C", or None. All patterns are bounded, so they are linear.
"""

from __future__ import annotations

import re
from collections import deque

from r1distill.answers.claims import negated

LETTER = r"\(?([A-J])(?:\)|(?![\w'])\.?:?)"
LEADING = re.compile(rf"(?:(?:either|both|option|choice|answer)s?[ :]{{1,2}}){{0,2}}{LETTER}", re.IGNORECASE)
JOIN = re.compile(
    r"[ \]).:]{0,3}(?:[,;/&+|]|\\(?:&|lor|land|vee|wedge|cup)|\(?\b(?:or|and|but|maybe|perhaps|possibly)\b)"
    r"[ ,&]{0,3}(?:(?:or|and|but|maybe|perhaps|possibly|also|even|else|both|option|choice|answer)\b ?){0,3}",
    re.IGNORECASE,
)
"""What joins a further letter to the one before it."""
FURTHER = re.compile(
    r"\(?(?:([B-HJ])|([AI])(?! (?!(?:or|and|is|are)\b)[a-z]))(?![\w'])\)?|[(\[]([A-Ja-j])[)\]]"
)
"""A further letter; an A in front of a word is an article."""
BRACKETED_NEXT = re.compile(r"[ ,]{0,2}[(\[]([A-J])[)\]]", re.IGNORECASE)
BARE_NEXT = re.compile(r"[ -]{1,3}([A-J])[.)\]]{0,2}$")
FORMULA = re.compile(r"\\| ?[\^+*<>?]|-[a-z]| \\(?:cap|cup|times|cdot|neq?|in|subset)(?![A-Za-z])")
"""Behind a letter: it is a variable, or a question."""
DENIED = re.compile(
    r"[ ,:]{0,2}(?:is|was|isn't|wasn't|are|can't|cannot|could|can)\b(?: (?:not|never|be|clearly|definitely|also|the|a)){0,4} ?"
    r"(?:wrong|incorrect|false|out|impossible|eliminated|excluded|ruled out|correct|right|it|true|possible|answer|best)\b"
)
"""Read together with DENIES: "is not the answer", "isn't right", "is wrong"."""
DENIES = re.compile(r"not|n't|never|wrong|incorrect|false|out\b|impossible|eliminated|excluded")
RETRACTED = re.compile(
    r"[ ,.:;?!-]{0,4}\b(?:no|wait|actually|hmm|sorry|scratch that)\b.{0,200}(?<![\w'])(?:[B-HJ]|[(\[]A[)\]]|A$)",
    re.IGNORECASE,
)
SAYS_SO = re.compile(
    r" ?(?:$|[\d$=,;(\\–—-]|(?:because|since|as|due)\b"
    r"|is (?:the |clearly |most |probably )?(?:correct|right|best|true|answer|likely)\b)",
    re.IGNORECASE,
)
"""Behind a bare letter that is the whole answer."""
REASON = re.compile(r"[ ,]{0,2}(?:because|since|as)\b", re.IGNORECASE)
NAMED = re.compile(r"\b(?:option|choice|letter)[ :]{1,2}[*(\[]{0,3}([A-J])\b", re.IGNORECASE)
BRACKETED = re.compile(r"[(\[]([A-J])[)\]]|\*\*([A-J])[.):]?\*\*")
STANDALONE = re.compile(r"(?<![\w'])([B-HJ])(?![\w'])")
MOST = 10
"""So many letters are read."""


def read_letters(text: str) -> str | None:
    """The letters that `text` begins with; None when it begins otherwise, or takes its letter back.

    A lower-case letter or an "A" in front of a word counts only with a bracket, a stop or nothing behind it.
    """
    text = _bare(text)
    found = LEADING.match(text)
    if found is None:
        return None
    rest = text[found.end() :].rstrip(" ]}\\")
    clear = _is_label(found) or not rest or found.group().lower().startswith(("option", "choice"))
    further = _further(text, found)
    if not further and not clear and (found.group(1).islower() or found.group(1) in "AI"):
        return None
    if not further and (_taken_back(rest) or (not _is_label(found) and FORMULA.match(rest))):
        return None
    return ", ".join(sorted({found.group(1).upper(), *further}))


def read_whole(text: str) -> str | None:
    """As `read_letters`, for a text that nothing marks as the answer: words behind a bare letter must say that it is one, and
    no other letter may be named behind it.
    """
    letters = read_letters(text)
    found = LEADING.match(_bare(text))
    if letters is None or found is None or ", " in letters:
        return letters
    rest = found.string[found.end() :].rstrip(" ]}\\")
    if REASON.match(rest):
        return letters
    if not _is_label(found) and not SAYS_SO.match(rest):
        return None
    others = set(_all(NAMED, rest) + _all(BRACKETED, rest)) - {letters}
    return None if others else letters


def named_letters(text: str) -> str | None:
    """A letter inside a clause ("the second one, (C)", "clearly option B"); None when it names several, or none."""
    for pattern in (NAMED, BRACKETED):
        letters = set(_all(pattern, text))
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def last_letter(text: str) -> str | None:
    """The last letter in brackets, else the last one that stands alone, of those that are not denied: a guess."""
    for pattern in (BRACKETED, STANDALONE):
        if letters := _all(pattern, text):
            return letters[-1]
    return None


def _all(pattern: re.Pattern[str], text: str) -> list[str]:
    """The last letters that `pattern` finds, without those that are denied in front or behind: "not (C)", "B is wrong"."""
    found = deque(pattern.finditer(text), maxlen=MOST)
    return [
        next(group for group in match.groups() if group).upper()
        for match in found
        if not negated(text, match.start()) and not _taken_back(text[match.end() : match.end() + 300])
    ]


def _bare(text: str) -> str:
    """`text` without the marks of formulas, bold print and lists."""
    return text.replace("$", "").replace("*", "").strip().lstrip("[{\\ ")


def _is_label(found: re.Match[str]) -> bool:
    return found.group().endswith((")", ".", ":"))


def _further(text: str, first: re.Match[str]) -> list[str]:
    """The letters joined to the first one: by "or", "and", a comma, a slash, or in brackets right behind it."""
    letters: list[str] = []
    at = first.end()
    while len(letters) < MOST:
        joined = JOIN.match(text, at)
        found = FURTHER.match(text, joined.end()) if joined else BRACKETED_NEXT.match(text, at)
        if found is None:
            break
        letters.append(next(group for group in found.groups() if group).upper())
        at = found.end()
    if not letters and not _is_label(first) and (bare := BARE_NEXT.fullmatch(text.rstrip(" ]}\\"), at)):
        letters.append(bare[1])
    return letters


def _taken_back(rest: str) -> bool:
    """True when what follows a letter denies it, or goes on to another one: " is wrong", "? No, C"."""
    if rest[:1] == "?" or RETRACTED.match(rest):
        return True
    denied = DENIED.match(rest)
    return denied is not None and DENIES.search(denied.group()) is not None
