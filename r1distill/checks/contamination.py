"""Does the question stand in a benchmark? A student trained on it would be tested on what it has seen.

In: the question of a problem, and benchmark files that the user names. Compared are word n-grams with every number
masked, so that a question with other numbers is found too, without the instructions that many questions share; 8 words
and questions only as in s1 (arXiv 2501.19393). Questions without such n-grams are compared whole and unmasked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr, field_validator

from r1distill.checks.base import Check, Judgement, Value, failed, passed
from r1distill.errors import InputError
from r1distill.records import Prompt, Trace, digest

COLUMNS = ("question", "problem", "prompt", "Question", "Problem", "input", "text")
"""Where a benchmark's question is looked for, when no column is named."""
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|\d+(?:[.,]\d+)*"
    r"|[^\W\d_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
"""A word, a number, or one character of a script without spaces."""
EDGES = " .,:;?!{}$\\\"'*"
CONTENT_WORDS = 4
"""An n-gram with fewer different words of two letters says too little: a row of numbers, a matrix, a formula."""
SHOWN_CHARS = 80
"""So much of a common n-gram is shown."""
INSTRUCTIONS = (
    "please reason step by step and put your final answer within boxed",
    "let's think step by step and output the final answer within boxed",
    "solve the following math problem efficiently and clearly",
    "solve the following math problem step by step",
    "the last line of your response should be of the form answer answer without quotes where answer is the answer to the problem",
    "the last line of your response should be of the following format",
    "remember to put your answer on its own line after answer",
    "remember to put your final answer within boxed",
    "return your final response within boxed",
    "present the answer in latex format boxed your answer",
    "put your final answer within boxed",
    "put your final answer in boxed",
    "put your answer within boxed",
    "put your answer in boxed",
    "please put the final answer in boxed",
    "make sure to put the answer and only answer inside boxed",
    "answer the following multiple choice question",
    "the last line of your response should be of the following format answer letter without quotes where letter is one of abcd",
    "please reason step by step",
    "please think step by step",
    "let's think step by step",
    "let's reason step by step",
    "let's solve this step by step",
    "think step by step before answering",
    "reason step by step",
    "think step by step",
    "solve the following problem",
    "answer the following question",
    "explain your reasoning",
    "show your work",
    "give your answer as a single integer",
    "express your answer as a common fraction",
    "express your answer as a decimal to the nearest tenth",
    "express your answer in simplest radical form",
    "round your answer to the nearest",
)
"""What is no part of a question, as words; what stands between the words does not matter."""


