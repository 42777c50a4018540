r"""Answers that nothing marks, known by the reference: a text that is the reference, "B. Carl wins" for B, "Yes, because ..." for
yes, and the bold word of "Therefore she faces **east**." for east.

Asked only where a text marks no answer and states none in a way that the other modules read.
"""

from __future__ import annotations

import re

from r1distill.answers.closing import last_sentence
from r1distill.answers.extract import WHOLE_CHARS, Found
from r1distill.answers.letters import read_whole
from r1distill.answers.normalise import folded, latex, squeezed, without_name
from r1distill.answers.words import is_words, label, letter, saying, yes_or_no

MAX_CHARS = 500
"""A longer text is no answer by itself."""
SENTENCE_CHARS = 250
BOLD = re.compile(r"\*\*([^*\n]{1,40})\*\*")
OPTION = re.compile(r"\b[A-J][.)]")
CONCLUDES = re.compile(r"(?:So|Thus|Therefore|Hence|Finally|Consequently|In conclusion)\b")
UNSURE = re.compile(
    r"\b(?:not|never|cannot|neither|nor|or|but|if|unless|except|maybe|perhaps|possibly|might|may|could|instead|wrong)\b|n't|\?",
    re.IGNORECASE,
)


def by_reference(wanted: str, text: str) -> Found | None:
    """The answer that an unmarked text gives to the normalised reference `wanted`; None when it gives none."""
    text = text.strip()
    if len(text) <= MAX_CHARS and _says(wanted, text):
        return Found(text, "whole")
    if letter(wanted) and len(text) <= WHOLE_CHARS and (chosen := _labelled(text)) is not None:
        return Found(chosen, "whole")
    if is_words(wanted) and (bold := _concluded_word(text)) is not None:
        return Found(bold, "closing")
    return None


def _says(wanted: str, text: str) -> bool:
    if wanted.casefold() in ("yes", "no"):
        return len(text) <= SENTENCE_CHARS and "\n" not in text and yes_or_no(text) is not None
    bare = latex(text)
    if is_words(wanted):
        return folded(bare) == folded(wanted) or (saying(wanted) or "") == saying(bare)
    return squeezed(bare) in (squeezed(wanted), squeezed(without_name(wanted)))


def _labelled(text: str) -> str | None:
    """`A` of "A. Alice"; None when another option is named as well."""
    one = label(text) is not None and len(OPTION.findall(text)) == 1 and not UNSURE.search(text)
    return read_whole(latex(text)) if one else None


def _concluded_word(text: str) -> str | None:
    """The only bold text of a last sentence that begins with "Therefore" or the like, when it is one word or more, no number."""
    sentence = last_sentence(text)
    spans = BOLD.findall(sentence)
    if len(spans) != 1 or "$" in sentence or "\\" in sentence or not CONCLUDES.match(sentence):
        return None
    return (
        spans[0].strip(" .,:") if is_words(spans[0].strip(" .,:")) and not UNSURE.search(sentence) else None
    )
