"""Reading Messages streams: every text once, the end only where the vendor says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.actors.errors import ProviderError
from langswarm.core.session.actors.ports import Completed, Usage
from langswarm.core.session.actors.values import encode_object
from langswarm.core.session.adapters.http.sse import SSEParser
from langswarm.core.session.adapters.providers.anthropic.stream import MessageReader

from ..streams import cut, json_values, places, read, sse, texts

USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 100,
    "output_tokens": 1,
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
    "server_tool_use": None,
}


def start(**changes: Any) -> tuple[str, dict[str, Any]]:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-served",
        "content": [],
        "stop_reason": None,
        "usage": USAGE,
    }
    return "message_start", {"type": "message_start", "message": message | changes}


def block(index: int = 0, kind: str = "text", **fields: Any) -> tuple[str, dict[str, Any]]:
    held: dict[str, Any] = {"type": kind} | ({"text": ""} if kind == "text" else {}) | fields
    return "content_block_start", {
        "type": "content_block_start",
        "index": index,
        "content_block": held,
    }


def delta(text: str, index: int = 0) -> tuple[str, dict[str, Any]]:
    return other_delta("text_delta", index, text=text)


def other_delta(kind: str, index: int = 0, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "content_block_delta", {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": kind, **fields},
    }


def block_end(index: int = 0) -> tuple[str, dict[str, Any]]:
    return "content_block_stop", {"type": "content_block_stop", "index": index}


def end(reason: str | None = "end_turn", **usage: Any) -> tuple[str, dict[str, Any]]:
    return "message_delta", {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 12, "input_tokens": None} | usage,
    }


STOP = ("message_stop", {"type": "message_stop"})
PING = ("ping", {"type": "ping"})


def answer(*pieces: str, reason: str = "end_turn") -> list[bytes]:
    said = [delta(piece) for piece in pieces]
    return sse(start(), block(), PING, *said, block_end(), end(reason), STOP)


# ---------------------------------------------------------------- what an answer is


def test_an_answer_has_its_text_its_counts_and_what_the_vendor_said_of_it() -> None:
    said, last = read(MessageReader(), answer("Hello", ", ", "world"))
    assert said == "Hello, world"
    assert last.finish_reason == "stop"
    assert last.provider_message_id == "msg_1"
    assert (last.input_tokens, last.output_tokens) == (135, 12)
    assert last.metadata == {
        "message_id": "msg_1",
        "model": "claude-served",
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 100,
            "output_tokens": 12,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    }


def test_later_counts_go_before_earlier_ones() -> None:
    data = sse(start(), end(input_tokens=7, cache_read_input_tokens=0, output_tokens=9), STOP)
    _, last = read(MessageReader(), data)
    assert (last.input_tokens, last.output_tokens) == (7 + 30, 9)


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("tool_use", "tool_use"),
        ("pause_turn", "pause_turn"),
        ("something_new", "something_new"),
    ],
)
def test_each_stop_reason_has_its_finish_reason(reason: str, finish_reason: str) -> None:
    _, last = read(MessageReader(), answer("x", reason=reason))
    assert last.finish_reason == finish_reason
    assert last.metadata["stop_reason"] == reason


def test_thinking_and_tool_calls_are_no_text_and_are_named() -> None:
    data = sse(
        start(),
        block(0, "thinking", thinking=""),
        other_delta("thinking_delta", 0, thinking="hm"),
        other_delta("summary_delta", 0, text="nor this"),
        other_delta("signature_delta", 0, signature="c2ln"),
        block_end(0),
        block(1, "text"),
        delta("Yes.", 1),
        other_delta("citations_delta", 1, citation={"text": "not this"}),
        block_end(1),
        block(2, "tool_use", id="t", name="f", input={}),
        other_delta("input_json_delta", 2, partial_json='{"text": "nor this"}'),
        block_end(2),
        end("tool_use"),
        STOP,
    )
    said, last = read(MessageReader(), data)
    assert said == "Yes."
    assert last.metadata["other_content"] == ["thinking", "tool_use"]


def test_several_text_blocks_are_one_answer_and_a_block_may_begin_with_text() -> None:
    data = sse(
        start(),
        block(0, text="One"),
        delta(" two"),
        block_end(0),
        block(1),
        delta(" three", 1),
        end(),
        STOP,
    )
    assert read(MessageReader(), data)[0] == "One two three"


def test_events_of_unknown_types_and_fields_of_wrong_types_are_passed_over() -> None:
    data = sse(
        ("news", {"type": "news", "delta": {"type": "text_delta", "text": "no"}}),
        start(id=7, model=None, usage="much"),
        ("", {"type": "content_block_delta", "delta": "none"}),
        ("", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 5}}),
        ("", []),
        delta("yes"),
        STOP,
    )
    said, last = read(MessageReader(), data)
    assert said == "yes"
    assert last.provider_message_id is None
    assert last.finish_reason == "stop"
    assert last.input_tokens == last.output_tokens == 0


def test_a_character_that_was_cut_in_two_arrives_whole() -> None:
    halves = [r'{"type":"text_delta","text":"a\ud83d"}', r'{"type":"text_delta","text":"\ude00b"}']
    data = sse(
        start(),
        *((("", '{"type":"content_block_delta","delta":' + half + "}")) for half in halves),
        end(),
        STOP,
    )
    assert read(MessageReader(), data)[0] == "a😀b"


def test_half_a_character_at_the_end_is_replaced() -> None:
    lost = '{"type":"content_block_delta","delta":{"type":"text_delta","text":"a\\ud83d"}}'
    assert read(MessageReader(), sse(start(), ("", lost), end(), STOP))[0] == "a\ufffd"


# ---------------------------------------------------------------- what is no answer


WHOLE = answer("Hello", ", world")


def test_an_end_without_a_beginning_is_no_empty_answer() -> None:
    with pytest.raises(ProviderError, match="never began") as caught:
        read(MessageReader(), sse(PING, STOP))
    assert caught.value.code == "protocol"


@pytest.mark.parametrize("events", range(len(WHOLE)))
def test_a_stream_that_ends_before_message_stop_is_an_error(events: int) -> None:
    with pytest.raises(ProviderError) as caught:
        read(MessageReader(), WHOLE[:events])
    assert caught.value.code == "truncated"
    assert caught.value.retryable


@given(places, st.integers(0, 10_000))
def test_bytes_that_end_early_are_never_a_short_answer(places: list[int], size: int) -> None:
    data = b"".join(WHOLE)
    size %= len(data)
    with pytest.raises(ProviderError) as caught:
        read(MessageReader(), cut(data[:size], places))
    assert caught.value.code == "truncated"


@given(texts, places)
def test_an_answer_is_the_same_however_its_bytes_are_cut(
    pieces: list[str], places: list[int]
) -> None:
    data = b"".join(answer(*pieces))
    said, last = read(MessageReader(), cut(data, places))
    assert said == "".join(pieces)
    assert (said, last) == read(MessageReader(), [data])


@pytest.mark.parametrize("after", range(len(WHOLE) - 1))
@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("overloaded_error", "overloaded", True),
        ("api_error", "overloaded", True),
        ("rate_limit_error", "rate_limit", True),
        ("timeout_error", "timeout", True),
        ("invalid_request_error", "invalid_request", False),
        ("something_new", "overloaded", True),
    ],
)
def test_an_error_in_the_stream_is_that_error(
    after: int, kind: str, code: str, retryable: bool
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "Overloaded"}}
    with pytest.raises(ProviderError, match="Overloaded") as caught:
        read(MessageReader(), [*WHOLE[:after], *sse(("error", error)), *WHOLE[after:]])
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert caught.value.provider == "anthropic"


@pytest.mark.parametrize("data", ['{"type":', "[", "no json", "{'a': 1}", "[" * 100_000])
def test_an_event_that_is_no_json_is_an_error(data: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read(MessageReader(), sse(start(), ("content_block_delta", data), STOP))
    assert caught.value.code == "protocol"
    assert len(str(caught.value)) < 500


def test_what_comes_after_the_end_is_passed_over() -> None:
    data = [*WHOLE, *sse(delta("more"), ("error", {"type": "error"}), STOP)]
    assert read(MessageReader(), data)[0] == "Hello, world"


def test_a_second_answer_within_the_first_one_is_an_error() -> None:
    """Something in between has asked again in the middle: together they are no answer."""
    data = [*sse(start(), block(), delta("Hel")), *WHOLE]
    with pytest.raises(ProviderError, match="another answer") as caught:
        read(MessageReader(), data)
    assert caught.value.code == "protocol"
    assert read(MessageReader(), [*sse(start(), PING), *WHOLE])[0] == "Hello, world"


def test_text_of_a_block_behind_a_later_one_is_an_error() -> None:
    data = sse(start(), delta("One", 0), delta(" two", 1), delta("?", 0), end(), STOP)
    with pytest.raises(ProviderError, match="text of block 0 behind block 1") as caught:
        read(MessageReader(), data)
    assert caught.value.code == "protocol"


def test_tokens_are_told_as_soon_as_they_are_counted() -> None:
    """A turn may be stopped at any moment."""
    events = SSEParser().feed(b"".join(answer("x")))
    reader = MessageReader()
    told = [each for event in events for each in reader.feed(event)]
    assert told[0] == Usage(input_tokens=135, output_tokens=1)
    assert [type(each) for each in told] == [Usage, str, Usage, Completed]


def test_a_flood_of_details_does_not_cost_the_answer() -> None:
    """What is kept with an answer is bounded, and its counts stay."""
    names = [f"{number:x>100}" for number in range(40)]
    flood = {name: dict.fromkeys(names, "e" * 200) for name in names}
    ends = [end(**{f"more{number}{each}": "é" * 200 for each in range(50)}) for number in range(20)]
    details = ("message_delta", {"type": "message_delta", "delta": {"stop_details": flood}})
    told = start(usage={**USAGE, **flood})
    said, last = read(MessageReader(), sse(told, delta("x"), details, *ends, STOP))
    assert (said, last.input_tokens) == ("x", 135)
    encode_object(last.metadata, "metadata", max_bytes=40_000)


@given(st.lists(json_values, max_size=4), json_values, json_values)
def test_whatever_a_vendor_says_an_answer_can_be_stored(
    events: list[Any], message: Any, usage: Any
) -> None:
    told: list[tuple[str, Any]] = [
        ("", value)
        for value in events
        if not (isinstance(value, dict) and "type" in value) and not isinstance(value, str)
    ]
    data = sse(
        *told,
        ("", {"type": "message_start", "message": message}),
        ("", {"type": "message_start", "message": {"id": usage, "usage": usage}}),
        ("", {"type": "message_delta", "delta": message, "usage": usage}),
        delta("yes"),
        STOP,
    )
    said, last = read(MessageReader(), data)
    assert said == "yes"
    encode_object(last.metadata, "metadata", max_bytes=1_000_000)
    assert last.input_tokens >= 0
    assert 1 <= len(last.finish_reason.encode()) <= 200
