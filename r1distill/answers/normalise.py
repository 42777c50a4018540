"""One spelling for the same piece of mathematics: LaTeX wrappers, currency, units, unusual digits go.

Everything here is text in, text out, linear, and never raises.
"""

from __future__ import annotations

import re
import unicodedata

SPACES = re.compile(
    r"(?<!\\)\\[,;:!> ]|~|\\q?quad(?![A-Za-z])|\\(?:displaystyle|limits|nolimits)(?![A-Za-z])|[\u00a0\u2009\u202f]"
)
THIN_SPACE = re.compile(r"(?<=\d)(?:\\,|[\u2009\u202f])(?=\d{3}(?!\d))")
ROW_GAP = re.compile(r"\\\\ ?\[ ?-?[\d.]{1,6} ?(?:pt|ex|em|mm|cm|in) ?\]")
"""A new matrix row with its distance."""
ANGLES = re.compile(r"\\([lr])angle(?![A-Za-z])")
NEGATIVE_SPACE = re.compile(r"\\! ?")
BRACE_SPACE = re.compile(r"(?<=\{) +|(?<! ) +(?=\})")
"""The parser reads 1 + \\frac{1}{ e } as 1."""
DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dt]?frac|sqrt|text|left|right|pi|cdot|times|infty|cup|circ)(?![A-Za-z]))"
)
"""A command escaped twice, as text that went through JSON once too often has it."""
SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\.?")
DEGREES = re.compile(r"\^ ?(?:\\circ(?![A-Za-z])|\{ ?\\circ ?\}|°)|°|\\degree(?![A-Za-z])")
WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf)?|mathrm|mathbf|mathit|operatorname|mbox|hbox|boxed|fbox) ?\{([^{}]*)\}"
)
FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
BARE_FRAC = re.compile(r"\\frac ?(?:(\d)|\{([^{}]*)\}) ?(?:(\d)|\{([^{}]*)\})")
BARE_SQRT = re.compile(r"\\sqrt ?(\d)")
CURRENCY = re.compile(r"\\\$|[€£¥₹₽₩]")
VULGAR = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
SUPERSCRIPT_RUN = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
SYMBOLS = str.maketrans({
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/", "π": "\\pi ",
    "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "√": "\\sqrt ",
    "±": "\\pm ", "∓": "\\mp ",
    "，": ",", "．": ".", "⁄": "/", "∕": "/", "’": "'", "‘": "'", "“": '"', "”": '"',
})  # fmt: skip
DELIMITERS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("`", "`"),
    ('"', '"'),
    ("__", "__"),
)
WRAPPING = ("$", "\\", "*", "`", '"', "_")
"""What the delimiters begin with."""
SPACED_THOUSANDS = re.compile(r"([+-]?\d{1,3})((?: \d{3})+)(?![\d])")
ASSIGNMENT = re.compile(r"^ ?[A-Za-z](?:_\{?\w{1,3}\}?)? ?(?:\([a-z]\) ?)?=(?![=<>])")
LOOSE_SPACE = re.compile(r"(?<!\d) | (?!\d)")
MAX_MARKS = 30
FOREIGN_RUN = re.compile(r"[^\x00-\x7f]{31}")
"""Without one no run of marks can be too long."""
MAX_PASSES = 8
"""Wrappers inside wrappers are taken off so many times, no more."""


