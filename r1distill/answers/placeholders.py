"""References that are no answer: "proof", "N/A", "see solution". Data sets hold them where nobody wrote an answer down.

Source: the answer columns of NuminaMath and OpenR1-Math ("proof", "notfound"), pandas' and Python's own empty values.
"""

from __future__ import annotations

import re

from r1distill.answers.normalise import folded

_WORDS = frozenset([
    "n/a", "n.a", "na", "none", "null", "nil", "nan", "nat", "tbd", "todo", "tba", "error", "fail", "failed",
    "unknown", "unk", "missing", "empty", "blank", "placeholder", "pending", "omitted", "answer", "the answer", "solution",
    "no answer", "not available", "unavailable", "not applicable", "not provided", "not given", "not specified", "unspecified",
    "not found", "notfound", "not_found", "no answer found", "no answer provided", "unanswerable", "to be determined",
    "qed", "q.e.d", "proved", "proven", "as shown", "shown", "verified", "image", "picture", "figure", "diagram", "graph",
    "answers vary", "answers may vary", "answers will vary", "open-ended", "open ended", "free response",
    "略", "证明略", "证明", "见解析", "见详解", "答案见解析", "无", "暂无", "未知",
])  # fmt: skip
_POINTING = re.compile(r"(?:please )?(?:see|refer to|cf\.?) [a-z' .-]{1,60}")
_PROOF = re.compile(r"(?:the )?(?:proof|prove|show that|to prove)(?:[ :,].{1,80})?")
MAX_CHARS = 100
"""Longer texts are no placeholder."""


def is_placeholder(text: str) -> bool:
    """True for a text that stands where an answer is missing; case, brackets and stops around it don't count."""
    if len(text) > MAX_CHARS:
        return False
    plain = folded(text).strip("()[]{}<>-_#$\\ .")
    return plain in _WORDS or bool(_POINTING.fullmatch(plain) or _PROOF.fullmatch(plain))
