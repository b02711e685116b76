"""Reading Chat Completions streams of many servers: lenient in form, strict about the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.actors.errors import ProviderError
from langswarm.core.session.actors.ports import Completed, Usage
from langswarm.core.session.actors.values import encode_object
from langswarm.core.session.adapters.http.sse import SSEParser
from langswarm.core.session.adapters.providers.openai_chat.stream import ChatReader

from ..streams import cut, json_values, places, read, sse, texts

DONE = ("", "[DONE]")
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def chunk(
    content: Any = None, finish: str | None = None, *, choice: Any = None, **fields: Any
) -> tuple[str, dict[str, Any]]:
    delta = {} if content is None else {"content": content}
    made: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
    data: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [made | (choice or {})],
    }
    return "", data | fields


ROLE = chunk("", choice={"delta": {"role": "assistant", "content": ""}})
COUNTED: tuple[str, Any] = (
    "",
    {"id": "chatcmpl-1", "model": "served", "choices": [], "usage": USAGE},
)

EMPTY: dict[str, Any] = {}
END: tuple[str, Any] = ("", {"choices": [{"delta": EMPTY, "finish_reason": "stop"}]})


def answer(*pieces: str) -> list[bytes]:
    """As OpenAI sends it."""
    return sse(ROLE, *map(chunk, pieces), chunk(finish="stop"), COUNTED, DONE)


# ---------------------------------------------------------------- what an answer is


def test_an_answer_has_its_text_its_counts_and_what_the_server_said_of_it() -> None:
    said, last = read(ChatReader(), answer("Hello", ", ", "world"))
    assert said == "Hello, world"
    assert last == Completed(
        finish_reason="stop",
        input_tokens=9,
        output_tokens=12,
        provider_message_id="chatcmpl-1",
        metadata={
            "finish_reason": "stop",
            "model": "served",
            "response_id": "chatcmpl-1",
            "usage": USAGE,
        },
    )


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "content_filter"),
        ("something_new", "something_new"),
    ],
)
def test_each_finish_reason_has_one_name(reason: str, finish_reason: str) -> None:
    _, last = read(ChatReader(), sse(chunk("x"), chunk(finish=reason), DONE))
    assert last.finish_reason == finish_reason
    assert last.metadata["finish_reason"] == reason


DIALECTS = {
    "comments between the events": sse(
        ": keepalive\n\n",
        chunk("Hello"),
        ": OPENROUTER PROCESSING\n\n",
        chunk(" you"),
        chunk(finish="stop"),
        DONE,
    ),
    "no [DONE]": sse(chunk("Hello"), chunk(" you"), chunk(finish="stop")),
    "no finish_reason but [DONE]": sse(chunk("Hello"), chunk(" you"), DONE),
    "text with the finish_reason": sse(chunk("Hello"), chunk(" you", "stop"), DONE),
    "usage with the finish_reason": sse(chunk("Hello you", "stop", usage=USAGE)),
    "usage null until the end": sse(
        chunk("Hello", usage=None), chunk(" you", usage=None), chunk(finish="stop"), COUNTED, DONE
    ),
    "empty ids": sse(
        chunk("Hello", id=""), chunk(" you", id=""), chunk(finish="stop", id=""), DONE
    ),
    "no ids and no models": sse(
        ("", {"choices": [{"delta": {"content": "Hello you"}}]}),
        END,
    ),
    "null contents": sse(
        chunk(choice={"delta": {"role": "assistant", "content": None}}),
        chunk("Hello"),
        chunk(choice={"delta": {"content": None}}),
        chunk(" you"),
        chunk(choice={"delta": None, "finish_reason": "stop"}),
        DONE,
    ),
    "reasoning": sse(
        chunk(choice={"delta": {"reasoning_content": "hm", "content": None}}),
        chunk(choice={"delta": {"reasoning": "hm", "reasoning_details": [{"text": "no"}]}}),
        chunk("Hello you"),
        chunk(finish="stop"),
        DONE,
    ),
    "empty choices in front": sse(
        ("", {"choices": [], "prompt_filter_results": [{"index": 0}]}),
        chunk("Hello you"),
        chunk(finish="stop"),
        DONE,
    ),
    "parts in place of texts": sse(
        chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}]),
        chunk([{"type": "text", "text": "Hello"}, {"type": "text", "text": " you"}], "stop"),
        DONE,
    ),
    "the whole message in the end": sse(
        chunk("Hello"),
        chunk(" you"),
        chunk(choice={"message": {"content": "Hello you"}, "finish_reason": "stop"}),
        DONE,
    ),
    "the whole message alone": sse(
        ("", {"choices": [{"message": {"content": "Hello you"}, "finish_reason": "stop"}]}), DONE
    ),
    "other choices": sse(
        chunk("Hello"), chunk("no", choice={"index": 1}), chunk(" you"), chunk(finish="stop"), DONE
    ),
    "spaces around [DONE]": sse(chunk("Hello you"), "data:  [DONE] \n\n"),
    "CR LF and several events at once": [
        b"".join(sse(chunk("Hello"), chunk(" you"), chunk(finish="stop"), DONE)).replace(
            b"\n", b"\r\n"
        )
    ],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same(dialect: str) -> None:
    said, last = read(ChatReader(), DIALECTS[dialect])
    assert said == "Hello you"
    assert last.finish_reason == "stop"
    assert "usage" in dialect or last.input_tokens == last.output_tokens == 0
    if "id" in dialect:
        assert last.provider_message_id is None


def test_counts_are_taken_wherever_they_come() -> None:
    for dialect in ("usage with the finish_reason", "usage null until the end"):
        _, last = read(ChatReader(), DIALECTS[dialect])
        assert (last.input_tokens, last.output_tokens) == (9, 12)


def test_a_refusal_is_shown_and_told() -> None:
    refused = [chunk(choice={"delta": {"refusal": text}}) for text in ("I", " won't")]
    said, last = read(ChatReader(), sse(ROLE, *refused, chunk(finish="stop"), DONE))
    assert (said, last.finish_reason) == ("I won't", "refusal")


def test_a_character_that_was_cut_in_two_arrives_whole() -> None:
    halves = [
        r'{"choices":[{"delta":{"content":"a\ud83d"}}]}',
        r'{"choices":[{"delta":{"content":"\ude00"}}]}',
    ]
    data = sse(*(("", half) for half in halves), chunk(finish="stop"), DONE)
    assert read(ChatReader(), data)[0] == "a😀"


@pytest.mark.parametrize("end", [[chunk(finish="stop")], [chunk(finish="stop"), DONE], [DONE]])
def test_half_a_character_at_the_end_is_replaced(end: list[Any]) -> None:
    lost = ("", r'{"choices":[{"delta":{"content":"a\ud83d"}}]}')
    assert read(ChatReader(), sse(lost, *end))[0] == "a\ufffd"


def test_a_server_that_does_not_stream_is_read_as_a_whole() -> None:
    body = {
        "id": "chatcmpl-1",
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "length",
            }
        ],
        "usage": USAGE,
    }
    said, last = read(ChatReader(), sse(("", body)))
    assert said == "Hello"
    assert (last.finish_reason, last.input_tokens, last.output_tokens) == ("length", 9, 12)


# ---------------------------------------------------------------- what is no answer


WHOLE = sse(ROLE, chunk("Hello"), chunk(", world"))


@pytest.mark.parametrize("events", range(len(WHOLE) + 1))
def test_neither_a_finish_reason_nor_done_is_an_error(events: int) -> None:
    with pytest.raises(ProviderError) as caught:
        read(ChatReader(), WHOLE[:events])
    assert (caught.value.code, caught.value.retryable) == ("truncated", True)


@given(places, st.integers(0, 10_000))
def test_bytes_that_end_early_are_never_a_short_answer(places: list[int], size: int) -> None:
    data = b"".join([*WHOLE, *sse(chunk(finish="stop"))])
    size %= len(data)
    with pytest.raises(ProviderError) as caught:
        read(ChatReader(), cut(data[:size], places))
    assert caught.value.code == "truncated"


@given(texts, places)
def test_an_answer_is_the_same_however_its_bytes_are_cut(
    pieces: list[str], places: list[int]
) -> None:
    data = b"".join(answer(*pieces))
    said, last = read(ChatReader(), cut(data, places))
    assert said == "".join(pieces)
    assert (said, last) == read(ChatReader(), [data])


@pytest.mark.parametrize("body", [{}, None, [], 5, {"choices": [{"message": {"content": "x"}}]}])
def test_a_document_without_an_end_is_no_answer(body: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        read(ChatReader(), sse(("", body)))
    assert caught.value.code == "truncated"


RATE_LIMITED = {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}
ERRORS: dict[str, tuple[tuple[str, Any], str]] = {
    "OpenAI's": (("", {"error": RATE_LIMITED}), "rate_limit"),
    "a named event": (("error", {"error": RATE_LIMITED}), "rate_limit"),
    "a named event with the fields themselves": (("error", RATE_LIMITED), "rate_limit"),
    "a named event with a text": (("error", "Slow down"), "overloaded"),
    "a number as code": (("", {"error": {"code": 429, "message": "Slow down"}}), "rate_limit"),
    "a number in quotes": (("", {"error": {"code": "429", "message": "Slow down"}}), "rate_limit"),
    "with the chunk's own fields": (
        ("", {"id": "g", "choices": [], "error": {"code": 502, "message": "Slow down"}}),
        "overloaded",
    ),
    "in a choice": (
        chunk("", "error", choice={"error": {"code": 401, "message": "Slow down"}}),
        "auth",
    ),
    "a text": (("", {"error": "Slow down"}), "overloaded"),
    "fields without the outer object": (
        ("", {"object": "error", "message": "Slow down", "type": "BadRequestError", "code": 400}),
        "invalid_request",
    ),
    "a list": (("", [{"error": {"code": 503, "message": "Slow down"}}]), "overloaded"),
    "a detail": (("", {"detail": "Slow down"}), "overloaded"),
    "too long": (
        ("", {"error": {"message": "Slow down: maximum context length is 5"}}),
        "context_length",
    ),
}


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("shape", ERRORS)
def test_an_error_in_the_stream_is_that_error(shape: str, after: int) -> None:
    event, code = ERRORS[shape]
    with pytest.raises(ProviderError, match="Slow down") as caught:
        read(ChatReader(), [*WHOLE[:after], *sse(event), *sse(chunk(finish="stop"), DONE)])
    assert caught.value.code == code
    assert caught.value.provider == "openai_chat"


@pytest.mark.parametrize("reason", ["error", "abort", "Error"])
def test_a_finish_reason_of_an_answer_that_was_given_up_is_an_error(reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read(ChatReader(), sse(chunk("Hello"), chunk(finish=reason), DONE))
    assert (caught.value.code, caught.value.retryable) == ("overloaded", True)


@pytest.mark.parametrize("reason", ["null", "None", ""])
def test_a_finish_reason_that_is_none_yet_does_not_end_an_answer(reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read(ChatReader(), sse(chunk("Hel", reason)))
    assert caught.value.code == "truncated"
    said, last = read(ChatReader(), sse(chunk("Hel", reason), chunk("lo", "stop")))
    assert (said, last.finish_reason) == ("Hello", "stop")


def test_lists_within_lists_are_no_error_and_no_answer() -> None:
    for depth in (1, 100, 900):
        with pytest.raises(ProviderError) as caught:
            read(ChatReader(), sse(("", "[" * depth + "]" * depth), ("error", "[" * depth)))
        assert caught.value.code in {"truncated", "overloaded", "protocol"}


def test_tokens_that_are_told_on_the_way_are_passed_on() -> None:
    """Some servers count in every chunk."""
    counts = [{"prompt_tokens": 9, "completion_tokens": number} for number in (1, 1, 2)]
    data = sse(*(chunk("x", usage=count) for count in counts), chunk(finish="stop"), DONE)
    reader = ChatReader()
    told = [each for event in SSEParser().feed(b"".join(data)) for each in reader.feed(event)]
    usages = [each for each in told if isinstance(each, Usage)]
    assert [each.output_tokens for each in usages] == [1, 2]


def test_a_flood_of_details_does_not_cost_the_answer() -> None:
    names = [f"{number:x>100}" for number in range(40)]
    flood = {name: dict.fromkeys(names, "e" * 200) for name in names}
    _, last = read(ChatReader(), sse(chunk("x", "stop", usage={**USAGE, **flood}), DONE))
    assert last.input_tokens == 9
    encode_object(last.metadata, "metadata", max_bytes=40_000)


@pytest.mark.parametrize("data", ['{"choices":', "[", "no json", "[DONE", "[" * 100_000])
def test_an_event_that_is_no_json_is_an_error(data: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read(ChatReader(), sse(chunk("Hello"), ("", data), DONE))
    assert caught.value.code == "protocol"


def test_what_comes_after_done_is_passed_over() -> None:
    assert read(ChatReader(), [*answer("Hello"), *sse(chunk("more"), DONE)])[0] == "Hello"


@given(st.lists(json_values, max_size=4), json_values)
def test_whatever_a_server_says_an_answer_can_be_stored(events: list[Any], value: Any) -> None:
    told = [("", each) for each in events if not isinstance(each, dict | list | str)]
    odd = ("", {"id": value, "model": value, "usage": value, "choices": [{"delta": value}]})
    said, last = read(ChatReader(), sse(*told, odd, chunk("yes"), chunk(finish="stop")))
    assert said.endswith("yes")
    encode_object(last.metadata, "metadata", max_bytes=1_000_000)
    assert last.input_tokens >= 0
