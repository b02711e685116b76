"""The stream of a response becomes texts and one end, however it is cut; or it is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.providers.openai.responses import (
    BETWEEN_MESSAGES,
    ResponsesReader,
)

from .streams import Heard, Json, response_events, sent

CUTS = st.lists(st.integers(min_value=0, max_value=1_000_000), max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
MESSAGES = st.lists(st.lists(TEXTS, min_size=1, max_size=5), min_size=1, max_size=3)


def heard(data: bytes, cuts: Any = ()) -> Heard:
    return Heard(ResponsesReader(), data, cuts)


def without(events: list[Json], kind: str) -> list[Json]:
    return [event for event in events if event["type"] != kind]


@given(
    messages=MESSAGES,
    cuts=CUTS,
    reasoning=st.booleans(),
    refuses=st.booleans(),
    ascii_only=st.booleans(),
)
def test_however_the_bytes_are_cut_text_and_end_are_the_same(
    messages: list[list[str]], cuts: list[int], *, reasoning: bool, refuses: bool, ascii_only: bool
) -> None:
    events = response_events(*messages, reasoning=reasoning, refuses=refuses)
    found = heard(sent(events, ascii_only=ascii_only), cuts)
    assert found.error is None
    assert found.text == BETWEEN_MESSAGES.join("".join(deltas) for deltas in messages)
    assert found.completed is not None
    assert found.completed.finish_reason == ("refusal" if refuses else "stop")
    assert found.completed.provider_message_id == f"msg_{len(messages) - 1}"


@given(MESSAGES, CUTS, st.data())
def test_a_stream_that_ends_before_its_terminal_event_is_truncated_wherever_it_ends(
    messages: list[list[str]], cuts: list[int], data: st.DataObject
) -> None:
    whole = sent(response_events(*messages, reasoning=True))
    # The blank line that ends the last event is one byte: without it there is no terminal event.
    end = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    found = heard(whole[:end], cuts)
    assert found.completed is None
    assert found.error is not None
    assert (found.error.code, found.error.retryable) == ("truncated", True)


def test_truncation_after_every_single_event_is_an_error() -> None:
    events = response_events(["Hello", " there"], ["and", " more"], reasoning=True)
    for count in range(len(events)):
        found = heard(sent(events[:count]))
        assert found.error is not None, events[count]["type"]
        assert found.error.code == "truncated"
    assert heard(sent(events)).error is None


@given(st.data())
def test_an_answer_is_never_short_or_doubled_where_an_event_is_lost_or_comes_twice(
    data: st.DataObject,
) -> None:
    events = response_events(["Hello", " there"], ["and", " more"], reasoning=True)
    place = data.draw(st.integers(min_value=0, max_value=len(events) - 1))
    times = data.draw(st.sampled_from([0, 2]))
    events[place : place + 1] = [events[place]] * times
    found = heard(sent(events))
    if found.error is None:
        assert found.text == "Hello there\n\nand more"
    else:
        assert found.error.code in {"protocol", "truncated"}


def test_a_lost_delta_is_noticed_also_where_only_the_end_tells() -> None:
    events = without(response_events(["Hello", " there"]), "response.output_text.done")
    lost = [event for event in events if event.get("delta") != " there"]
    error = heard(sent(lost)).error
    assert error is not None
    assert error.code == "protocol"
    assert heard(sent(events)).error is None


def test_a_server_that_repeats_no_output_in_the_end_is_taken_at_its_deltas() -> None:
    found = heard(sent(response_events(["Hello"], shown_output=False)))
    assert found.text == "Hello"
    assert found.completed is not None
    assert found.completed.provider_message_id == "msg_0"


def test_the_end_tells_ids_the_model_as_served_the_tier_and_what_it_cost() -> None:
    completed = heard(sent(response_events(["Hello"], reasoning=True))).completed
    assert completed is not None
    assert (completed.input_tokens, completed.output_tokens) == (12, 5)
    assert completed.metadata == {
        "response_id": "resp_1",
        "model": "gpt-5-2026",
        "status": "completed",
        "service_tier": "default",
        "other_output": ["reasoning"],
        "usage": {
            "input_tokens": 12,
            "input_tokens_details": {"cached_tokens": 8},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 17,
        },
    }


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "content_filter"),
        ("max_messages", "max_messages"),
        ("", "incomplete"),
        (" ", "incomplete"),
        ("\u00e9" * 300, "\u00e9" * 50),
    ],
)
def test_an_incomplete_answer_says_why(reason: str, finish_reason: str) -> None:
    found = heard(sent(response_events(["Hel"], incomplete=reason)))
    assert found.text == "Hel"
    assert found.completed is not None
    assert found.completed.finish_reason == finish_reason


def test_a_character_that_two_events_share_is_put_together() -> None:
    events = response_events(["wow \ud83d", "\ude00!"])
    found = heard(sent(events))
    assert found.error is None
    assert found.text == "wow \U0001f600!"


def test_events_of_unknown_types_and_of_other_output_are_passed_over() -> None:
    events = response_events(["Hello"])
    events.insert(3, {"type": "vendor.news", "delta": 7})
    events.insert(3, {"type": "response.web_search_call.searching", "item_id": "ws_1"})
    events.insert(0, {"type": "ping"})
    assert heard(sent(events)).text == "Hello"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "server_error", "message": "Oops"}, "overloaded"),
        ({"type": "error", "error": {"code": "rate_limit_exceeded"}}, "rate_limit"),
        ({"error": {"code": "context_length_exceeded", "message": "Too long"}}, "context_length"),
        ({"type": "response.failed", "response": {"error": {"code": "bio_policy"}}}, "refused"),
        ({"type": "response.failed", "response": {}}, "overloaded"),
        ({"type": "response.output_text.delta", "delta": None}, "protocol"),
        ({"type": "response.output_text.done", "text": "something else"}, "protocol"),
    ],
)
def test_an_error_within_the_stream_is_an_error_with_its_code(event: Json, code: str) -> None:
    data = sent(response_events(["Hello"])[:5]) + f"data: {json.dumps(event)}\n\n".encode()
    error = heard(data).error
    assert error is not None
    assert error.code == code


@pytest.mark.parametrize("data", ['{"type": "resp', "[1, 2]", "7", '"text"'])
def test_an_event_that_is_no_json_object_is_malformed(data: str) -> None:
    error = heard(f"data: {data}\n\n".encode()).error
    assert error is not None
    assert error.code == "protocol"


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.data())
def test_whatever_a_field_holds_there_is_an_answer_or_a_provider_error(data: st.DataObject) -> None:
    events = response_events(["Hello", " there"], reasoning=True)
    event = events[data.draw(st.integers(min_value=0, max_value=len(events) - 1))]
    event[data.draw(st.sampled_from(sorted(event)))] = data.draw(ODD)
    found = heard(sent(events))
    assert found.error is not None or found.completed is not None
