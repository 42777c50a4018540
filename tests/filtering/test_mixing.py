"""Long and short traces in one set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from judged_rows import judged, problems, settings

from r1distill.errors import RecipeError
from r1distill.filtering.judged import Judged
from r1distill.filtering.mixing import mix_of, mixed
from r1distill.recipe import parse_recipe


def groups(count: int, samples: int, counted: bool = True) -> dict[str, list[Judged]]:
    return {
        p.id: [
            judged(p, n, s, "x" * (s + 1) * 36, 100 * (s + 1) if counted else None) for s in range(samples)
        ]
        for n, p in problems(count).items()
    }


def test_one_in_five_is_the_longest_of_its_problem() -> None:
    found, taken = mixed(groups(50, 4), settings(per_prompt=1, long_share=0.2))
    mix = mix_of([row for rows in found.values() for row in rows], taken)
    assert (mix.long, mix.short, mix.without_choice) == (10, 40, 0)
    assert (mix.long_median_tokens, mix.short_median_tokens, mix.unit) == (400, 100, "usage")


def test_within_a_problem_where_the_share_allows() -> None:
    found, taken = mixed(groups(7, 8), settings(per_prompt=5, long_share=0.2))
    for rows in found.values():
        assert sorted(row.tokens for row in rows) == [100, 200, 300, 400, 800]
        assert [row.tokens for row in rows if taken[id(row)]] == [800]


@limits(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6), st.floats(0, 1), st.integers(0, 5))
def test_the_share_is_exact_but_for_rounding(
    count: int, samples: int, most: int, share: float, seed: int
) -> None:
    made = groups(count, samples)
    found, taken = mixed(made, settings(per_prompt=most, long_share=share, seed=seed))
    assert {name: len(rows) for name, rows in found.items()} == {name: min(most, samples) for name in made}
    assert all(len({id(row) for row in rows}) == len(rows) for rows in found.values())
    if samples > most:
        assert abs(sum(taken.values()) - share * most * count) <= 0.5 + 1e-6
    else:
        assert not taken
    again, _ = mixed(dict(reversed(made.items())), settings(per_prompt=most, long_share=share, seed=seed))
    assert again == found


def test_a_problem_more_moves_at_most_one_other() -> None:
    wish = settings(per_prompt=1, long_share=0.3)
    fewer, more = (mixed(groups(n, 3), wish)[0] for n in (40, 41))
    moved = [name for name in fewer if [r.tokens for r in fewer[name]] != [r.tokens for r in more[name]]]
    assert len(moved) <= 1


def test_without_usage_tokens_are_estimated_and_the_unit_says_so() -> None:
    found, taken = mixed(groups(5, 3, counted=False), settings(per_prompt=1, long_share=0.4))
    mix = mix_of([row for rows in found.values() for row in rows], taken)
    assert (mix.unit, mix.long_median_tokens, mix.short_median_tokens) == ("estimate", 30, 10)
    some = [*groups(1, 1).values(), *groups(1, 1, counted=False).values()]
    assert mix_of([row for rows in some for row in rows], {}).unit == "usage and estimate"


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ({"long_share": 0.2}, "long_share needs per_prompt"),
        ({"long_share": 0.2, "per_prompt": 2, "prefer": "longest"}, "leave prefer out"),
        ({"long_share": 1.2, "per_prompt": 2}, "less than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense(select: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_recipe({"name": "r", "filter": {"select": select}})
