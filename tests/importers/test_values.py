"""JSON values out of an array, or out of objects that are spread over lines, however the bytes arrive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.importers.values import Values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{},: \n€', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(JSON, max_size=5),
    st.lists(st.integers(1, 9), max_size=40),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
def test_elements_of_an_array(values: list[Any], sizes: list[int], indent: int | None, ascii: bool) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii).encode()
    found = list(Values().read(cut(data, sizes)))
    assert [json.loads(element or b"") for element in found] == values
    assert not any(b"\n" in (element or b"") for element in found)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=4), st.sampled_from([None, 2])
)
def test_objects_after_each_other(values: list[Any], indent: int | None) -> None:
    data = "\n".join(json.dumps(value, indent=indent) for value in values).encode()
    assert [json.loads(element or b"") for element in Values().read([data])] == values


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(1, 9), max_size=20))
def test_no_bytes_break_it_and_cutting_them_changes_nothing(data: bytes, sizes: list[int]) -> None:
    assert list(Values().read(cut(data, sizes))) == list(Values().read([data]))


def test_a_long_element_spoils_only_itself() -> None:
    data = json.dumps([{"a": 1}, {"b": "x" * 5000}, {"c": 3}]).encode()
    chunks = cut(data, [100] * 60)
    assert list(Values(1000).read(chunks)) == [b'{"a": 1}', None, b'{"c": 3}']


def test_depth_costs_nothing() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    first, second = Values().read([b'[{"a": ' + deep + b'}, {"b": 1}]'])
    assert first is not None and len(first) > 400_000
    assert second == b'{"b": 1}'


@pytest.mark.parametrize("torn", [b'[{"a": 1}, {"b": "x', b'[{"a": 1}, {"b"'])
def test_a_torn_end_comes_last(torn: bytes) -> None:
    first, last = Values().read([torn])
    assert first == b'{"a": 1}'
    assert last is not None and last.startswith(b'{"b"')
