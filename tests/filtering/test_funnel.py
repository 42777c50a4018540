"""Who was removed by which check, alone and together, and how it is told."""

from __future__ import annotations

import pytest
from judged_rows import judged, problems, settings

from r1distill.checks import build_checks, failed, passed, unjudged
from r1distill.filtering.funnel import (
    FilterSummary,
    Overlap,
    Parted,
    funnel,
    nothing_kept_sentence,
    overlap,
    part,
    print_summary,
    reasons,
)
from r1distill.filtering.mixing import Mix
from r1distill.show import Show

CHECKS = build_checks({"finish": {}, "format": {}, "length": {}})


def parted(*removed_by: str) -> Parted:
    """One row per word: the letters of the checks that remove it (f, o, l; u: length can't tell)."""
    made = problems(1)
    rows = []
    for number, letters in enumerate(removed_by):
        judgements = {
            "finish": failed("length") if "f" in letters else passed(),
            "format": failed("no answer") if "o" in letters else passed(),
            "length": failed("long") if "l" in letters else unjudged("?") if "u" in letters else passed(),
        }
        rows.append(judged(made[0], 0, number, judgements=judgements))
    return part(rows, CHECKS, settings(), made)


def test_overlap_counts_each_pair_of_checks() -> None:
    found = parted("fol", "fo", "f", "u", "", "ol", "fu")
    assert overlap(found) == [
        Overlap("finish", "format", 2),
        Overlap("finish", "length", 2),
        Overlap("format", "length", 2),
    ]
    table = {
        row.check: (row.removed, row.removed_only_by_this, row.unjudged) for row in funnel(found, CHECKS)
    }
    assert table == {"finish": (4, 1, 0), "format": (3, 0, 0), "length": (4, 1, 2)}
    assert reasons(found) == {"finish: length": 4, "format: no answer": 3, "length: ?": 2, "length: long": 2}
    assert [row.sample for row in found.kept] == [4]


def test_no_overlap() -> None:
    assert overlap(parted("f", "o", "")) == []


def test_the_summary_is_told_in_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [Overlap(f"check{n}", "other", 1000 - n) for n in range(7)]
    summary = FilterSummary(
        stage_id="s", folder="out", traces=2000, kept=100, train=90, val=5, not_selected=5, overlap=pairs,
        not_selected_reasons={"cap of topic=a": 4, "more than per_prompt": 1}, pairs=2, pairs_length_ratio=1.25,
        mix=Mix(2, 8, 1, 4000, 300.5, "usage and estimate"), suspect_references=3, prompts=50, prompts_covered=40,
    )  # fmt: skip
    print_summary(summary, Show(1))
    said = capsys.readouterr().err
    assert (
        "Removed by two checks at once: check0 and other 1,000, check1 and other 999, check2 and other 998, "
        "check3 and other 997, check4 and other 996 and 2 more pairs." in said
    )
    assert "Not selected: 4 kept traces (cap of topic=a)." in said
    assert "Not selected: 1 kept trace (more than per_prompt)." in said
    assert (
        "Mixture: 2 long (median 4,000 tokens) and 8 short (median 300 tokens) traces, 1 of problems without a choice; "
        "tokens by usage and estimate." in said
    )
    assert (
        "2 preference pairs (a right answer over a wrong one) in pairs.jsonl; the wrong answer is 1.25 times as long"
        in said
    )
    assert "3 references may be wrong" in said


def test_what_is_not_there_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(FilterSummary(stage_id="s", folder="out", traces=3, kept=3, train=3), Show(1))
    said = capsys.readouterr().err
    assert not any(
        word in said for word in ("at once", "Not selected", "Mixture", "preference", "may be wrong")
    )


def test_why_nothing_is_left() -> None:
    found = parted("fol", "f")
    summary = FilterSummary(
        stage_id="s", folder="out", traces=2, funnel=funnel(found, CHECKS), reasons=reasons(found)
    )
    assert nothing_kept_sentence(summary) == (
        "No trace is left after filtering: of 2 traces finish removed 2, format removed 1, length removed 1; the most "
        "frequent reason is 'finish: length' (2 traces). Every reason is in out/reasons.jsonl."
    )
