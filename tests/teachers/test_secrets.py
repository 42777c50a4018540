"""No part of a key that is worth anything gets through, and no ordinary sentence is harmed."""

from __future__ import annotations

import html
import json
import string
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1distill.teachers.secrets import MOST_CHARACTERS, READ_CHARACTERS, WINDOW, scrub

KEY = "Zq8/vT+4mNw1yXc6Rb3LpKd0"


def survives(key: str, clean: str) -> bool:
    """True when a window of the key is still there."""
    size = min(WINDOW, len(key))
    return any(key[i : i + size] in clean for i in range(len(key) - size + 1))


@pytest.mark.parametrize(
    "text",
    [
        f"bad key {KEY}",
        f"bad key {KEY[-10:]}",
        f"bad key starting with {KEY[:9]}",
        f"{KEY}{KEY}",
        f"url https://x/?key={'Zq8%2FvT%2B4mNw1yXc6Rb3LpKd0'}",
        f"url https://x/?key={'Zq8%2fvT%2b4mNw1yXc6Rb3LpKd0'}",
        f"Authorization: Bearer {KEY}",
        json.dumps({"sent": KEY}).replace("/", "\\/"),
    ],
)
def test_the_key_and_long_parts_of_it_vanish(text: str) -> None:
    clean = scrub(text, (KEY,))
    assert "[key]" in clean
    assert not survives(KEY, clean)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-abcde***************wxyz.", "wxyz"),
        ("Incorrect API key provided: abcd****wxyz", "wxyz"),
        ("Incorrect API key provided: ****wxyz", "wxyz"),
        ("in organization org-AbCdEfGhIjKl on requests", "AbCd"),
        ("project proj_a1b2c3d4e5f6 is archived", "a1b2"),
        ("token hf_abcdefghijklmnop", "abcdefgh"),
        ("nvapi-0123456789abcdef", "0123"),
        ("gsk_0123456789abcdef", "0123"),
        ("fw_3ZkQw9xYvBn2", "3ZkQ"),
        ("sk-ant-api03-Xy7_kLm2-Qp9 is no key", "Xy7"),
        ("sk-or-v1-00ff11ee22dd33cc44", "00ff"),
        ("tgp_v1_AbC123xyz987", "AbC1"),
        ("ABSKQmVkcm9ja0FQSUtleS1hYmNkZWY= expired", "Qm"),
        ("bedrock-api-key-YmVkcm9jay5hbWF6", "YmVk"),
        ("AIzaSyA1234567890abcdefghijk", "SyA1"),
        ("AKIAIOSFODNN7EXAMPLE is unknown", "IOSF"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln bad", "hbGci"),
        ("bearer abcdefghijklmnop", "abcdefgh"),
        ("api-key: abcdefghijklmnop", "abcdefgh"),
        ("api-key: 0123456789abcdef0123456789abcdef", "0123"),
        ("The subscription key `0123456789abcdef0123456789abcdef` is wrong", "0123"),
        ('{"api_key": "Qw3rty9"}', "Qw3rty9"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNl"),
        ("Credential=AKIAIOSFODNN7EXAMPLE/2026, Signature=fe5f80f77d5fa3be", "fe5f"),
        ("GET https://host/v1?key=abcdef&x=1", "abcdef"),
        ("GET https://host/v1?x=1&api_key=secret", "secret"),
        ("https://host/?sig=ab", "=ab"),
        ("407, url='http://alice:pw@10.0.0.1:8080'", "pw"),
        ("proxy http://alice:p@ss@proxy.test/x", "p@ss"),
        ("proxy http://alice:p@ss@proxy.test/x", "alice"),
        ('{"url": "http:\\/\\/bob:pw7@proxy.test"}', "pw7"),
    ],
)
def test_what_looks_like_a_key_vanishes_without_being_known(text: str, secret: str) -> None:
    clean = scrub(text)
    assert "[key]" in clean
    assert secret not in clean


@pytest.mark.parametrize(
    "text",
    [
        "The model is overloaded, ask again in 3 s (code 529, task-based routing).",
        "Missing API key provided in the request",
        "Bearer authentication is required for this route",
        "Authorization: required",
        "This model's maximum context length is 131072 tokens; max_tokens=32768 is too large.",
        "see sk-learn-estimators, org-mode-document and hf_hub_download",
        "request id 4f1c2b7e-8a9d-4c3e-9f00-1234567890ab",
        "request 0123456789abcdef0123456789abcdef failed",
        "the key point is that 2 ** 10 == 1024, and ***bold*** stays",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "the value of x_api_keys_are_fine and monkeys",
        "see https://docs.test/a@b or //host/@user, written by me@mail.test",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert scrub(text, ("none", "")) == text


def test_one_short_line() -> None:
    assert scrub("a\n\n  b\t c") == "a b c"
    assert len(scrub("x " * 10_000)) == MOST_CHARACTERS


ALPHABET = string.ascii_letters + string.digits + "-_./+=:~$&'\"%\\"
KEYS = st.text(ALPHABET, min_size=6, max_size=60)
FORMS = st.sampled_from(
    [
        str,
        html.escape,
        lambda key: quote(key, safe=""),
        lambda key: json.dumps(key)[1:-1],
        lambda key: key[2:-1],
        lambda key: f"{key[:3]}\n{key[3:]}",
        lambda key: key + key,
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=40), KEYS, FORMS, st.text(max_size=40), KEYS)
@example("", "sk-[key]", str, "", "abcdef")
def test_no_window_of_a_secret_survives(before: str, key: str, form: object, after: str, other: str) -> None:
    assert callable(form)
    clean = scrub(f"{before} {form(key)}{after} {other}", (key, other))
    assert not survives(other, clean)
    assert not survives(key, clean)


@given(st.text(), st.text(min_size=6, max_size=40), st.text())
def test_the_whole_key_never_stays(before: str, key: str, after: str) -> None:
    clean = scrub(f"{before}{key}{after}", (key,))
    plain = " ".join(key.split())
    assert plain not in clean or plain in "[key]…" or len(plain) < 6 or "[key]" in plain


@pytest.mark.parametrize(
    "piece",
    [
        "sk-",
        "x",
        "*",
        "key ",
        "bearer ",
        "authorization: ",
        "eyJ",
        "?key=",
        "api key",
        "0",
        "a-",
        "//",
        "//a",
        "//a@",
    ],
)
def test_hostile_texts_take_no_time(piece: str) -> None:
    text = (piece * READ_CHARACTERS)[:READ_CHARACTERS]
    start = time.process_time()
    scrub(text, (KEY,))
    assert time.process_time() - start < 0.5
