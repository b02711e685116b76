"""Keys and sealed records, apart from any database."""

from __future__ import annotations

import base64
import copy
import pickle
import traceback

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.storage.encryption import (
    BrokenSealError,
    KeyRing,
    MissingKeyError,
    RecordKind,
    SealError,
    facts_of,
    read_key,
)
from langswarm.core.session.errors import ConfigurationError

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
RING = KeyRing({"a": KEY})
MESSAGES = RecordKind("messages", ("content", "metadata", "hash"), frozenset({"hash"}))
FACTS = facts_of(1, "user", None)

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.tuples(st.none() | texts, st.none() | texts, st.none() | st.binary())
facts = st.lists(st.none() | texts | st.integers(-(2**63), 2**63 - 1), max_size=4)


@given(values=values, facts=facts)
def test_what_is_sealed_opens_as_it_was(
    values: tuple[str | None, str | None, bytes | None], facts: list[int | str | None]
) -> None:
    sealed = MESSAGES.seal(RING, facts_of(*facts), values)
    assert MESSAGES.open(RING, "a", facts_of(*facts), sealed) == list(values)


@given(value=st.text("abc", min_size=1, max_size=40), data=st.data())
def test_every_bit_that_is_flipped_is_detected(value: str, data: st.DataObject) -> None:
    (sealed, *_) = MESSAGES.seal(RING, FACTS, (value, None, None))
    assert sealed is not None
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    broken = bytearray(sealed)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BrokenSealError):
        MESSAGES.open(RING, "a", FACTS, (bytes(broken), None, None))


def test_every_bit_of_one_record_and_of_its_facts() -> None:
    (sealed, *_) = MESSAGES.seal(RING, FACTS, ("hello", None, None))
    assert sealed is not None
    for bit in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BrokenSealError):
            MESSAGES.open(RING, "a", FACTS, (bytes(broken), None, None))
    for bit in range(len(FACTS) * 8):
        changed = bytearray(FACTS)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BrokenSealError):
            MESSAGES.open(RING, "a", bytes(changed), (sealed, None, None))


@given(cut=st.integers(0, 40), extra=st.binary(max_size=3))
def test_what_is_cut_or_made_longer_is_detected(cut: int, extra: bytes) -> None:
    (sealed, *_) = MESSAGES.seal(RING, FACTS, ("hello, world", None, None))
    assert sealed is not None
    other = sealed[:cut] + extra
    if other != sealed:
        with pytest.raises(BrokenSealError):
            MESSAGES.open(RING, "a", FACTS, (other, None, None))


@given(value=st.none() | st.text() | st.integers() | st.binary(max_size=40) | st.floats())
def test_what_was_never_sealed_does_not_open(value: object) -> None:
    if value is not None:
        with pytest.raises(SealError):
            MESSAGES.open(RING, "a", FACTS, (value, None, None))


def test_a_field_does_not_open_in_the_place_of_another() -> None:
    first, second, _ = MESSAGES.seal(RING, FACTS, ("one", "two", None))
    assert MESSAGES.open(RING, "a", FACTS, (first, second, None)) == ["one", "two", None]
    with pytest.raises(BrokenSealError, match="content"):
        MESSAGES.open(RING, "a", FACTS, (second, first, None))


def test_a_field_does_not_open_in_another_table() -> None:
    sealed = MESSAGES.seal(RING, FACTS, ("one", None, None))
    turns = RecordKind("turns", MESSAGES.fields, MESSAGES.binary)
    with pytest.raises(BrokenSealError):
        turns.open(RING, "a", FACTS, sealed)


def test_what_is_left_does_not_open_when_a_field_is_taken_away() -> None:
    first, _, third = MESSAGES.seal(RING, FACTS, ("one", "two", b"three"))
    with pytest.raises(BrokenSealError):
        MESSAGES.open(RING, "a", FACTS, (first, None, third))


@given(first=facts, second=facts)
def test_a_record_opens_with_its_own_facts_only(
    first: list[int | str | None], second: list[int | str | None]
) -> None:
    sealed = MESSAGES.seal(RING, facts_of(*first), ("one", None, None))
    if first == second:
        assert MESSAGES.open(RING, "a", facts_of(*second), sealed)[0] == "one"
    else:
        with pytest.raises(BrokenSealError):
            MESSAGES.open(RING, "a", facts_of(*second), sealed)


def test_no_two_seals_of_one_text_are_alike_and_none_shows_it() -> None:
    seals = {MESSAGES.seal(RING, FACTS, ("canary", None, None))[0] for _ in range(100)}
    assert len(seals) == 100
    assert not [sealed for sealed in seals if sealed is None or b"canary" in sealed]
    assert len({sealed[:12] for sealed in seals if sealed}) == 100


