"""A key never shows."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from urllib.parse import quote, quote_plus

import attrs
import pytest
from langswarm.core.session import ConfigurationError
from langswarm.core.session.adapters.http.secret import MASK, Secret, scrub

CANARY = 'canary/key+with "odd\\ parts=='


@attrs.frozen
class Holder:
    secret: Secret


def test_a_secret_gives_its_value_only_when_it_is_asked_to_reveal_it() -> None:
    secret = Secret(CANARY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "%s" % secret,  # noqa: UP031 - logging does it so
        repr(copy.copy(secret)),
        repr(copy.deepcopy({"key": secret})),
        repr(Holder(secret)),
        repr(attrs.asdict(Holder(secret))),
        json.dumps({"key": secret}, default=str),
    ]
    assert not [text for text in shown if "canary" in text]
    assert secret.reveal() == CANARY
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_pickled() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(Secret(CANARY), protocol)


def test_whitespace_around_a_key_is_taken_off() -> None:
    assert Secret(" \tcanary-key \r\n").reveal() == "canary-key"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("canary\nkey", "control character"),
        ("canary\x00key", "control character"),
        ("canary\x7fkey", "control character"),
        ("canary\u200bkey", "not ASCII"),
        ("canärykey", "not ASCII"),
        ("canary" * 3_000, "longer than 16,384"),
        (b"canary-bytes", "must be a text, not bytes"),
        (None, "must be a text, not NoneType"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(value: object, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Secret(value, "OPENAI_API_KEY")
    assert str(caught.value).startswith("OPENAI_API_KEY ")
    assert "can" not in str(caught.value)
    # The frames of the package itself do not show it either.
    frames = list(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    )
    assert "canary" not in repr([frame.locals for frame in frames[1:]])


@pytest.mark.parametrize(
    "written",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, safe="").lower(),
        quote_plus(CANARY),
        json.dumps(CANARY)[1:-1],
        json.dumps(CANARY)[1:-1].replace("/", "\\/"),
        repr(CANARY)[1:-1],
        repr(CANARY.encode())[2:-1],
        json.dumps(json.dumps(CANARY))[3:-3],
        "".join(c if c.isalnum() else f"\\u00{ord(c):02X}" for c in CANARY),
    ],
)
def test_a_text_is_scrubbed_of_a_secret_however_it_was_written(written: str) -> None:
    text = scrub(
        f"before {written} between {written}, after", [Secret("other-key"), Secret(CANARY)]
    )
    assert text == f"before {MASK} between {MASK}, after"


def test_the_beginning_of_a_secret_at_the_end_of_a_text_that_was_cut_is_scrubbed() -> None:
    assert scrub("refused: " + CANARY[:12], [Secret(CANARY)]) == f"refused: {MASK}"
    assert scrub("refused: can", [Secret(CANARY)]) == "refused: can"


def test_a_short_word_in_place_of_a_key_is_left_in_texts() -> None:
    assert scrub("there is none", [Secret("none")]) == "there is none"


def test_a_log_record_of_a_secret_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("with %s and %r", Secret(CANARY), Secret(CANARY))
    assert "canary" not in caplog.text
