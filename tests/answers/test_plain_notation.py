"""Names of functions, constants and Greek letters without backslashes."""

from __future__ import annotations

import time

import pytest

from r1distill.answers.plain_notation import MAX_CHARS, in_tex


@pytest.mark.parametrize(
    ("text", "reference", "tex"),
    [
        ("pi/4", "1", r"\pi /4"),
        ("2pi", "1", r"2\pi"),
        ("sqrt(2 - sqrt(3))", "1", r"\sqrt{2 - \sqrt{3}}"),
        ("sqrt5/2", "1", r"\sqrt{5}/2"),
        ("(1 + sqrt{5})/2", "1", r"(1 + \sqrt{5})/2"),
        ("0.5 * ln(3)", "1", r"0.5 * \ln (3)"),
        ("exp(1-2e)", "1", "e^{1-2e}"),
        ("log2(8)", "1", r"\log_{2}(8)"),
        ("x**2", "1", "x^2"),
        ("theta^2", "1", r"\theta ^2"),
        ("(-inf, 3]", "1", r"(-\infty , 3]"),
        ("theta", r"\theta", r"\theta"),
        ("theta", "theta", "theta"),
        ("pi + q", "ip + q", "pi + q"),
        ("pi + q", r"\pi + ip", r"\pi  + q"),
        ("2 + xi", "1", "2 + xi"),
        ("2 + xi", r"2 + \xi", r"2 + \xi"),
        (r"\sqrt{2}", "1", r"\sqrt{2}"),
        ("the number pi", "1", "the number pi"),
        ("a golden pi", "1", "a golden pi"),
        ("sqrt(2", "1", r"\sqrt (2"),
        (r"\begin{pmatrix} pi \end{pmatrix}", "1", r"\begin{pmatrix} \pi  \end{pmatrix}"),
        ("spin", "1", "spin"),
    ],
)
def test_in_tex(text: str, reference: str, tex: str) -> None:
    assert in_tex(text, reference) == tex


@pytest.mark.parametrize("piece", ["sqrt(", "pi ", "exp(", "**", "log2("])
def test_long_texts_are_cheap(piece: str) -> None:
    started = time.process_time()
    in_tex(piece * 200_000, "1")
    in_tex((piece * MAX_CHARS)[:MAX_CHARS], "1")
    assert time.process_time() - started < 0.5
