"""Where the final answer stands in a text: the last box, what follows ####, what follows "the answer is".

All scans are linear in the length of the text, whatever the text: no lazy or nested quantifiers. The text is the
answer part of a trace; its reasoning is never searched.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from r1distill.answers.outcome import How

BARE_WORD = re.compile(r"\s?([^\s${}]{1,40})")
BOX_TOKENS = re.compile(r"\\{1,2}(?:boxed|fbox)(?![A-Za-z])[ \t]{0,4}(\{)?|\\[\\{}]|[{}]")
PHRASE = re.compile(
    r"\banswers?\b[\s*_]{0,8}(?:\b(?:is|are)\b|[:=：])[\s*_:：]{0,8}"
    r"|\bfinal answer\b[ \t*_]{0,8}\n[\s*_]{0,8}"
    r"|^[#*_]{1,6} ?(?:the )?answer[*_]{0,3}[ \t]{0,8}\n[\s*_]{0,8}",
    re.IGNORECASE | re.MULTILINE,
)
SUPPOSED = re.compile(
    r"(?:\b(?:if|whether|unless|suppose|supposing|assume|assuming|doubt|wonder)|n't (?:think|believe|say|claim|mean))"
    r"(?: that)?(?: (?:the|our|your|my|this))?(?: (?:final|correct|right|expected|true))? ?$",
    re.IGNORECASE,
)
"""In front of "answer is": nobody says that it is."""
LINE_LABEL = re.compile(r"^[ \t*]{0,4}A[*]{0,2}:[ \t*]{0,4}(?=\S)", re.MULTILINE)
BETWEEN_BOXES = re.compile(
    r"(?:[\s$]|\\q?quad(?![A-Za-z])|\\[,;:! ()\[\]]){0,12}"
    r"(?:[,;]|,? ?(?:and|or)|,? ?\\text\{ {0,2}(?:and|or) {0,2}\})"
    r"(?:[\s$]|\\q?quad(?![A-Za-z])|\\[,;:! ()\[\]]){0,12}(?:[A-Za-z] ?= ?)?"
)
SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
GOES_ON = re.compile(
    r"[ \t*_]{0,3}(?:\?|,? {0,2}(?:and|or|otherwise|if|unless|maybe|perhaps|possibly)\b|, ?(?:\$|\\\())",
    re.IGNORECASE,
)
"""Behind a formula: a question, or further values."""
TAG = "<answer>"
CLOSING_TAGS = re.compile(r"(?:</[A-Za-z_]{1,20}>\s{0,3}){1,3}$")
TAG_CHARS = 64
"""So much of the end may be closing tags."""
LAST_PHRASES = 4
"""So many phrases are looked at, from the end."""
CLAUSE_CHARS = 2000
"""So much of the text behind a phrase is looked at."""
WHOLE_CHARS = 80
"""A text up to this long may be an answer by itself."""


class Found(NamedTuple):
    """A final answer as it stands in the text."""

    text: str
    how: How


def find_marked(text: str, wants: re.Pattern[str] | None = None) -> Found | None:
    """The answer that the text itself marks as final, or None: box, then ####, then <answer> tag, then phrase.

    Of several phrases the last one counts; with `wants` the last one that it matches, if there is one.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return Found(boxed, "boxed")
    after = after_hashes(text)
    if after is not None:
        return Found(after, "hash")
    tagged = in_tag(text)
    if tagged is not None:
        return Found(tagged, "phrase")
    phrase = after_phrase(text, wants)
    return None if phrase is None else Found(phrase, "phrase")


