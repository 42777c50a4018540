r"""Is the trace written in one script, and in that of the question?

In: question, reasoning, answer. Out: letters by Unicode script in each. Scripts, not languages: English and French look
alike here. Telling languages apart by statistics was tried and is useless on mathematics; scripts are exact.

What does not count as letters: mathematics (`$...$`, `\(...\)`, LaTeX commands, Greek), code in fences, digits. Beside
another script, Latin letters count only in phrases of three words, since sin, x and Python stand in every language's text.
Block ranges: https://www.unicode.org/Public/UNIDATA/Blocks.txt
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from r1distill.checks.base import Check, Judgement, Value, failed, passed, unjudged
from r1distill.records import Prompt, Trace

Counts = dict[str, int]
"""Letters by script; one of a WEIGHT above 1 counts so many times."""

BLOCKS = (
    (0x0000, ""), (0x00C0, "Latin"), (0x00D7, ""), (0x00D8, "Latin"), (0x00F7, ""), (0x00F8, "Latin"), (0x0250, ""),
    (0x0370, "Greek"), (0x0400, "Cyrillic"), (0x0530, "Armenian"), (0x0590, "Hebrew"), (0x0600, "Arabic"), (0x0700, ""),
    (0x0750, "Arabic"), (0x0780, ""), (0x08A0, "Arabic"), (0x0900, "Devanagari"), (0x0980, "Bengali"), (0x0A00, "Gurmukhi"),
    (0x0A80, "Gujarati"), (0x0B00, ""), (0x0B80, "Tamil"), (0x0C00, "Telugu"), (0x0C80, "Kannada"), (0x0D00, "Malayalam"),
    (0x0D80, "Sinhala"), (0x0E00, "Thai"), (0x0E80, "Lao"), (0x0F00, "Tibetan"), (0x1000, "Myanmar"), (0x10A0, "Georgian"),
    (0x1100, "Hangul"), (0x1200, "Ethiopic"), (0x1380, ""), (0x1780, "Khmer"), (0x1800, ""), (0x1E00, "Latin"),
    (0x1F00, "Greek"), (0x2000, ""), (0x3041, "Kana"), (0x3100, ""), (0x3131, "Hangul"), (0x318F, ""), (0x31F0, "Kana"),
    (0x3200, ""), (0x3400, "Han"), (0x4DC0, ""), (0x4E00, "Han"), (0xA000, ""), (0xAC00, "Hangul"), (0xD7B0, ""),
    (0xF900, "Han"), (0xFB00, "Latin"), (0xFB07, ""), (0xFB1D, "Hebrew"), (0xFB50, "Arabic"), (0xFE00, ""),
    (0xFE70, "Arabic"), (0xFEFF, ""), (0xFF66, "Kana"), (0xFFA0, ""), (0x20000, "Han"), (0x323B0, ""),
)  # fmt: skip
"""First code points of the blocks with letters of one script; "" where letters of none, or only symbols, stand."""
STARTS, NAMES = zip(*BLOCKS, strict=True)
WEIGHT = {"Han": 3, "Kana": 2, "Hangul": 2}
"""Latin letters that say as much as one of these: texts of one content have about this ratio of lengths."""
LANGUAGES = {
    "Han": "zh yue wuu", "Kana": "ja", "Hangul": "ko", "Cyrillic": "ru uk bg be mk kk mn", "Arabic": "ar fa ur ps",
    "Hebrew": "he yi", "Devanagari": "hi mr ne", "Bengali": "bn as", "Gurmukhi": "pa", "Gujarati": "gu", "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn", "Malayalam": "ml", "Sinhala": "si", "Thai": "th", "Lao": "lo", "Tibetan": "bo", "Myanmar": "my",
    "Georgian": "ka", "Ethiopic": "am ti", "Khmer": "km", "Armenian": "hy", "Greek": "el",
    "Latin": "en es fr de pt it nl pl cs sk sl hr ro hu sv da nb nn no fi et lv lt tr vi id ms tl sw ca gl eu la",
}  # fmt: skip
"""Scripts of languages by ISO 639 code; languages of two scripts (sr, uz, az) are left out."""
MIN_LETTERS = 6
"""Letters below which nothing is said about a text: "What is" has six."""
CLEARLY = 8
"""Times as many Latin letters as others make a text Latin prose for sure: no search for phrases is needed."""
ASCII_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ASCII_OTHERS = bytes(set(range(128)) - set(ASCII_LETTERS))
NOT_ASCII = bytes(range(128, 256))
OTHER = re.compile("[\u0400-\u1dff\u3040-\U0003ffff]")
"""What may be a letter of a script that is neither Latin nor Greek."""
COMMAND = re.compile(r"\\[A-Za-z]+(?:\{[A-Za-z]{1,40}\})?")
PHRASE = re.compile(r"(?<![A-Za-z])[A-Za-z]{1,30}(?:[ '-][A-Za-z]{1,30}){2,}")
WORD = re.compile(r"[A-Za-z]{2,}")


class Language(Check):
    """Keeps traces in one script, that of the question."""

    unjudged: Literal["drop", "keep"] = "keep"
    """What happens to traces with too few letters to tell (a question of symbols only): kept by default."""
    max_foreign_share: float = Field(default=0.01, ge=0, le=1)
    """Largest share of letters in other scripts than the text's main one; scripts of the question are not foreign."""
    same_as_question: bool = True
    """Reject reasoning or answers whose main script is not the question's (or that of the prompt's tag `language`)."""

    anywhere: ClassVar[bool] = True
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """The question, and which language it is tagged with."""
        return [prompt.question, prompt.tags.get("language")]

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"question", "reasoning", "answer": letters by script; "asked": the script of the tagged language or null}."""
        return {
            "question": script_counts(prompt.question),
            "reasoning": script_counts(trace.reasoning),
            "answer": script_counts(trace.answer),
            "asked": script_of_language(prompt.tags.get("language")),
        }

    def judge(self, value: Value) -> Judgement:
        """Mixed scripts first, then another script than asked; the score is the larger foreign share."""
        question = value["question"]
        parts = {part: main_script(value[part]) for part in ("reasoning", "answer")}
        known = {part: script for part, script in parts.items() if script}
        if not known:
            return unjudged("too few letters")
        shares = [(_foreign(value[part], script, question), script) for part, script in known.items()]
        (share, other), script = max(shares)
        share = round(share, 4)
        if share > self.max_foreign_share:
            return failed(f"{other} among {script}", share)
        if not self.same_as_question:
            return passed("one script", share)
        asked = value["asked"] or main_script(question)
        if not asked:
            return unjudged("too few letters in the question", share)
        welcome = {asked} if value["asked"] else {asked, *_also(question, asked)}
        wrong = next(
            (f"{part} in {script}, not {asked}" for part, script in known.items() if script not in welcome),
            "",
        )
        return failed(wrong, share) if wrong else passed("one script", share)


def script_counts(text: str) -> Counts:
    """Letters of prose in `text` by script, most first."""
    data = text.encode("utf-8", "ignore")
    letters = _beyond_ascii(data)
    if not OTHER.search(letters):
        counts, latin = _weighed(letters), _ascii_letters(data)
    else:
        prose = _prose(text)
        data = prose.encode("utf-8", "ignore")
        counts, latin = _weighed(_beyond_ascii(data)), _ascii_letters(data)
        if latin < CLEARLY * counts.total():
            latin = sum(_words(found.group()) for found in PHRASE.finditer(prose))
    if latin:
        counts["Latin"] += latin
    return dict(counts.most_common())


def _ascii_letters(data: bytes) -> int:
    return len(data.translate(None, ASCII_OTHERS + NOT_ASCII))


def _beyond_ascii(data: bytes) -> str:
    return "" if data.isascii() else data.translate(None, ASCII_LETTERS + ASCII_OTHERS).decode()


def _weighed(letters: str) -> Counter[str]:
    """Letters beyond ASCII by script."""
    found: Counter[str] = Counter()
    for char, count in Counter(letters).items():
        script = _script(char)
        if script:
            found[script] += count * WEIGHT.get(script, 1)
    return found


def _prose(text: str) -> str:
    r"""`text` without fenced code, mathematics between dollars or \( and \), and LaTeX commands. By splitting, since a
    regular expression is quadratic on hostile text.
    """
    text = " ; ".join(text.split("```")[::2])
    for opener, closer in (("\\(", "\\)"), ("\\[", "\\]")):
        head, *pieces = text.split(opener)
        text = " ; ".join(
            [head, *(after if closed else inside for inside, closed, after in _parted(pieces, closer))]
        )
    if "$" in text:
        lines = (line.split("$") for line in text.replace("$$", "$").split("\n"))
        text = "\n".join(" ; ".join(pieces[::2] if len(pieces) % 2 else pieces) for pieces in lines)
    return COMMAND.sub(" ; ", text) if "\\" in text else text


def _parted(pieces: list[str], closer: str) -> Iterator[tuple[str, str, str]]:
    return (piece.partition(closer) for piece in pieces)


@functools.lru_cache(maxsize=100_000)
def _script(char: str) -> str:
    name: str = NAMES[bisect_right(STARTS, ord(char)) - 1]
    return name


def _words(phrase: str) -> int:
    """Letters of a phrase; none when it is mostly single letters, as "a, b, c" is."""
    words = WORD.findall(phrase)
    return sum(map(len, words)) if len(words) >= 3 else 0


def main_script(counts: Counts) -> str | None:
    """The script of most letters ("Kana" for Japanese, Han letters included); None when there are too few letters."""
    counts = {script: count for script, count in counts.items() if script != "Greek" or len(counts) == 1}
    if sum(counts.values()) < MIN_LETTERS:
        return None
    kana = counts.get("Kana", 0)
    if 8 * kana >= counts.get("Han", 0) and kana:
        counts = {**counts, "Kana": kana + counts.pop("Han", 0)}
    return max(counts, key=lambda script: counts[script])


def _also(question: Counts, main: str) -> set[str]:
    """Further scripts that a question is partly written in ("What does ... mean in English?"): an answer may be, too."""
    parts = {"Han"} if main == "Kana" else set()
    return {script for script, count in question.items() if count >= MIN_LETTERS} - parts


def _foreign(counts: Counts, main: str, question: Counts) -> tuple[float, str]:
    """The share of letters in scripts foreign to a text, and which is the most frequent of them."""
    home = {main, "Greek", "Han" if main == "Kana" else main, *question}
    foreign = {script: count for script, count in counts.items() if script not in home}
    share = sum(foreign.values()) / max(1, sum(counts.values()))
    return share, max(foreign, key=lambda script: foreign[script], default="")


def script_of_language(tag: Any) -> str | None:
    """The script of a language tag such as "en", "zh-Hans" or "pt_BR"; None when unknown."""
    if not isinstance(tag, str):
        return None
    code = re.split("[-_]", tag.strip().lower())[0]
    return next((script for script, codes in LANGUAGES.items() if code in codes.split()), None)
