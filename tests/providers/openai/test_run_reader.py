"""The stream of a run becomes texts and one end, however it is cut; or it is an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.providers.openai.assistants import RunReader

from .streams import Heard, run_events, sent_run

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def heard(data: bytes, cuts: Any = ()) -> Heard:
    return Heard(RunReader(), data, cuts)


@given(
    st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(min_value=0, max_value=1_000_000), max_size=20),
)
def test_however_the_bytes_are_cut_text_and_end_are_the_same(
    messages: list[list[str]], cuts: list[int]
) -> None:
    found = heard(sent_run(run_events(*messages)), cuts)
    assert found.error is None
    assert found.text == "\n\n".join("".join(deltas) for deltas in messages)
    assert found.completed is not None
    assert (found.completed.input_tokens, found.completed.output_tokens) == (12, 5)
    assert found.completed.provider_message_id == f"msg_{len(messages) - 1}"


def test_truncation_after_every_single_event_is_an_error() -> None:
    events = run_events(["Hello", " there"], ["more"])
    for count in range(len(events)):
        found = heard(sent_run(events[:count], done=False))
        assert found.error is not None, events[count]["event"]
        assert found.error.code == "truncated"
    assert heard(sent_run(events, done=False)).error is None


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["wow \ud83d", "\ude00!"], "wow \U0001f600!"),
        (["half \ud83d"], "half \ufffd"),
        (["half \ude00", "!"], "half \ufffd!"),
    ],
)
def test_halves_of_characters_are_put_together_or_replaced(deltas: list[str], text: str) -> None:
    found = heard(sent_run(run_events(deltas)))
    assert (found.error, found.text) == (None, text)


def test_done_without_the_end_of_the_run_is_truncated() -> None:
    error = heard(sent_run(run_events(["Hello"])[:-1])).error
    assert error is not None
    assert error.code == "truncated"


def test_a_lost_delta_is_noticed() -> None:
    events = [each for each in run_events(["Hello", " there"]) if " there" not in str(each)]
    events.insert(-1, run_events(["Hello", " there"])[-2])
    error = heard(sent_run(events)).error
    assert error is not None
    assert error.code == "protocol"


def test_the_id_of_the_run_is_known_at_once_and_its_end_is_noticed() -> None:
    reader = RunReader()
    events = run_events(["Hello"])
    Heard(reader, sent_run(events[:1], done=False))
    assert (reader.run_id, reader.is_over) == ("run_1", False)
    Heard(reader, sent_run(events[1:]))
    assert (reader.run_id, reader.is_over) == ("run_1", True)


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("max_completion_tokens", "length"),
        ("content_filter", "content_filter"),
        ("\u00e9" * 300, "\u00e9" * 50),
        (" ", "stop"),
    ],
)
def test_an_incomplete_run_says_why(reason: str, finish_reason: str) -> None:
    details = {"reason": reason}
    events = run_events(["Hel"], ends="incomplete", incomplete_details=details)
    completed = heard(sent_run(events)).completed
    assert completed is not None
    assert completed.finish_reason == finish_reason


@pytest.mark.parametrize(
    ("ends", "error", "code"),
    [
        ("failed", {"code": "rate_limit_exceeded", "message": "Slowly"}, "rate_limit"),
        ("failed", {"code": "server_error", "message": "Oops"}, "overloaded"),
        ("expired", None, "overloaded"),
        ("cancelled", None, "overloaded"),
        ("requires_action", None, "invalid_request"),
    ],
)
def test_a_run_that_does_not_complete_is_an_error_with_its_code(
    ends: str, error: dict[str, str] | None, code: str
) -> None:
    found = heard(sent_run(run_events(["Hel"], ends=ends, last_error=error))).error
    assert found is not None
    assert found.code == code


def test_an_error_event_is_an_error() -> None:
    data = b'event: error\ndata: {"message": "Oops", "code": "server_error"}\n\n'
    found = heard(sent_run(run_events(["Hel"])[:3], done=False) + data).error
    assert found is not None
    assert found.code == "overloaded"
