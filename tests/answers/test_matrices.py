"""Matrices in every spelling."""

from __future__ import annotations

import pytest

from r1distill.answers.matrices import read_matrix, same_matrix

TEX = r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"


@pytest.mark.parametrize(
    "text",
    [
        TEX,
        TEX.replace("pmatrix", "bmatrix"),
        "[1, 2; 3, 4]",
        "[[1, 2], [3,4]]",
        r"[\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}]",
    ],
)
def test_one_matrix(text: str) -> None:
    assert read_matrix(text) == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "[1; 2]",
        "[1, 2; 3]",
        "(1, 2; 3, 4)",
        "[[1, 2], 3]",
        TEX.replace("pmatrix", "vmatrix"),
        "[]",
        "",
    ],
)
def test_no_matrix(text: str) -> None:
    assert read_matrix(text) is None


def test_same_matrix() -> None:
    def same(left: str, right: str) -> bool | None:
        return None if "?" in left + right else left == right

    assert same_matrix(TEX, "[1, 2; 3, 4]", same) is True
    assert same_matrix(TEX, "[1, 3; 2, 4]", same) is False
    assert same_matrix(TEX, "[1, 2, 3, 4]", same) is False
    assert same_matrix("[1, 2, 3; 4, 5, 6]", "[1, 2; 3, 4; 5, 6]", same) is False
    assert same_matrix(TEX, "[1, 2; 3, ?]", same) is None
    assert same_matrix(TEX, "[0, 2; 3, ?]", same) is False
    assert same_matrix("[1, 2]", "[1, 2]", same) is None
    assert same_matrix(TEX, "5", same) is None
