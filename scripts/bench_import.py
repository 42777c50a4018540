#!/usr/bin/env python3
"""How fast are trace files of each shape read, and does memory stay flat? Files are made here, of invented text.

Usage: scripts/bench_import.py [--mb 60] [--chars 12000] [--only openr1-math,...] [--memory]
Out: megabytes per second of one process (CPU time), for reading alone (TraceFiles.taken: rows decoded, parted, ids made) and for
the fingerprint (SHA-256) that `filter` makes first; for a Parquet file of 1,000 tiny rows to the megabyte the time of a row;
with --memory the peak of a child that reads files of 1x and 4x the size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from r1distill.filtering.few_collections import few_collections  # noqa: E402
from r1distill.filtering.tracefiles import TraceFiles  # noqa: E402

WORDS = """
so we let the first number be x and note that 3 + 4 = 7 wait therefore sum check again because each integer of or not
\\frac{1}{2} \\sqrt{2} is "prime" hence the answer must be even then divide both sides by 2 naïve α ≤ β
"""


def text(rng: random.Random, chars: int) -> str:
    """Invented reasoning: short lines with formulas, quotation marks and a few letters that are no ASCII."""
    words, made, size = WORDS.split(), list[str](), 0
    while size < chars:
        line = " ".join(rng.choices(words, k=14))
        made.append(line)
        size += len(line) + 1
    return "\n".join(made)[:chars]


def think(rng: random.Random, chars: int) -> str:
    """A reply with its think block."""
    return f"<think>\n{text(rng, chars)}\n</think>\n\n{text(rng, chars // 8)} \\boxed{{7}}"


def rows_of(name: str, rng: random.Random, chars: int) -> Iterator[dict[str, Any]]:
    """Rows of one format, without end."""
    number = 0
    while True:
        number += 1
        question, reply = f"Problem {number}: {text(rng, 200)}", think(rng, chars)
        thought, answer = text(rng, chars), text(rng, chars // 8)
        if name == "plain":
            yield {"question": question, "response": reply, "reference": "7", "source": "bench"}
        elif name == "messages":
            yield {
                "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
            }
        elif name == "sharegpt":
            yield {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]}
        elif name == "openr1-math":
            yield {
                "problem": question, "solution": answer, "answer": "7", "generations": [reply, think(rng, chars)],
                "correctness_math_verify": [True, False], "finish_reasons": ["stop", "length"],
                "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}],
            }  # fmt: skip
        elif name == "openai-batch":
            message = {"role": "assistant", "content": answer, "reasoning_content": thought}
            body = {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
            request = {"messages": [{"role": "user", "content": question}]}
            yield {
                "custom_id": str(number),
                "request": request,
                "response": {"status_code": 200, "body": body},
            }
        elif name == "bedrock":
            content = [{"reasoningContent": {"reasoningText": {"text": thought}}}, {"text": answer}]
            yield {
                "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "timestamp": "2026-01-01T00:00:00Z",
                "accountId": "0", "region": "r", "requestId": str(number), "modelId": "m", "operation": "Converse",
                "input": {
                    "inputContentType": "application/json", "inputTokenCount": 60,
                    "inputBodyJson": {"messages": [{"role": "user", "content": [{"text": question}]}]},
                },
                "output": {
                    "outputContentType": "application/json", "outputTokenCount": 3000,
                    "outputBodyJson": {"output": {"message": {"content": content}}, "stopReason": "end_turn"},
                },
            }  # fmt: skip
        elif name == "r1distill":
            yield {
                "id": f"{number:064x}", "slot": f"{number:064x}", "prompt_id": str(number), "sample": 0, "teacher": "t",
                "model": "m", "messages": [{"role": "user", "content": question}], "reasoning": thought, "answer": answer,
                "finish": "stop",
            }  # fmt: skip


SHAPES = ("plain", "messages", "sharegpt", "openr1-math", "openai-batch", "bedrock", "r1distill")


def write(path: Path, name: str, mb: float, chars: int, opener: Callable[..., Any] = open) -> int:
    """Make a file of about `mb` megabytes (before packing); its bytes."""
    rng, size = random.Random(1), 0
    with opener(path, "wb") as file:
        pool = list(islice(rows_of(name, rng, chars), min(200, int(mb * 1e6 / chars) + 1)))
        while size < mb * 1e6:
            row = pool[rng.randrange(len(pool))]
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            size += file.write(line.replace(b"Problem ", b"Problem %d-" % size))  # no problem stands twice
    return size


def write_parquet(path: Path, count: int) -> None:
    """Make a Parquet file of so many rows of a hundred characters."""
    import pyarrow
    from pyarrow import parquet

    rows = [{"question": f"What is {n} + {n}?", "response": f"<think>Twice {n}.</think>{2 * n}", "level": n % 5}
            for n in range(count)]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@few_collections()  # as import and filter do
def read(path: Path) -> tuple[int, float]:
    """(traces, CPU seconds)."""
    started = time.process_time()
    count = sum(1 for _ in TraceFiles([path], "math").taken())
    return count, time.process_time() - started


def peak_mb(path: Path) -> float:
    """Peak memory of a child that reads a file, in MB."""
    code = (
        "import re, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from r1distill.filtering.tracefiles import TraceFiles;"
        "n = sum(1 for _ in TraceFiles([Path(sys.argv[2])], 'math', keep_lines=False).taken());"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(path)], capture_output=True, text=True, check=True
    )
    return (
        float(done.stdout) / 1024
    )  # ru_maxrss would hold the parent's memory, of which a child begins as a copy


def main() -> None:
    """Make, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=60, help="megabytes of each file")
    parser.add_argument("--chars", type=int, default=12_000, help="characters of reasoning in a trace")
    parser.add_argument("--only", default=",".join(SHAPES), help="names, with commas")
    parser.add_argument("--memory", action="store_true", help="measure the memory too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-import-") as folder:
        print(f"{chosen.mb:g} MB each, {chosen.chars} characters of reasoning; CPU time of one process")
        for name in chosen.only.split(","):
            path = Path(folder) / f"{name}.jsonl"
            size = write(path, name, chosen.mb, chosen.chars)
            count, read_s = read(path)
            started = time.process_time()
            TraceFiles([path], "math").fingerprints()
            digest_s = time.process_time() - started
            print(f"{name:14} {size / 1e6 / read_s:7.0f} MB/s read, {count:7,} traces, "
                  f"{1e6 * read_s / count:5.0f} us each; fingerprint {size / 1e6 / digest_s:6.0f} MB/s")  # fmt: skip
            path.unlink()
        path = Path(folder) / "tiny.parquet"
        write_parquet(path, int(chosen.mb * 1000))
        count, read_s = read(path)
        print(f"tiny rows of Parquet: {count:,} traces, {1e6 * read_s / count:.0f} us each")
        if chosen.memory:
            for suffix, opener in ((".jsonl", open), (".jsonl.gz", gzip.open)):
                peaks = []
                for times in (1, 4):
                    path = Path(folder) / f"memory{suffix}"
                    write(path, "openr1-math", chosen.mb / 4 * times, chosen.chars, opener)
                    peaks.append(peak_mb(path))
                print(
                    f"peak memory{suffix}: {peaks[0]:.0f} MB at {chosen.mb / 4:g} MB, {peaks[1]:.0f} MB at {chosen.mb:g} MB"
                )
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
