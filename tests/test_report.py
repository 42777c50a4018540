"""The report: whole, true to the files, and harmless whatever the traces say."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from synthetic_run import SyntheticRun

from r1distill import plots
from r1distill.errors import InputError
from r1distill.filtering.suspects import SuspectRow
from r1distill.recipe import load_recipe
from r1distill.report import limits, report
from r1distill.report_filter import SHOWN_CHARS
from r1distill.run import Run, read_json

HOSTILE = (
    "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \"'><svg/onload=alert(1)> "
    "<a href=javascript:alert(1)>x</a> {{ 7*7 }} {% raw %} \u202ekcatta\u2066 \x00\x1b[31m\x07 &lt;b&gt; ]]> <!--"
)


class Page(HTMLParser):
    """Collects what a browser would act on, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.metas: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "meta":
            self.metas.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(run: Run) -> tuple[str, Page]:
    html = (run.folder / "report.html").read_text(encoding="utf-8")
    return html, Page(html)


def test_whole_report(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.all()
    summary = report(made.recipe, made.run)
    assert summary.sections == ["harvest", "filter", "train", "evaluate"]
    assert summary.plots == 5
    html, seen = page(made.run)
    assert html.count("data:image/svg+xml;base64,") == 5
    for words in (
        "What came over", "student beats base on heldout (lenient) by 20.0 points", "What this does not show",
        "Form against skill on heldout", "36 traces", "Failed requests by class: content_filter 1",
        "1,011 rows, 20 steps in 1 min 23 s", "4.9 M trained parameters over 134.5 M", "Loss 1.500 → 0.125",
        "2 too long", "134.5 M", "98.0 MB", "one example of each reason",
    ):  # fmt: skip
        assert words in seen.text or words in html, words
    assert "maj@k" not in html
    opened = [tag for tag in seen.tags if tag not in ("meta", "br", "img")]
    assert all(
        html.count(f"<{tag}") == html.count(f"</{tag}>") for tag in {*opened} - {"th", "p", "h", "pre"}
    )


def test_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.all()
    report(made.recipe, made.run)
    html, seen = page(made.run)
    filtered = made.run.latest("filter")
    evaluated = made.run.latest("evaluate")
    assert filtered is not None
    assert evaluated is not None
    f = filtered[1]
    assert (
        f"{f['kept']} of {f['traces']} traces passed every check; {f['train']} of them train the student"
        in seen.text
    )
    for row in f["funnel"]:
        cells = [
            row[key] for key in ("check", "passed", "failed", "unjudged", "removed", "removed_only_by_this")
        ]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in html
    for s in evaluated[1]["scores"]:
        for value, low, high in (s["lenient"], s["strict"]):
            assert f"<td>{100 * value:.1f}</td><td>{100 * low:.1f}–{100 * high:.1f}</td>" in html
    assert sum(f["reasons"].values()) >= f["rejected"]
    assert read_json(made.run.folder / "recipe.resolved.json") == json.loads(
        re.findall(r"<details>.*?<pre>(.*?)</pre>", html, re.DOTALL)[0]
        .replace("&#34;", '"')
        .replace("&#39;", "'")
    )


@pytest.mark.parametrize("kept", [True, False])
def test_hostile_traces_are_harmless(tmp_path: Path, kept: bool) -> None:
    made = SyntheticRun(tmp_path, problems=2, questions={1: f"What is 1 + 1? {HOSTILE.replace(chr(0), '')}"})
    answer = f"{HOSTILE} \\boxed{{2}}" if kept else f"{HOSTILE} \\boxed{{3}}"
    made.harvest({(1, 0): (HOSTILE * 3, answer)})
    made.filter()
    report(made.recipe, made.run)
    html, seen = page(made.run)
    assert "alert(1)" in seen.text  # it is shown, as text
    assert set(seen.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "pre", "div", "span", "br", "code",
        "ul", "li", "table", "tr", "th", "td", "figure", "img", "details", "summary",
    }  # fmt: skip
    assert not [
        name for name, _ in seen.attributes if name.startswith("on") or name in ("href", "style", "srcdoc")
    ]
    sources = [value for name, value in seen.attributes if name == "src"]
    assert all(str(value).startswith("data:image/svg+xml;base64,") for value in sources)
    policy = next(
        meta["content"] for meta in seen.metas if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def test_long_texts_are_cut(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path, problems=2)
    made.harvest({(1, 2): ("word " * SHOWN_CHARS, "\\boxed{3}")})
    made.filter()
    report(made.recipe, made.run)
    html, _ = page(made.run)
    assert html.count("word ") < SHOWN_CHARS


def test_unknown_costs_tokens_and_references_are_said_to_be_unknown(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    made.harvest(cost=None)
    made.filter()
    report(made.recipe, made.run)
    _, seen = page(made.run)
    assert "cost unknown" in seen.text
    assert "$0" not in seen.text
    (tmp_path / "runs/synthetic/prompts.jsonl").write_text("")
    report(made.recipe, made.run)
    assert "No reference answer." in page(made.run)[1].text


def test_harvest_alone_and_nothing_at_all(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    with pytest.raises(InputError, match="nothing to report yet: harvest first"):
        report(made.recipe, made.run)
    assert not made.run.folder.exists()
    made.harvest()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    planned = report(made.recipe, made.run, dry_run=True)
    assert (planned.sections, planned.dry_run) == (["harvest"], True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert report(made.recipe, made.run).sections == ["harvest"]
    assert "Filter" not in page(made.run)[1].text


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from r1distill.show import Show

    monkeypatch.setattr(plots, "available", lambda: False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = SyntheticRun(tmp_path)
    made.all()
    assert report(made.recipe, made.run, show=Show()).plots == 0
    assert "<img" not in page(made.run)[0]
    assert "pip install 'r1distill[report]'" in capsys.readouterr().err


def test_limits_tell_form_from_skill(tmp_path: Path) -> None:
    found = SyntheticRun(tmp_path).evaluate()
    text = limits(found.scores, found.differences)
    told = [sentence for sentence in text if sentence.startswith("Form against skill")]
    shown = [d for d in found.differences if (d.second, d.mode) == ("base", "lenient")]
    assert len(told) == len(shown)
    for sentence, d in zip(told, shown, strict=True):
        gained = d.shown and d.difference.value > 0
        assert (f"the gain of {d.difference.value * 100:.1f} points" in sentence) == gained
        assert ("no gain over the base is shown" in sentence) == (not gained)
    assert limits([], []) == text[:2]


def test_the_filter_part_shows_overlap_reasons_and_what_was_not_selected(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    wrong = ("Three, I think.", "It is \\boxed{99}.")
    made.harvest({(3, sample): wrong for sample in range(3)})
    summary = made.filter()
    report(made.recipe, made.run)
    html, seen = page(made.run)
    for pair in summary.overlap:
        row = re.search(rf"<tr><td>{pair.first}</td>(.*?)</tr>", html.split("Overlap:")[1])
        assert row is not None and f">{pair.removed_by_both}</td>" in row[1]
    assert ("duplicate", "correct") in {(pair.first, pair.second) for pair in summary.overlap}
    for reason, count in summary.reasons.items():
        assert f'<td class="words">{reason}</td><td>{count}</td>' in html
        assert f"{reason} ({count} traces)" in seen.text  # the title of its example
    assert f"more than per_prompt: {summary.not_selected}" in seen.text
    assert "References that may be wrong: 1 of 1" in seen.text
    assert (
        '<td class="words">What is 3 + 3?</td><td class="words">6</td><td class="words">99</td><td>3 of 3</td>'
        in html
    )


def test_hostile_suspects_and_reasons_are_harmless(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path, problems=3)
    made.harvest()
    made.filter()
    stage = made.run.latest("filter")
    assert stage is not None
    check = "<script>alert(2)</script>"
    summary = {**stage[1], "reasons": {HOSTILE: 3}, "not_selected_reasons": {f"cap of {HOSTILE}": 1}}
    summary["funnel"][0]["check"] = check
    summary["overlap"] = [{"first": check, "second": "correct", "removed_by_both": 2}]
    made.run.finish_stage("filter", summary["stage_id"], summary)
    hostile = HOSTILE.replace("\x00", "")
    suspect = SuspectRow(hostile, hostile + "long " * SHOWN_CHARS, hostile, hostile, 3, 3)
    (stage[0] / "suspect_references.jsonl").write_bytes(msgspec.json.encode(suspect) + b"\n")
    report(made.recipe, made.run)
    html, seen = page(made.run)
    assert not {"script", "svg", "a", "b"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "href"]
    assert "alert(2)" in seen.text and "alert(1)" in seen.text and "References that may be wrong" in seen.text
    assert html.count("long ") < SHOWN_CHARS
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def test_a_mixture_is_told_and_an_older_filter_run_still_shows(tmp_path: Path) -> None:
    made = SyntheticRun(tmp_path)
    (tmp_path / "recipe.toml").write_text(
        (tmp_path / "recipe.toml").read_text().replace("per_prompt = 1", "per_prompt = 1\nlong_share = 0.5")
    )
    made.recipe = load_recipe(tmp_path / "recipe.toml")
    made.harvest()
    made.filter()
    report(made.recipe, made.run)
    assert "Mixture: " in page(made.run)[1].text
    stage = made.run.latest("filter")
    assert stage is not None
    new = ("overlap", "not_selected_reasons", "mix", "suspect_references", "pairs_length_ratio", "parquet")
    made.run.finish_stage("filter", stage[1]["stage_id"], {k: v for k, v in stage[1].items() if k not in new})
    (stage[0] / "suspect_references.jsonl").unlink()
    report(made.recipe, made.run)
    assert "Mixture" not in page(made.run)[1].text
