"""How many samples of a problem give the same answer? Self-consistency, arXiv 2203.11171.

In: the final answers that answers/ finds, and what the check `correct` says where there is a reference. Out: a
judgement per trace by the share of samples that answer like it, and `suspect_references`: problems where most samples
agree with each other and not with the reference.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, PrivateAttr

from r1distill.answers import FALLBACKS, Grade, grade_exact
from r1distill.answers.outcome import SHOWN_CHARS
from r1distill.checks.base import Check, Judgement, Row, Value, failed, passed, unjudged
from r1distill.checks.difficulty import outcome_of
from r1distill.records import AnswerKind, Prompt, Trace

PLACEHOLDER: dict[str, str] = {"choice": "A"}
"""A reference that can be read, by answer kind, so that answers/ says which answer it finds; "0" for all others."""
MAX_CLASSES = 32
"""A new spelling is compared with so many classes, the largest ones: 1,000 different answers stay quick."""
NO_REFERENCE = " (no reference)"


class Agreement(Check):
    """Keeps traces whose final answer enough other samples of the problem give, too.

    Answers are equal by their text, as exact numbers or lists, or because `correct` finds both right. Where a problem
    has no reference that can be read, the answer must be the most frequent one, which then stands for the reference.
    """

    min_share: float = Field(default=0.5, gt=0, le=1)
    """The share of the problem's samples, the trace itself included, that have to give its answer."""
    min_samples: int = Field(default=3, ge=2)
    """With fewer samples of a problem its traces are UNJUDGED."""
    extraction: Literal["strict", "lenient"] = "strict"
    """As in `correct`: "strict" wants the final answer marked, "lenient" also takes the last number or letter."""

    version: ClassVar[int] = 4
    needs: ClassVar[tuple[str, ...]] = ("correct",)
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    _correct: Check | None = PrivateAttr(default=None)

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check with the `correct` that the recipe sets up."""
        ready = self.model_copy()
        ready._correct = checks["correct"]
        return ready

    def reads(self, prompt: Prompt) -> Any:
        """The kind of the answer."""
        return prompt.answer_kind

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"kind", "answer", "how" it was found}, {"kind"} without an answer, or {"kind", "note": why nobody can tell}.

        The reference plays no part: a corrected one measures nothing anew.
        """
        kind = prompt.answer_kind
        found = grade_exact(kind, PLACEHOLDER.get(kind, "0"), trace.answer)
        if found.extracted is not None:
            return {"kind": kind, "answer": _bounded(found.extracted, trace.answer), "how": found.how}
        if isinstance(found, Grade) and found.outcome == "no_answer":
            return {"kind": kind}
        return {"kind": kind, "note": f"no comparison for {kind}"}

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """One judgement per row; the score is the share of samples that agree with it."""
        return [judgement for votes in self.votes(rows, name) for judgement in self._of_problem(votes)]

    def votes(self, rows: Sequence[Row], name: str) -> Iterator[Votes]:
        """What the samples of each problem say, in the order of the rows."""
        for _, group in groupby(rows, lambda row: row.problem):
            samples = list(group)
            right = [outcome_of(row, self._correct) == "PASS" for row in samples]
            answers = [self._answer(row.values[name]) for row in samples]
            classes = answer_classes(samples[0].values[name]["kind"], answers, right)
            yield Votes(samples, classes, [row.values[name].get("note", "") for row in samples])

    def _answer(self, value: Value) -> str | None:
        guessed = self.extraction == "strict" and value.get("how") in FALLBACKS
        return None if guessed else value.get("answer")

    def _of_problem(self, votes: Votes) -> Iterator[Judgement]:
        counts, total = votes.counts(), len(votes.rows)
        most = max(counts.values(), default=0)
        tied = sum(count == most for count in counts.values()) > 1
        for chosen, note in zip(votes.classes, votes.notes, strict=True):
            if note:
                yield unjudged(note)
            elif total < self.min_samples:
                yield unjudged(f"fewer than {self.min_samples} samples")
            elif chosen is None:
                yield failed("no answer found", 0.0)
            else:
                yield self._of_answer(counts[chosen], most, tied, total, votes.has_reference)

    def _of_answer(self, count: int, most: int, tied: bool, total: int, has_reference: bool) -> Judgement:
        share = round(count / total, 3)
        about = "" if has_reference else NO_REFERENCE
        if count / total < self.min_share:
            return failed(f"agreement under {self.min_share:g}{about}", share)
        if has_reference:
            return passed("agrees", share)
        if count < most:
            return failed(f"disagrees with the majority{about}", share)
        if tied:
            return unjudged(f"no majority{about}", share)
        return passed(f"agrees with the majority{about}", share)


