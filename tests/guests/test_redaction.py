"""Redaction: nothing that is listed survives, nothing else is touched, and it takes its time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.guests.redaction import KINDS, Redactor

SECRETS = {
    "email": [
        "ada@example.org",
        "first.last+tag@mail.example.co.uk",
        "jörg@müller.de",
        "o'neil@xn--mller-kva.de",
        "a_b-c%d@1.example.museum",
    ],
    "phone": [
        "+49 30 1234567",
        "+1 (555) 123-4567",
        "+442079460958",
        "0049 171 1234567",
        "(555) 123-4567",
        "555-123-4567",
        "030 1234567",
        "01711234567",
        "06 12 34 56 78",
    ],
    "card": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "3400 000000 00009",
        "6011000000000004",
        "2223003122003222",
        "4222222222222",
    ],
    "api_key": [
        "sk-proj-" + "Ab3_" * 10,
        "sk-ant-api03-" + "Zz9-" * 10,
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 10,
        "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
        "xoxb-123456789012-abcdefABCDEF",
        "AIza" + "Sy0_-" * 7,
        "hf_" + "aB" * 17,
        "rk_live_" + "a1B2" * 6,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXBhcnQ",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n+/=\n-----END RSA PRIVATE KEY-----",
    ],
}
LISTED = [(kind, secret) for kind, secrets in SECRETS.items() for secret in secrets]
REDACTOR = Redactor()

# Nothing here can be a part of a secret, or join two of them to something else.
around = st.text(alphabet=" \n\t,;<>[]{}äßЖ中😀abcXYZ", max_size=40)
harmless = st.text(alphabet="abcXYZ äß中.,;:!?()@ \n-_1", max_size=200).filter(
    lambda text: "@" not in text or " @ " in text
)


@given(st.lists(st.tuples(around, st.sampled_from(LISTED)), min_size=1, max_size=8), around)
def test_no_listed_secret_survives_wherever_it_stands(
    pieces: list[tuple[str, tuple[str, str]]], end: str
) -> None:
    text = "".join(f"{before} <{secret}> " for before, (_, secret) in pieces) + end
    redacted = REDACTOR.redact(text)
    for _, (kind, secret) in pieces:
        assert secret not in redacted.text
        assert f"<[{kind}]>" in redacted.text
    assert redacted.text == "".join(f"{b} <[{kind}]> " for b, (kind, _) in pieces) + end
    assert sum(redacted.counts.values()) == len(pieces)


@pytest.mark.parametrize(("kind", "secret"), LISTED)
@pytest.mark.parametrize("frame", ["{}", '"{}"', "mail:{}.", "x\n{}\ny", "({})", "={},", "¡{}!"])
def test_each_is_found_in_common_surroundings(kind: str, secret: str, frame: str) -> None:
    redacted = REDACTOR.redact(frame.format(secret))
    assert redacted.counts == {kind: 1}
    assert redacted.text == frame.format(f"[{kind}]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.DEF-123_456", "Authorization: Bearer [bearer]"),
        ("bearer " + "q" * 30, "bearer [bearer]"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "[api_key]"}'),
        ("client_secret=s3cr3t-value&x", "client_secret=[api_key]"),
        ("password: hunter2hunter2", "password: [api_key]"),
        ("order 12 4111 1111 1111 1111 from 2024", "order 12 [card] from 2024"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB and no end", "[api_key]"),
    ],
)
def test_what_stands_after_its_name_is_found(text: str, expected: str) -> None:
    assert REDACTOR.redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bearer bonds and bearer certificates",
        "basic understanding; the key: perseverance",
        "4111 1111 1111 1112 has a wrong check digit",
        "941111111111111111119 has too many digits for a card",
        "a @ b, @handle, me@localhost, 5 @ 3.50 each",
        "sk-short, AKIA, hf_, eyJ.x.y",
        "2024-01-31 12:30:45.123456, 01.02.2024, 31/12/2024, v1.2.3, 192.168.100.200",
        "1,234,567.89 and 3.14159265358979",
        "{}[]()<>\\x00",
    ],
)
def test_what_is_none_of_these_is_left_alone(text: str) -> None:
    redacted = REDACTOR.redact(text)
    assert redacted.text is text
    assert redacted.counts == {}


@given(harmless)
def test_a_text_without_matches_is_unchanged(text: str) -> None:
    redacted = REDACTOR.redact(text)
    if not redacted.counts:
        assert redacted.text is text


@given(st.text(max_size=300))
def test_any_text_is_taken_and_what_is_taken_out_is_not_found_again(text: str) -> None:
    once = REDACTOR.redact(text)
    assert (once.text == text) == (not once.counts)
    assert set(once.counts) <= set(KINDS)


SIZE = 1_000_000
HOSTILE = {
    "letters": "a",
    "at signs": "@",
    "addresses without a domain": "a@",
    "addresses without a top": "a@b.",
    "dots": "a.",
    "digits": "4",
    "digits in groups": "4 ",
    "pairs": "42-",
    "plus signs": "+1",
    "brackets": "(0",
    "zeros": "00 1",
    "keys that are too short": "sk-a ",
    "keys in keys": "sk-",
    "tokens": "eyJ",
    "tokens with dots": "eyJaaaaaaaa.",
    "names of keys": "api_key=",
    "passwords": "password:",
    "bearers": "bearer ",
    "begins": "-----BEGIN ",
    "begins of keys": "-----BEGIN PRIVATE KEY-----",
    "blanks": " ",
    "underscores": "gh_hf_xox-",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_of_hostile_text_takes_time_in_proportion(unit: str) -> None:
    """Eight times the text takes about eight times as long, where it takes any time to speak of."""

    def seconds(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        began = time.process_time()
        REDACTOR.redact(text)
        return time.process_time() - began

    small, large = seconds(SIZE // 8), seconds(SIZE)
    assert large < 0.5 or large < 24 * small
    assert large < 15
