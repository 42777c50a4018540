r"""Mathematics without backslashes, as programs write it: sqrt(3)/2, pi/4, 0.5 * ln(3), theta^2. In TeX afterwards.

In: a normalised text, and the normalised reference it is compared with (itself, for a reference). Out: the text in TeX; texts
that hold other words stay as they are. Bounded texts only, so the cost is bounded too.
"""

from __future__ import annotations

import re

from r1distill.answers.units import read_unit

MAX_CHARS = 500
GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "rho", "sigma",
    "tau", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Sigma", "Phi", "Psi", "Omega",
)  # fmt: skip
TEX = {
    **{name: f"\\{name}" for name in GREEK},
    **{name: f"\\{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")},
    **{name: f"\\{name}" for name in ("arcsin", "arccos", "arctan", "ln", "log", "pi", "sqrt", "exp")},
    "asin": "\\arcsin", "acos": "\\arccos", "atan": "\\arctan", "cbrt": "\\sqrt[3]",
    "frac": "\\frac", "infinity": "\\infty", "infty": "\\infty", "inf": "\\infty",
}  # fmt: skip
NAMES = "|".join(sorted(TEX, key=len, reverse=True))
KNOWN = re.compile(rf"(?<![\\A-Za-z])(?:{NAMES})(?![A-Za-z])")
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
COMMAND = re.compile(r"\\(?:begin|end) ?\{[a-z*]+\}(?:\{[lcr|]+\})?|\\[A-Za-z]+")
SMALL_WORDS = frozenset(
    ["is", "the", "of", "to", "in", "if", "not", "but", "for", "no", "an", "at", "by", "on", "so", "as"]
)
SIZES = frozenset(["square", "cubic", "units", "unit"])
VARIABLES = 3
"""A longer word that is no name is prose."""
ROOT = re.compile(r"(?<![\\A-Za-z])(sqrt|cbrt|exp) ?(?:\(|(\{)|(?<=t) ?(\d+))")
LOG_BASE = re.compile(r"(?<![\\A-Za-z])log_?(2|10)(?= ?\()")
POWER = re.compile(r"(?<=[\w)]) ?\*\* ?(?=[\w(-])")
SHORT = re.compile(r"(?<![A-Za-z])[A-Za-z]{1,3}(?![A-Za-z])")
ONE_COMMAND = re.compile(r"\\[A-Za-z]+")
NEGATIVE_POWER = re.compile(r"\^ ?(-\d+)")
OPENERS = {"sqrt": "\\sqrt{", "cbrt": "\\sqrt[3]{", "exp": "e^{"}


def in_tex(text: str, reference: str) -> str:
    r"""`text` with the names of functions, constants and Greek letters as commands; most texts unchanged.

    Against ip + q the text "pi + q" stays p times i, plus q. The names xi, mu, nu, and a text of one word, are names only where
    the reference has the command.
    """
    if len(text) > MAX_CHARS or (KNOWN.search(text) is None and "**" not in text):
        return text
    if text.isalpha() and text != "pi":
        wanted = text in TEX and (TEX[text] in reference or ONE_COMMAND.fullmatch(reference))
        return TEX[text] if wanted else text
    if not _is_formula(text):
        return text
    text = NEGATIVE_POWER.sub(r"^{\1}", POWER.sub("^", text))
    text = _with_roots(LOG_BASE.sub(r"\\log_{\1}", text))
    return KNOWN.sub(lambda name: _command(name.group(), reference), text).strip()


def _is_formula(text: str) -> bool:
    words = (word for word in WORD.findall(COMMAND.sub(" ", text)) if word not in TEX)
    return not any(
        word.lower() in SMALL_WORDS
        or (len(word) > VARIABLES and word.lower() not in SIZES and read_unit(word) is None)
        for word in words
    )


def _command(name: str, reference: str) -> str:
    if len(name) > 2 or name == "ln" or TEX[name] in reference:
        return f"{TEX[name]} "
    if name != "pi":
        return name
    letters = "".join(word for word in SHORT.findall(COMMAND.sub(" ", reference)) if word not in TEX)
    return name if "p" in letters and "i" in letters else f"{TEX[name]} "


def _with_roots(text: str) -> str:
    r"""\sqrt{3} of sqrt(3), the innermost first."""
    for found in reversed(list(ROOT.finditer(text))):
        opener, start, end = OPENERS[found[1]], found.start(), found.end()
        if found[3]:
            text = f"{text[:start]}{opener}{found[3]}}}{text[end:]}"
        elif (close := _closed(text, end - 1)) is not None:
            text = f"{text[:start]}{opener}{text[end:close]}}}{text[close + 1 :]}"
    return text


def _closed(text: str, opened: int) -> int | None:
    """Where the bracket at `opened` is closed."""
    depth = 0
    for at in range(opened, len(text)):
        depth += (text[at] in "({[") - (text[at] in ")}]")
        if depth == 0:
            return at
    return None