def speakable(text: str) -> str:
    """`text` with the replacement character for each half of a surrogate pair, which no file and no pipe can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def compatible(text: str) -> str:
    """`text` in normal form NFKC. Of a run of more than MAX_MARKS combining marks the rest is dropped: sorting them takes
    time that is quadratic in the run, and 30 are enough for every language (Unicode Standard Annex 15, stream-safe text).
    """
    if text.isascii():
        return text
    if not FOREIGN_RUN.search(text):
        return unicodedata.normalize("NFKC", text)
    kept, marks = [], 0
    for char in text:
        marks = marks + 1 if char > "\x7f" and _is_mark(char) else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    return unicodedata.normalize("NFKC", "".join(kept))


def _is_mark(char: str) -> bool:
    return unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) != 0


def unicode_digits(text: str) -> str:
    """`text` with digits of every script, full-width letters and mathematical signs in their ASCII or LaTeX spelling."""
    if text.isascii():
        return text
    text = SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(SUPERSCRIPTS) + "}", text)
    text = VULGAR.sub(lambda sign: " " + unicodedata.normalize("NFKC", sign.group()), text)
    text = compatible(text.translate(SYMBOLS)).translate(SYMBOLS)
    return "".join(_ascii_digit(c) if c > "\x7f" else c for c in text)


def _ascii_digit(char: str) -> str:
    digit = unicodedata.decimal(char, None)
    return char if digit is None else str(digit)


def unwrap(text: str) -> str:
    """`text` without white space, Markdown or formula delimiters around it, and without a full stop at its end."""
    text = text.strip()
    for _ in range(MAX_PASSES):
        before = text
        text = text.rstrip(" .,;:\t\n").lstrip(" ,;:\t\n")
        if text[:1] not in WRAPPING:
            break
        for opener, closer in DELIMITERS:
            inside = text[len(opener) : -len(closer)]
            if inside and text.startswith(opener) and text.endswith(closer) and closer not in inside:
                text = inside.strip()
        if text == before:
            break
    return text


def latex(text: str) -> str:
    r"""One spelling of a mathematical text: sizes, spaces, \text{}, \\dfrac, degrees and currency signs normalised."""
    text = unwrap(unicode_digits(text)).rstrip("\\ ")
    if text.isdigit() and text.isascii():
        return text
    text = text.replace("{,}", ",").replace("{:}", ":")
    if "\\" in text or "~" in text or not text.isascii():
        text = NEGATIVE_SPACE.sub("", text.replace("\\%", "%"))
        text = DOUBLED.sub(r"\\", text) if "\\\\" in text else text
        text = THIN_SPACE.sub("", ROW_GAP.sub(r"\\\\", text))
        text = CURRENCY.sub("", text)
        text = DEGREES.sub("", SIZES.sub("", SPACES.sub(" ", text)))
        text = ANGLES.sub(lambda found: "(" if found[1] == "l" else ")", text)
        text = BARE_SQRT.sub(r"\\sqrt{\1}", FRAC.sub(r"\\frac", text))
        text = BARE_FRAC.sub(_braced_frac, text)
        for _ in range(MAX_PASSES):
            unwrapped = WRAPPED.sub(lambda m: f" {m.group(1)} ", text)
            if unwrapped == text:
                break
            text = unwrapped
        text = BRACE_SPACE.sub("", text)
    text = unwrap(" ".join(text.split()).strip("$ "))
    found = SPACED_THOUSANDS.match(text)
    return text if found is None else found.group().replace(" ", "") + text[found.end() :]


def _braced_frac(found: re.Match[str]) -> str:
    top = found.group(1) or found.group(2) or ""
    bottom = found.group(3) or found.group(4) or ""
    return f"\\frac{{{top}}}{{{bottom}}}"


def without_name(text: str) -> str:
    """The right side of `x = 5`, `f(x) = ...`; other texts unchanged."""
    found = ASSIGNMENT.match(text)
    return text[found.end() :].strip() if found else text


def squeezed(text: str) -> str:
    """`text` without white space, for comparing spellings; a space between digits stays (3 1/2 is not 31/2)."""
    return LOOSE_SPACE.sub("", " ".join(text.split()))


def folded(text: str) -> str:
    """`text` for comparing words: case folded, single spaces, no punctuation or quotes around it."""
    return " ".join(unwrap(compatible(text)).casefold().split()).strip(" .,;:!?\"'`*_")


def balanced(text: str) -> bool:
    """True when the curly braces of `text` match."""
    depth = 0
    for token in re.finditer(r"\\[\\{}]|[{}]", text):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth < 0:
            return False
    return depth == 0


def nesting(text: str) -> int:
    """The deepest nesting of brackets and of stacked exponents in `text`."""
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth = max(0, depth - 1)
    return deepest
