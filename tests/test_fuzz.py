"""Coverage-guided fuzzing for a minute: rows and thinking, files, answers, recipes. Its finds become named tests of theirs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from r1distill.answers import GRADERS
from r1distill.checks import CHECKS
from r1distill.recipe import Recipe
from r1distill.recipe_faults import known_keys
from tests.answers.test_pairs import PAIRS
from tests.hostile_texts import hostile
from tests.test_hostile import MATHS
from tests.test_recipe import FULL

TESTS = Path(__file__).parent
FIXTURES = TESTS / "importers" / "fixtures"
SECONDS = 15
"""For each of the four."""


def rows() -> list[bytes]:
    """Rows of all formats; the first byte leaves the format to detection."""
    return [b"\xff" + line for path in FIXTURES.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def files() -> list[bytes]:
    """Lines, an array, an indented object, something else; each plain and packed."""
    row = b'{"question": "q", "response": "<think>r</think>a"}'
    texts = [row + b"\n" + row, b"[\n" + row + b",\n" + row + b"]", b"\xef\xbb\xbf" + row, b"\n\n \n" + row + b"\r\n",
             b'{\n "question": "q[\\"]",\n "response": "a"\n}\n' * 2, b'[1, "a\\\\", [2]', b"{}" * 40,
             b"x" * 5000 + b"\n{}", b"PK\x03\x04"]  # fmt: skip
    return [bytes([packing]) + text for text in texts for packing in range(4)]


def answers() -> list[bytes]:
    """Pairs of test_pairs.py, every second as mathematics, and hostile texts; the first byte says the kind and its tests."""
    pairs = [f"{pair.reference}\x1e{pair.answer}" for pair in PAIRS[::5]]
    pairs += [f"18\x1e{text[:2000]}" for text in hostile(1000).values()]
    math = sorted(GRADERS).index("math")
    kinds = [math if at % 2 else at % 20 for at in range(len(pairs))]
    return [bytes([kind]) + text.encode("utf-8", "replace") for kind, text in zip(kinds, pairs, strict=True)]


def recipes() -> list[bytes]:
    """Recipes of the examples, and one with most tables; the first line is for --set."""
    texts = [FULL, *(path.read_text("utf-8") for path in (TESTS.parent / "data").glob("*/recipe.toml"))]
    texts += [f"name = 'x'\n[filter.checks]\n{name} = {{}}\n" for name in CHECKS]
    return [f"{line}\n{text}".encode() for line in ("", "harvest.samples = 2") for text in texts]


class Target(NamedTuple):
    """A script that fuzzes."""

    place: str
    seeds: Callable[[], list[bytes]]
    words: Iterable[str] = ()
    """What the inputs are made of, where bytes alone would not come to it."""


KEYS = {word for key in known_keys(Recipe) for word in key.split(".")}
TARGETS = [
    Target("importers/fuzz_rows.py", rows),
    Target("importers/fuzz_files.py", files, ['{"a": 1}', "[", "]", "\\", "\ufeff", "\r\n"]),
    Target("answers/fuzz_answers.py", answers, [*MATHS, "\x1e", "<answer>", "</answer>", "==", "def f(x):"]),
    Target(
        "fuzz_recipe.py", recipes, [*KEYS, *CHECKS, " = ", "[[", "inf", "nan", "{}", "'", '"', "1979-05-27"]
    ),
]


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS, ids=[target.place for target in TARGETS])
def test_a_minute_of_atheris(tmp_path: Path, target: Target) -> None:
    assert importlib.util.find_spec("atheris"), (
        "atheris, which fuzzes, is not installed: run scripts/test --long, or pip install 'r1distill[fuzz]'"
    )
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    for at, seed in enumerate(target.seeds()):
        (corpus / f"{at}").write_bytes(seed)
    command = [sys.executable, str(TESTS / target.place), str(corpus), f"-max_total_time={SECONDS}", "-timeout=10",
               "-rss_limit_mb=2048", "-max_len=65536", f"-artifact_prefix={found}/"]  # fmt: skip
    if target.words:
        (tmp_path / "words").write_text("".join(quoted(word) for word in sorted(target.words)))
        command.append(f"-dict={tmp_path}/words")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + 120,
                          env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=tmp_path)  # fmt: skip
    finds = [path.read_bytes()[:500] for path in found.iterdir()]
    assert done.returncode == 0 and not finds, f"{finds}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def quoted(word: str) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02X}" for byte in word.encode("utf-8", "replace")) + '"\n'
