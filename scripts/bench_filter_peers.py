"""The programs that bench_filter.py compares, each run in a process of its own so that CPU time and memory are its own.

In: one JSON object (a `Job`) as the only argument. Out: one JSON line with what was measured and which rows were kept.
All apply the same five checks: form, length, loops, final answer, near duplicates of 3-word shingles. Only the last two
differ by the tool. CPU and wall time start after the imports, which spares the peers more than it spares us: our worker
processes import computer algebra on the clock. A virtual environment that has all peers (2026-11-22):
pip install math-verify datasketch datasets distilabel datatrove spacy regex tokenizers tldextract "xxhash<4"

  r1distill    filter_files, as the command line calls it
  plain        a loop over lines, with math-verify and datasketch
  datasets     the same functions in datasets.Dataset.filter (https://huggingface.co/docs/datasets)
  datatrove    LambdaFilter and the four MinHash stages (https://github.com/huggingface/datatrove)
  distilabel   a step with the same functions, and MinHashDedup (https://distilabel.argilla.io)
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

MIN_TOKENS, MAX_TOKENS = 50, 16_384
SIMILARITY = 0.8
PERMUTATIONS = 128
DISTINCT_TENGRAMS = 0.9
"""A smaller share of distinct 10-grams of words is a loop: cheaper than the 20-grams of DAPO, and it finds the same."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What one program has to do."""

    client: str
    traces: str
    """JSONL as bench_traces.py writes it."""
    folder: str
    """For outputs; r1distill finds its measurements of earlier jobs there."""
    limit: int | None = None
    """Only the first so many rows."""
    workers: int | None = None
    near: float = SIMILARITY
    """Threshold of near duplicates."""
    profile: str | None = None
    """Write a cProfile of the program here (its CPU time means nothing then)."""


class Meter:
    """CPU seconds of this process and its ended children, and wall time."""

    def __init__(self) -> None:
        self.cpu_s, self.wall_s = self._cpu_s(), time.monotonic()

    @staticmethod
    def _cpu_s() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    def result(self, kept: list[int], **more: Any) -> Result:
        """What the parent prints, and the rows that are kept."""
        return {
            "cpu_s": self._cpu_s() - self.cpu_s, "wall_s": time.monotonic() - self.wall_s, "kept": kept, **more,
        }  # fmt: skip


def r1distill(job: Job) -> Result:
    """The function behind `r1distill filter FILE --to DIR --recipe R`."""
    sys.path.insert(0, str(Path(__file__).absolute().parent.parent))
    from r1distill.filter import filter_files
    from r1distill.recipe import parse_recipe

    checks: dict[str, Any] = {
        "format": {}, "length": {"min_tokens": MIN_TOKENS, "max_tokens": MAX_TOKENS}, "repetition": {}, "correct": {},
        "near_duplicate": {"threshold": job.near},
    }  # fmt: skip
    settings: Result = {"checks": checks, **({"workers": job.workers} if job.workers else {})}
    out = Path(job.folder)
    recipe = parse_recipe({"name": "bench", "filter": settings}, folder=out)
    meter = Meter()
    summary = filter_files([Path(job.traces)], out, recipe)
    result = meter.result([], measured=summary.measured, up_to_date=summary.up_to_date)
    with (out / "kept.jsonl").open("rb") as file:
        return {**result, "kept": [json.loads(line)["row"] for line in file]}


def read(job: Job) -> list[dict[str, Any]]:
    """The rows of a job."""
    with Path(job.traces).open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, job.limit)]


class Judge:
    """The checks of one trace as somebody writes them in an afternoon, with the usual libraries."""

    def __init__(self) -> None:
        from datasketch import MinHash, MinHashLSH
        from math_verify import parse, verify

        self._minhash, self._parse, self._verify = MinHash, parse, verify
        self.seen = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)
        self.good(
            {
                "response": "<think>\na\n</think>\n\n$x+1$",
                "reference": "1+x",
                "usage": {"completion_tokens": 99},
            }
        )

    def good(self, row: dict[str, Any]) -> bool:
        """Form, length, loops and final answer."""
        head, closing, answer = row["response"].partition("</think>")
        thought = head.removeprefix("<think>").strip()
        if not (closing and thought and answer.strip()):
            return False
        if not MIN_TOKENS <= row["usage"]["completion_tokens"] <= MAX_TOKENS:
            return False
        return not loops(thought) and self.right(row["reference"], answer)

    def right(self, reference: str, answer: str) -> bool:
        """Whether the final answer is the reference, by math-verify."""
        return bool(self._verify(self._parse(f"${reference}$"), self._parse(answer)))

    def new(self, row: dict[str, Any]) -> bool:
        """Whether no earlier trace says nearly the same."""
        words = row["response"].lower().split()
        sketch = self._minhash(num_perm=PERMUTATIONS)
        sketch.update_batch(
            [" ".join(three).encode() for three in set(zip(words, words[1:], words[2:], strict=False))]
        )
        if self.seen.query(sketch):
            return False
        self.seen.insert(row["row"], sketch)
        return True


