"""distilabel's part of bench_filter_peers.py: its steps must be importable from a module, without lazy annotations.

The word tokenizer of MinHashDedup wants a download, so it compares n-grams of characters; a trace that it or our step
finds bad is marked, as distilabel's steps keep every row.
"""

from collections.abc import Callable
from typing import Any

from bench_filter_peers import SIMILARITY, Judge
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, MinHashDedup, StepInput, step
from distilabel.typing import StepOutput

BATCH = 500
CHARACTERS = 20
"""Of an n-gram: about three words."""
JUDGES: list[Judge] = []


@step(inputs=["text", "reference", "usage"], outputs=["good"])
def judged(inputs: StepInput) -> StepOutput:
    """Form, length, loops and final answer."""
    if not JUDGES:
        JUDGES.append(Judge())
    for row in inputs:
        row["good"] = JUDGES[0].good({**row, "response": row["text"]})
    yield inputs


def run_pipeline(rows: list[dict[str, Any]], meter: Callable[[], Any]) -> dict[str, Any]:
    """The result of the pipeline over all rows."""
    data = [{**row, "text": row["response"]} for row in rows]
    with Pipeline("bench") as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=BATCH)
        near = MinHashDedup(tokenizer="ngrams", n=CHARACTERS, threshold=SIMILARITY, input_batch_size=BATCH)
        load >> judged(input_batch_size=BATCH) >> near
    started = meter()
    found = pipeline.run(use_cache=False)["default"]["train"]
    result = started.result([])
    good = zip(found["row"], found["good"], found["keep_row_after_minhash_filtering"], strict=True)
    return {**result, "kept": [row for row, right, new in good if right and new]}
