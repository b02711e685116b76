"""Whatever a service says, with whatever key in whatever form: the key is gone, the rest is not."""

from __future__ import annotations

import base64
import html
import json
import string
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from langswarm.core.session.adapters.http.secret import (
    MASK,
    PART_CHARACTERS,
    Secret,
    scrub,
    scrub_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PRINTABLE = "".join(chr(code) for code in range(33, 127))
KEYS = st.one_of(
    st.text(string.ascii_letters + string.digits + "-_", min_size=16, max_size=64),
    st.text(PRINTABLE, min_size=16, max_size=64).filter(lambda key: "%" not in key),
)
# Beside the key, what cannot be mistaken for a part of it or of its quoting.
TEXTS = st.text("äöü\u20ac \n.,:;!", max_size=40)

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "capitals": str.upper,
    "quoted": lambda key: quote(key, safe=""),
    "quoted twice": lambda key: quote(quote(key, safe=""), safe=""),
    "as a form": quote_plus,
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON in JSON": lambda key: json.dumps(json.dumps(key))[3:-3],
    "JSON escaped throughout": lambda key: "".join(f"\\u{ord(each):04X}" for each in key),
    "percent throughout": lambda key: "".join(f"%{ord(each):02x}" for each in key),
    "HTML": html.escape,
    "repr": lambda key: repr(key)[1:-1],
    "bytes": lambda key: repr(key.encode())[2:-1],
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of more": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
}


def is_plain(key: str) -> bool:
    """It does not look like quoting itself, and does not repeat itself."""
    no_quoting = html.unescape(key) == key and "\\" not in key
    return no_quoting and len(set(key.lower())) > len(key) // 3


@settings(deadline=None)
@given(key=KEYS, form=st.sampled_from(sorted(FORMS)), before=TEXTS, between=TEXTS, after=TEXTS)
@example(key="sk-proj-0123456789", form="plain", before="", between="", after="")
def test_nothing_of_a_key_is_left_and_all_else_is(
    key: str, form: str, before: str, between: str, after: str
) -> None:
    assume(is_plain(key))
    written = FORMS[form](key)
    left = scrub(f"{before}{written}{between}{written}{after}", [Secret(key)])
    assert before in left
    assert left.endswith(after) or MASK in left[-len(after) - len(MASK) :]
    low = left.lower()
    for at in range(len(key) - PART_CHARACTERS + 1):
        assert key[at : at + PART_CHARACTERS].lower() not in low
    assert MASK in left
    if form not in {"base64", "base64 of more"}:
        # The key and nothing more.
        assert left == f"{before}{MASK}{between}{MASK}{after}"


@settings(deadline=None)
@given(key=KEYS, cuts=st.tuples(st.integers(0, 64), st.integers(0, 64)), before=TEXTS, after=TEXTS)
def test_a_part_of_a_key_is_taken_out_if_it_is_long_enough_and_left_if_not(
    key: str, cuts: tuple[int, int], before: str, after: str
) -> None:
    assume(is_plain(key))
    first, last = sorted(min(cut, len(key)) for cut in cuts)
    part = key[first:last]
    left = scrub(f"{before}ä{part}ä{after}", [Secret(key)], cut=False)
    masked = MASK if len(part) >= PART_CHARACTERS else part
    assert left == f"{before}ä{masked}ä{after}"


@settings(deadline=None)
@given(text=st.text(max_size=200), keys=st.lists(KEYS, max_size=3))
def test_a_text_without_a_key_is_left_as_it_is(text: str, keys: list[str]) -> None:
    assume(not any(key[:4].lower() in text.lower() for key in keys))
    assert scrub(text, [Secret(key) for key in keys], cut=False) == text


@settings(deadline=None)
@given(key=KEYS, text=st.text(max_size=100))
def test_a_text_with_a_key_anywhere_never_fails_and_is_clean_after_one_time(
    key: str, text: str
) -> None:
    assume(is_plain(key))
    once = scrub(text + key + text, [Secret(key)])
    assert key not in once
    assert scrub(once, [Secret(key)], cut=False) == once


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(key=KEYS, value=JSON, form=st.sampled_from(sorted(FORMS)))
def test_a_json_value_keeps_its_shape_and_loses_its_keys(
    key: str, value: object, form: str
) -> None:
    assume(is_plain(key) and key.lower()[:6] not in repr(value).lower())
    secret = Secret(key)
    assert scrub_value(value, [secret]) == value
    written = FORMS[form](key)
    left = scrub_value({"a": value, "b": [written, {written: written}]}, [secret])
    assert set(left) == {"a", "b"}
    assert left["a"] == value
    assert key.lower() not in repr(left).lower()
    assert MASK in left["b"][0]