def loops(text: str) -> bool:
    """Whether too few of the 10-grams of words are distinct."""
    words = text.split()
    grams = list(zip(*(words[start:] for start in range(10)), strict=False))
    return bool(grams) and len(set(grams)) / len(grams) < DISTINCT_TENGRAMS


def plain(job: Job) -> Result:
    """One loop; what is kept is written as JSON lines."""
    judge, meter, kept = Judge(), Meter(), []
    with (Path(job.folder) / "kept.jsonl").open("w", encoding="utf-8") as out:
        for row in read(job):
            if judge.good(row) and judge.new(row):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                kept.append(row["row"])
    return meter.result(kept)


def datasets(job: Job) -> Result:
    """One filter call; the near duplicates need the order, so it stays in one process."""
    library = importlib.import_module("datasets")
    library.disable_progress_bars()
    judge, part = Judge(), _part(job)
    meter = Meter()
    rows = library.Dataset.from_json(str(part), cache_dir=job.folder)
    kept = rows.filter(lambda row: judge.good(row) and judge.new(row))
    kept.to_json(str(Path(job.folder) / "kept.jsonl"))
    return meter.result(list(kept["row"]))


def datatrove(job: Job) -> Result:
    """Filter, signatures, buckets, clusters and the filter by them, in this process."""
    os.environ["LOGURU_LEVEL"] = "ERROR"
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline import dedup
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    part, base = _part(job), Path(job.folder) / "datatrove"
    judge = Judge()
    config = dedup.minhash.MinhashConfig(n_grams=3)
    folder = {name: str(base / name) for name in ("good", "signatures", "buckets", "remove", "kept")}

    meter = Meter()
    stages = [
        [
            JsonlReader(str(part.parent), glob_pattern=part.name, text_key="response"),
            LambdaFilter(lambda document: judge.good({**document.metadata, "response": document.text})),
            JsonlWriter(folder["good"], compression=None, output_filename="${rank}.jsonl"),
        ],
        [JsonlReader(folder["good"]), dedup.MinhashDedupSignature(folder["signatures"], config=config)],
        [dedup.MinhashDedupBuckets(folder["signatures"], folder["buckets"], config=config)],
        [dedup.MinhashDedupCluster(folder["buckets"], folder["remove"], config=config)],
        [
            JsonlReader(folder["good"]),
            dedup.MinhashDedupFilter(folder["remove"]),
            JsonlWriter(folder["kept"], compression=None, output_filename="${rank}.jsonl"),
        ],
    ]
    for stage in stages:
        tasks = config.num_buckets if isinstance(stage[0], dedup.MinhashDedupBuckets) else 1
        LocalPipelineExecutor(
            stage, tasks=tasks, workers=1, logging_dir=str(base / "logs"), skip_completed=False
        ).run()
    result = meter.result([])
    lines = [line for path in Path(folder["kept"]).glob("*.jsonl") for line in path.read_text().splitlines()]
    return {**result, "kept": [json.loads(line)["metadata"]["row"] for line in lines]}


def distilabel(job: Job) -> Result:
    """A pipeline of three steps, each in a process of its own."""
    from bench_filter_steps import run_pipeline

    return run_pipeline(read(job), Meter)


def _part(job: Job) -> Path:
    """A file with the job's rows only."""
    path = Path(job.folder) / "part" / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with Path(job.traces).open("rb") as file:
        path.write_bytes(b"".join(islice(file, job.limit)))
    return path


CLIENTS: dict[str, Callable[[Job], Result]] = {
    "r1distill": r1distill, "plain": plain, "datasets": datasets, "datatrove": datatrove, "distilabel": distilabel,
}  # fmt: skip


def main() -> None:
    """Run one job, print its result as the last line."""
    job = Job(**json.loads(sys.argv[1]))
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    call = CLIENTS[job.client]
    if job.profile:
        import cProfile

        profile = cProfile.Profile()
        result = profile.runcall(call, job)
        profile.dump_stats(job.profile)
    else:
        result = call(job)
    print(f"\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