class Contamination(Check):
    """Drops traces of questions that stand in a benchmark, also with other numbers in them."""

    benchmarks: tuple[str, ...] = Field(min_length=1)
    """Files of benchmark questions, relative to the recipe: JSONL, CSV, Parquet, or text with a question per line. One file may
    be named without brackets."""
    column: str | None = None
    """The column of the question; by default the first there is of question, problem, prompt, input, text."""
    words: int = Field(default=8, ge=2, le=100)
    """Words per n-gram."""
    min_overlap: float = Field(default=0.2, ge=0, le=1)
    """This share of the shorter question's n-grams makes a match; 0 takes a single common n-gram."""
    ignore: tuple[str, ...] = ()
    """Further instructions, as words, that are no part of a question."""

    anywhere: ClassVar[bool] = True
    measure_settings: ClassVar[tuple[str, ...] | None] = ("words", "ignore")

    _known: Benchmarks | None = PrivateAttr(default=None)

    @field_validator("benchmarks", "ignore", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check with its benchmark files read. Raises InputError, MissingPackageError."""
        ready = self.model_copy()
        ready._known = Benchmarks(
            benchmark_rows(self.benchmarks, folder, self.column), self.words, self.ignore
        )
        return ready

    def measuring(self) -> dict[str, Any]:
        """As the base, with what the benchmark files hold: a changed question measures anew."""
        return {**super().measuring(), "benchmarks": self._known.digest if self._known else None}

    def reads(self, prompt: Prompt) -> Any:
        """The question."""
        return prompt.question

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"overlap": 0 to 1} and, where there is any, the benchmark's "row" and the first common "ngram"."""
        if self._known is None:
            raise ValueError("the benchmark files are not read: build the check by build_checks")
        found = self._known.nearest(prompt.question)
        return {"overlap": 0.0} if found is None else found._asdict()

    def judge(self, value: Value) -> Judgement:
        """FAIL names the benchmark file, its detail the row of it that matches; the score is the overlap."""
        overlap = value["overlap"]
        if overlap > 0 and overlap >= self.min_overlap:
            row = value["row"]
            return failed(f"like {row.rpartition(':')[0]}", overlap, f'{row}: "{value["ngram"]}"')
        return passed("clean", overlap)


class Match(NamedTuple):
    """The benchmark question that is most like a question."""

    overlap: float
    """Common n-grams as a share of the n-grams of the shorter question; 1.0 for equal questions."""
    row: str
    """File and line of the benchmark."""
    ngram: str


class Benchmarks:
    """The n-grams of all benchmark questions, ready to be looked up."""

    def __init__(self, rows: Iterable[tuple[str, str]], words: int, ignore: Iterable[str]) -> None:
        """`rows`: (place, question)."""
        self.words = words
        self._instructions = instruction_patterns((*INSTRUCTIONS, *ignore))
        self._places: list[str] = []
        self._sizes: list[int] = []
        self._whole: dict[str, int] = {}
        self._rows_of: dict[str, tuple[int, ...]] = {}
        questions = []
        for place, question in rows:
            questions.append((place, question))
            self._add(place, question)
        self.digest = digest(questions)

    def _add(self, place: str, question: str) -> None:
        number = len(self._places)
        text = without_instructions(question, self._instructions)
        ngrams = {ngram for ngram in masked_ngrams(text, self.words) if says_something(ngram)}
        for ngram in ngrams:
            self._rows_of[ngram] = (*self._rows_of.get(ngram, ()), number)
        self._whole.setdefault(squeezed(text), number)
        self._places.append(place)
        self._sizes.append(len(ngrams))

    def nearest(self, question: str) -> Match | None:
        """The benchmark question with the greatest overlap (of equal ones the first), None when there is no overlap."""
        text = without_instructions(question, self._instructions)
        whole = squeezed(text)
        if whole and whole in self._whole:
            return Match(1.0, self._places[self._whole[whole]], shown(" ".join(text.split())))
        ngrams = dict.fromkeys(masked_ngrams(text, self.words))
        common = [(ngram, self._rows_of[ngram]) for ngram in ngrams if ngram in self._rows_of]
        if not common:
            return None
        counts = Counter(row for _, rows in common for row in rows)
        overlap = {row: n / min(self._sizes[row], len(ngrams)) for row, n in counts.items()}
        best = max(overlap, key=lambda row: (overlap[row], -row))
        ngram = next(ngram for ngram, rows in common if best in rows)
        return Match(round(overlap[best], 3), self._places[best], shown(ngram))


def instruction_patterns(phrases: Iterable[str]) -> list[re.Pattern[str]]:
    """One pattern per phrase, the longest first; each begins with plain letters, which `re` searches quickly."""
    worded = {tuple(re.findall(r"\w+", phrase.lower())) for phrase in phrases}
    ordered = sorted((words for words in worded if words), key=lambda words: (-len(words), words))
    return [re.compile(r"[\W_]+".join(map(re.escape, words)) + r"(?!\w)") for words in ordered]


def without_instructions(text: str, patterns: Iterable[re.Pattern[str]]) -> str:
    """`text` in lower case, without the phrases."""
    text = text.lower()
    for pattern in patterns:
        text = pattern.sub(" ", text)
    return text


def masked_ngrams(text: str, words: int) -> Iterator[str]:
    """The word n-grams of a lower-case text in order, every number as 0; none for a shorter text."""
    found = ["0" if word[0].isdecimal() else word for word in WORD.findall(text)]
    return map(" ".join, zip(*(found[start:] for start in range(words)), strict=False))


def says_something(ngram: str) -> bool:
    """True when enough of its words are different and longer than a letter (or a character that is a word)."""
    return len({w for w in ngram.split() if len(w) > 1 or not w.isascii()}) >= CONTENT_WORDS


def squeezed(text: str) -> str:
    """`text` without white space and without punctuation around it: what equal questions have in common."""
    return "".join(text.split()).strip(EDGES)


def shown(text: str) -> str:
    """`text` cut to SHOWN_CHARS."""
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def benchmark_rows(names: Iterable[str], folder: Path, column: str | None) -> Iterator[tuple[str, str]]:
    """(file as named and line, question) of every row. Raises InputError, MissingPackageError."""
    from r1distill.rows import file_rows  # here, since workers read no files

    for name in names:
        path = folder / Path(name).expanduser()
        if not path.is_file():
            raise InputError(f"There is no benchmark file {path}, which the check contamination names.")
        rows = _text_rows(path) if path.suffix.lower() == ".txt" else file_rows(path)
        some = False
        for place, row in rows:
            question = _question(row, column, place)
            if question.strip():
                some = True
                yield name + place.removeprefix(str(path)), question
        if not some:
            raise InputError(f"The benchmark file {path} holds no question.")


def _text_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}:{number}", {"question": line.strip()}
    except UnicodeDecodeError:
        raise InputError(f"{path}: the file is no UTF-8 text.") from None


def _question(row: dict[str, Any], column: str | None, place: str) -> str:
    chosen = column or next((name for name in COLUMNS if name in row), None)
    if chosen is None or chosen not in row:
        wanted = f"the column '{column}'" if column else f"a question (column {', '.join(COLUMNS)})"
        raise InputError(
            f"{place}: the benchmark's row has not {wanted}; it has {', '.join(map(str, row)) or 'nothing'}. "
            'Name its column: column = "..." in the table of the check contamination.'
        )
    value = row[chosen]
    if value is not None and not isinstance(value, str):
        raise InputError(f"{place}: the benchmark's question (column '{chosen}') is no text.")
    return value or ""