class Votes(NamedTuple):
    """The samples of one problem and what they answer; the lists are parallel."""

    rows: list[Row]
    classes: list[str | None]
    """Equal answers are in one class, named after the first of them; None for a sample without an answer."""
    notes: list[str]
    """Why a sample's answer can't be compared; "" when it can."""

    @property
    def has_reference(self) -> bool:
        """True when `correct` had a reference that it could read."""
        return any(row.values["correct"].get("outcome") != "unreadable_reference" for row in self.rows)

    def all_wrong(self, answer: str) -> bool:
        """True when `correct` measured "wrong" for every sample of a class (not: can't tell, not marked as final)."""
        pairs = zip(self.rows, self.classes, strict=True)
        return all(
            row.values["correct"].get("outcome") == "wrong" for row, chosen in pairs if chosen == answer
        )

    def counts(self) -> Counter[str]:
        """Samples by class."""
        return Counter(chosen for chosen in self.classes if chosen is not None)


class Suspect(NamedTuple):
    """A problem whose reference may be wrong."""

    problem: int
    prompt_id: str
    answer: str
    """What most samples answer."""
    share: float
    """Of the samples; those without an answer count, too."""
    samples: int


def suspect_references(
    rows: Sequence[Row], check: Agreement, name: str = "agreement", min_share: float = 0.5
) -> list[Suspect]:
    """Problems where more than `min_share` of the samples give one answer that `correct` finds wrong.

    `rows` as for `check.judge_all` (with the values of `name` and of `correct`); `check` comes from build_checks. The
    surest first. Problems with fewer than `check.min_samples` samples or an answer that nobody can judge are left out.
    """
    found = []
    for votes in check.votes(rows, name):
        counts, total = votes.counts(), len(votes.rows)
        if not counts or total < check.min_samples:
            continue
        answer, count = counts.most_common(1)[0]
        if count / total > min_share and votes.all_wrong(answer):
            first = votes.rows[0]
            found.append(Suspect(first.problem, first.prompt_id, answer, round(count / total, 3), total))
    return sorted(found, key=lambda suspect: (-suspect.share, -suspect.samples, suspect.problem))


def answer_classes(
    kind: AnswerKind, answers: Sequence[str | None], right: Sequence[bool]
) -> list[str | None]:
    """For each answer the first answer that equals it; those that are `right` are one class."""
    counts = Counter(answer for answer in answers if answer is not None)
    first_right = next((a for a, ok in zip(answers, right, strict=True) if ok and a is not None), None)
    class_of = {a: first_right for a, ok in zip(answers, right, strict=True) if ok and a is not None}
    classes = [first_right] if first_right is not None else []
    for answer, _ in counts.most_common():
        if answer not in class_of:
            equal = [known for known in classes[:MAX_CLASSES] if same_answer(kind, known, answer)]
            class_of[answer] = equal[0] if equal else answer
            classes += [] if equal else [answer]
    return [None if answer is None else class_of[answer] for answer in answers]


def same_answer(kind: AnswerKind, first: str, second: str) -> bool:
    """Whether two final answers are equal, as far as text and exact fractions reach; computer algebra is not asked."""
    found = grade_exact(kind, _marked(kind, first), _marked(kind, second))
    return isinstance(found, Grade) and found.outcome == "right"


def _marked(kind: AnswerKind, answer: str) -> str:
    return f"\\boxed{{{answer}}}" if kind in ("math", "choice") else answer


def _bounded(answer: str, text: str) -> str:
    """A long answer as its beginning and a digest of the text that it stands in: two of them are equal only for sure."""
    if len(answer) < SHOWN_CHARS:
        return answer
    words = " ".join(text.split()).encode("utf-8", "replace")
    return f"{answer[: SHOWN_CHARS - 1]}… {hashlib.sha256(words).hexdigest()[:16]}"