def without_closing_tags(text: str) -> str:
    """`text` without a closing tag at its very end, as </answer>."""
    text = text.rstrip()
    found = CLOSING_TAGS.search(text, max(0, len(text) - TAG_CHARS))
    return text if found is None else text[: found.start()].rstrip()


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of `pattern` in `text`, read from the start."""
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def last_boxed(text: str) -> str | None:
    r"""What the last closed \boxed{...} holds; boxes joined by a comma or "and" come back as a list "a, b"."""
    if "boxed" not in text and "fbox" not in text:
        return None
    boxes = _boxes(text)
    if not boxes:
        return None
    start, _, content = boxes[-1]
    parts = [content]
    for earlier_start, earlier_end, earlier in reversed(boxes[:-1]):
        if not BETWEEN_BOXES.fullmatch(text, earlier_end, start):
            break
        parts.append(earlier)
        start = earlier_start
    return ", ".join(reversed(parts))


def all_boxes(text: str) -> list[str]:
    r"""What each closed outermost \boxed{...} holds, in order."""
    return [content for _, _, content in _boxes(text)] if "boxed" in text or "fbox" in text else []


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of every closed outermost box, by one pass that counts braces."""
    found: list[tuple[int, int, str]] = []
    depth = start = content_at = (
        0  # the depth counts from the box on: braces outside of boxes may be anything
    )
    for token in BOX_TOKENS.finditer(text):
        word = token.group()
        if "box" in word:
            if not token.group(1):
                if not depth:
                    _add_bare(text, token, found)
                continue
            if not depth:
                start, content_at = token.start(), token.end()
            depth += 1
        elif depth and word in "{}":
            depth += 1 if word == "{" else -1
            if not depth and text[content_at : token.start()].strip():
                found.append((start, token.end(), text[content_at : token.start()]))
    if depth:
        # An outer box was never closed: the boxes inside it, or behind it, may still be whole.
        found += [(s + content_at, e + content_at, c) for s, e, c in _inner_boxes(text[content_at:])]
    return found


def _inner_boxes(text: str) -> list[tuple[int, int, str]]:
    """The last closed box of a text whose braces don't match, found from its end."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return []
    depth = 0
    for token in BOX_TOKENS.finditer(text, start + 6):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0 and token.group() == "}":
            return [(start, token.end(), text[start + 7 : token.start()])]
    return []


def _add_bare(text: str, token: re.Match[str], found: list[tuple[int, int, str]]) -> None:
    r"""`\boxed 5`: the box holds the next word."""
    word = BARE_WORD.match(text, token.end())
    if word and word.group(1).rstrip(".,"):
        found.append((token.start(), word.end(), word.group(1).rstrip(".,")))


def after_hashes(text: str) -> str | None:
    """The rest of the line behind the last ####, as GSM8K marks its answers; None when there is none."""
    at = text.rfind("####")
    if at < 0:
        return None
    rest = text[at + 4 :].lstrip("# \t").split("\n", 1)[0].strip()
    return rest or None


def in_tag(text: str) -> str | None:
    """What the last <answer> tag holds, as R1-Zero's prompt asks for; None when there is none or it holds a whole solution."""
    at = text.rfind(TAG)
    if at < 0:
        return None
    inside = text[at + len(TAG) :].partition("</answer>")[0].strip()
    return inside if 0 < len(inside) <= WHOLE_CHARS else None


def after_phrase(text: str, wants: re.Pattern[str] | None = None) -> str | None:
    """What stands behind the last "answer is", "Answer:" or line label "A:", up to the end of the sentence."""
    phrases = list(deque(PHRASE.finditer(text), maxlen=LAST_PHRASES)) or list(
        deque(LINE_LABEL.finditer(text), maxlen=1)
    )
    phrases = [
        found for found in phrases if not SUPPOSED.search(text, max(0, found.start() - 60), found.start())
    ]
    clauses = [first_clause(text[found.end() : found.end() + CLAUSE_CHARS].lstrip()) for found in phrases]
    known = [clause for clause in clauses if clause]
    wanted = [clause for clause in known if wants is not None and wants.search(clause)]
    chosen = wanted or known
    return chosen[-1] if chosen else None


def first_clause(text: str) -> str:
    r"""`text` up to the end of its first sentence or line, "" for a question. A formula in $...$ or \(...\) at its start is
    kept whole; what follows it belongs to it only when it says more, as "or $15$" does.
    """
    end = _leading_formula(text)
    if end and not GOES_ON.match(text, end):
        return text[:end]
    end_of = SENTENCE_END.search(text, end)
    if end_of and end_of.group() == "?":
        return ""
    return (text[: end_of.start()] if end_of else text).strip(" *_\t\"'")


def _leading_formula(text: str) -> int:
    """Where the formula ends that `text` begins with; 0 when it begins otherwise."""
    for opener, closer in (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")):
        if text.startswith(opener):
            end = text.find(closer, len(opener))
            if end > 0 and (closer != "$" or "\n" not in text[:end]):
                return end + len(closer)
    return 0
