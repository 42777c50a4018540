"""What a teacher answered before: one that has answered is neither misspelled nor refused as a whole.

In: a run folder. Out: a few traces of the teacher by the same model with the same sampling.
"""

from __future__ import annotations

from typing import Any

import msgspec

from r1distill.ledger import read_at
from r1distill.records import Trace, split_ceiling
from r1distill.run import Run

RECENT = 8
"""Earlier answers that are looked at."""


def recent_answers(run: Run, teacher: str, model: str, sampling: dict[str, Any]) -> list[Trace]:
    """A few answers that this teacher gave before, by the same model with the same sampling."""
    rest, decoder = split_ceiling(sampling)[0], msgspec.json.Decoder(Trace)
    with run.index() as index:
        places = index.some("traces", teacher, RECENT)
    lines = [next(read_at(run.ledger_folder("traces") / file, [(at, size)])) for file, at, size in places]
    return [trace for trace in map(decoder.decode, lines) if (trace.model, trace.sampling) == (model, rest)]
