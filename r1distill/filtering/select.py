"""Which of the traces that passed become training rows, and which problems are held back for validation.

In: the kept traces. First each problem's most wanted ones (preference.py, or mixing.py for a mixture of long and short ones),
then the caps by tag (caps.py). Pure functions of ids and a seed: an added problem moves another one only at a cap or a mixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from r1distill.checks import Check
from r1distill.filtering.caps import over_caps
from r1distill.filtering.judged import Judged
from r1distill.filtering.mixing import Mix, mix_of, mixed
from r1distill.filtering.preference import chance, check_behind, most_wanted
from r1distill.recipe_sections import SelectSection
from r1distill.records import Prompt

OVER_PER_PROMPT = "more than per_prompt"


class Selection(NamedTuple):
    """What was chosen of the kept traces."""

    chosen: list[Judged]
    """In the order of the set."""
    left_out: dict[int, str]
    """Why a kept trace is not among them, by id(row)."""
    mix: Mix | None
    """The lengths, where `long_share` is set."""


def select(
    kept: list[Judged], settings: SelectSection, checks: Mapping[str, Check], problems: Sequence[Prompt]
) -> Selection:
    """The traces to train on; `problems` by their number in the set. Raises RecipeError (see `check_behind`)."""
    groups: dict[str, list[Judged]] = {}
    for row in kept:
        groups.setdefault(row.prompt_id, []).append(row)
    taken: dict[int, bool] = {}
    if settings.long_share is not None:
        picked, taken = mixed(groups, settings)
    else:
        check = check_behind(checks, settings)
        picked = {name: most_wanted(rows, settings, check) for name, rows in groups.items()}
    wanted = {id(row) for rows in picked.values() for row in rows}
    left_out = {id(row): OVER_PER_PROMPT for row in kept if id(row) not in wanted}
    left_out |= over_caps(picked, settings.caps, problems, settings.seed)
    chosen = [row for row in kept if id(row) not in left_out]
    return Selection(chosen, left_out, mix_of(chosen, taken) if settings.long_share is not None else None)


def validation_prompts(prompt_ids: Iterable[str], settings: SelectSection) -> set[str]:
    """The problems whose traces go to val.jsonl: each by its own hash, never all of them."""
    known = set(prompt_ids)
    share = settings.val_fraction
    held = {prompt_id for prompt_id in known if chance(settings.seed, "split", prompt_id) < share}
    return held if held != known else set()