def test_all_keys_of_a_ring_open_and_the_current_one_seals() -> None:
    old = MESSAGES.seal(RING, FACTS, ("old", None, None))
    ring = KeyRing({"a": KEY, "b": OTHER})
    new = MESSAGES.seal(ring, FACTS, ("new", None, None))
    assert ring.current.key_id == "b"
    assert KeyRing({"a": KEY, "b": OTHER}, "a").current.key_id == "a"
    assert MESSAGES.open(ring, "a", FACTS, old)[0] == "old"
    assert MESSAGES.open(ring, "b", FACTS, new)[0] == "new"
    with pytest.raises(BrokenSealError):
        MESSAGES.open(ring, "a", FACTS, new)


def test_a_missing_key_is_named_with_what_to_do() -> None:
    sealed = MESSAGES.seal(RING, FACTS, ("old", None, None))
    with pytest.raises(MissingKeyError, match="the key 'a', which is not in encryption_keys: add"):
        MESSAGES.open(KeyRing({"b": OTHER}), "a", FACTS, sealed)
    with pytest.raises(MissingKeyError):
        MESSAGES.open(RING, None, FACTS, sealed)


def test_another_key_under_the_same_id_is_detected() -> None:
    sealed = MESSAGES.seal(RING, FACTS, ("old", None, None))
    with pytest.raises(BrokenSealError, match="another key of the id 'a'"):
        MESSAGES.open(KeyRing({"a": OTHER}), "a", FACTS, sealed)


def test_a_tag_is_hashed_alike_with_one_key_and_differently_with_another() -> None:
    ring = KeyRing({"a": KEY, "b": OTHER})
    assert ring.current.hash_tag("ml") == ring.current.hash_tag("ml")
    assert ring.current.hash_tag("ml") != ring.current.hash_tag("mk")
    assert ring.hashes_of_tag("ml") == [ring.key("b").hash_tag("ml"), ring.key("a").hash_tag("ml")]
    assert len(set(ring.hashes_of_tag("ml"))) == 2


def test_the_keys_of_each_purpose_are_different_and_none_is_the_key_that_was_given() -> None:
    key = RING.current
    sealed = MESSAGES.seal(RING, b"", ("text", None, None))[0]
    assert sealed is not None
    label = b"langswarm-session\0\1messages\0content\0\0\4"
    with pytest.raises(InvalidTag):
        AESGCM(KEY).decrypt(sealed[:12], sealed[12:], label)
    assert key.fingerprint not in KEY
    assert key.fingerprint != key.hash_tag("")


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(bytes(255 - byte for byte in KEY)).decode(),
        base64.b64encode(KEY).decode().rstrip("="),
        f" {base64.b64encode(KEY).decode()}\n",
    ],
)
def test_a_key_is_read_from_base64(text: str) -> None:
    assert read_key(text, "key") in {KEY, bytes(255 - byte for byte in KEY)}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "it has 0"),
        (KEY[:-1], "it has 31"),
        (KEY + b"x", "it has 33"),
        (KEY.hex(), "it has 48"),
        (b"\0" * 32, "not random"),
        ("correct horse battery staple!", "neither bytes nor base64"),
        (17, "not int"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(value: object, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        KeyRing({"a": value})
    assert caught.value.__traceback__ is not None
    error = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # without this frame
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    if isinstance(value, str | bytes) and len(set(value)) > 1:
        assert str(value)[:12] not in "".join(told.format())


@pytest.mark.parametrize(
    ("keys", "current", "problem"),
    [
        ({}, None, "has 0 keys"),
        ({"": KEY}, None, "an id in encryption_keys"),
        ({"a b": KEY}, None, "an id in encryption_keys"),
        ({1: KEY}, None, "an id in encryption_keys"),
        ({base64.b64encode(KEY).decode(): "2026"}, None, "in the key's place"),
        ({"a": KEY, "b": KEY}, None, "one key under two ids, 'a' and 'b'"),
        ({"a": KEY}, "b", "encryption_key_id is none of the ids"),
        ([KEY], None, "must be a mapping"),
    ],
)
def test_a_ring_that_makes_no_sense_is_refused(
    keys: dict[str, object], current: str | None, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        KeyRing(keys, current)
    assert base64.b64encode(KEY).decode() not in str(caught.value)


def test_keys_show_nowhere() -> None:
    derived = [KEY.hex(), repr(KEY), base64.b64encode(KEY).decode()]
    shown = [repr(RING), str(RING), f"{RING}", repr(RING.current), str(vars(type(RING)).keys())]
    assert repr(RING) == "KeyRing(['a'], current='a', [secret])"
    for text in shown:
        assert not [form for form in derived if form in text]
    for secret in (RING, RING.current):
        assert not hasattr(secret, "__dict__")
        for steal in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                steal(secret)
