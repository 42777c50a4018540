"""A whole run folder made without any model: traces through the ledger, filter by the verb, train and evaluate as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from r1distill.asking.owed import Wanted, harvest_wanted
from r1distill.evaluate_summary import EvaluateSummary
from r1distill.filter import filter
from r1distill.ledger import Ledger
from r1distill.problems import load_problems
from r1distill.recipe import Recipe, load_recipe
from r1distill.records import Failure, Trace, Usage, trace_id_of
from r1distill.run import Run
from r1distill.scores import GradedAnswer, score_all
from r1distill.train import TrainSummary

RECIPE = """name = "synthetic"
[prompts]
problems = "problems.jsonl"
template = "math"
[teacher.r1]
provider = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
model = "m"
sampling = { max_tokens = 200 }
[harvest]
samples = 3
[filter]
workers = 1
[filter.checks.finish]
[filter.checks.format]
[filter.checks.length]
max_tokens = 120
[filter.checks.duplicate]
[filter.checks.correct]
[filter.select]
per_prompt = 1
[student]
base = "embedded"
"""


class SyntheticRun:
    """`problems` sums, three answers each; `texts` replaces (reasoning, answer) of single answers."""

    def __init__(self, folder: Path, problems: int = 12, questions: dict[int, str] | None = None) -> None:
        self.folder = folder
        (folder / "recipe.toml").write_text(RECIPE)
        rows = [
            {
                "id": f"p{n:02}",
                "question": (questions or {}).get(n, f"What is {n} + {n}?"),
                "answer": str(2 * n),
            }
            for n in range(problems)
        ]
        (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.recipe: Recipe = load_recipe(folder / "recipe.toml")
        self.run = Run(folder / "runs" / "synthetic")

    def harvest(
        self, texts: dict[tuple[int, int], tuple[str, str]] | None = None, cost: float | None = 0.001
    ) -> None:
        """Right, right with more words, wrong; every fifth wrong one is cut."""
        prompts, _ = load_problems(self.recipe)
        self.run.save_recipe(self.recipe)
        self.run.save_prompts(prompts)
        with Ledger(self.run.ledger_folder("traces") / "part-1-of-1.jsonl") as ledger:
            for wanted in harvest_wanted(self.recipe, prompts):
                ledger.append(self._trace(wanted, texts or {}, cost))
        with Ledger(self.run.failures_file("traces")) as failures:
            failures.append(
                Failure(
                    slot="0" * 64, prompt_id="p00", sample=9, teacher="r1", error_class="content_filter", http_status=400,
                    attempts=1, final=True, message="no", created="2026-11-22T00:00:00Z",
                )
            )  # fmt: skip

    def _trace(
        self, wanted: Wanted, texts: dict[tuple[int, int], tuple[str, str]], cost: float | None
    ) -> Trace:
        number, sample = int(wanted.prompt_id[1:]), wanted.sample
        right = f"The sum is \\boxed{{{2 * number}}}."
        made = [
            (f"{number} and {number} make {2 * number}.", right),
            (f"Twice {number}. " * (3 + number) + f"That is {2 * number}.", right),
            (f"Maybe {2 * number + 1}?", f"It is \\boxed{{{2 * number + 1}}}."),
        ][sample]
        reasoning, answer = texts.get((number, sample), made)
        return Trace(
            id=trace_id_of(wanted.slot, wanted.max_tokens), slot=wanted.slot, prompt_id=wanted.prompt_id, sample=sample,
            teacher="r1", model="m", messages=wanted.messages, reasoning=reasoning, answer=answer,
            finish="length" if sample == 2 and number % 5 == 0 else "stop", max_tokens=200,
            usage=Usage(30, 20 + len(reasoning) // 4), cost_usd=cost, latency_s=1.0 + number / 10, created="2026-11-22T00:00:00Z",
        )  # fmt: skip

    def filter(self) -> Any:
        return filter(self.recipe, self.run)

    def train(self) -> None:
        """What a training leaves, without the adapter."""
        stage = self.run.stage("train", "aaaaaaaaaaaa")
        stage.mkdir(parents=True)
        steps = [
            {"step": n, "loss": 2.0 / n, "eval_loss": 2.1 / n if n % 5 == 0 else None} for n in range(1, 21)
        ]
        (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
        summary = TrainSummary(
            stage_id="aaaaaaaaaaaa", folder=str(stage), adapter=None, adapter_gguf=None, base="embedded", base_digest="0" * 16,
            rows=1011, rows_dropped_too_long=2, steps=20, epochs=2.0, trainable_parameters=4_884_480,
            parameters=134_515_008, first_loss=1.5, last_loss=0.125, validation_loss=0.25, elapsed_s=83.0,
        )  # fmt: skip
        self.run.finish_stage("train", "aaaaaaaaaaaa", msgspec.to_builtins(summary))

    def evaluate(self, problems: int = 60) -> EvaluateSummary:
        """Scores in which the student is better in form and somewhat better in results."""
        rate = {"teacher": (8, 8), "base": (5, 2), "student": (7, 7)}
        rows = [
            GradedAnswer(
                trace_id=f"{who}{name}{n}", who=who, problems=name, prompt_id=str(n), sample=0, lenient=n * 7 % 10 < lenient,
                strict=n * 7 % 10 < strict, in_form=n % 10 < strict, outcome="right", extracted=str(n), how="boxed",
                finish="length" if n % 20 == 0 else "stop", completion_tokens=40 + n, latency_s=0.5 + n / 100,
            )
            for who, (lenient, strict) in rate.items()
            for name in ("heldout", "unseen")
            for n in range(problems)
        ]  # fmt: skip
        scores, differences = score_all(rows)
        facts = {
            "what": "SmolLM2-135M-Instruct.Q4_1.gguf with arithmetic",
            "parameters": 134_515_008,
            "bytes": 98_000_000,
        }
        summary = EvaluateSummary(
            stage_id="bbbbbbbbbbbb", folder=str(self.run.stage("evaluate", "bbbbbbbbbbbb")), scores=scores,
            differences=differences, models={"teacher": {"what": "m with math"}, "base": facts, "student": facts},
            sampling={}, in_flight=16, asked=len(rows), still_owed=0, elapsed_s=61.0,
        )  # fmt: skip
        self.run.finish_stage("evaluate", "bbbbbbbbbbbb", msgspec.to_builtins(summary))
        return summary

    def all(self) -> None:
        """All stages."""
        self.harvest()
        self.filter()
        self.train()
        self.evaluate()
