"""What an answer looks like when all goes well."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session.actors.limits import Limits
from langswarm.core.session.actors.ports import ConversationStarted, TextDelta
from langswarm.core.session.actors.values import check_text, encode_object
from langswarm.core.session.errors import InvalidMessageError
from langswarm.core.session.testing.expectations import expect, expect_equal, present
from langswarm.core.session.testing.provider_contract import promises
from langswarm.core.session.testing.provider_contract.case import Part
from langswarm.core.session.testing.provider_contract.turns import (
    PIECES,
    a_question,
    answered,
    assistant,
    request_of,
    user,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import PromptMessage
    from langswarm.core.session.actors.ports import ProviderRequest
    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

part = Part()

_MAX_TOKENS = 2**53
_TURNS = 20
_TRICKY = (
    "\N{OWL} \N{FAMILY}\u200d\N{OWL}",
    " e\u0301 \N{LATIN SMALL LETTER E WITH ACUTE} ",
    'quotes " \\ and {"json": [1]}\n',
    "\r\n\r\ndata: [DONE]\n\n",
    "line\u2028and\u2029paragraph\u0085",
    "\t \x7f\N{GREEK SMALL LETTER ALPHA}\N{HEBREW LETTER ALEF}\ufeff.",
)


@part.case(promises.DELTA)
async def the_text_arrives_in_order(harness: ProviderHarness) -> None:
    question = a_question()
    pieces = [f"{number}, " for number in range(100)]
    harness.answer(question, pieces)
    heard = await answered(harness, question)
    expect_equal("the text", heard.text, "".join(pieces))
    for event in heard.events[:-1]:
        if isinstance(event, TextDelta):
            expect("TextDelta.text is a str", isinstance(event.text, str), event.text)  # pyright: ignore[reportUnnecessaryIsInstance]


@part.case(promises.DELTA)
async def every_character_arrives_as_it_was_said(harness: ProviderHarness) -> None:
    question = a_question('\N{OWL} "quotes" and\nlines')
    harness.answer(question, _TRICKY)
    heard = await answered(harness, question)
    expect_equal("the text", heard.text, "".join(_TRICKY))


@part.case(promises.DELTA)
async def a_long_answer_arrives_whole(harness: ProviderHarness) -> None:
    question = a_question()
    pieces = [f"{number} {'x' * 500}\n" for number in range(200)]
    harness.answer(question, pieces)
    heard = await answered(harness, question)
    expect_equal("characters of the text", len(heard.text), sum(map(len, pieces)))
    expect("its pieces are in order", heard.text == "".join(pieces), heard.text)


@part.case(promises.ANSWER)
async def completed_is_the_last_event_and_comes_once(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    heard = await answered(harness, question)
    kinds = [type(event).__name__ for event in heard.events]
    expect_equal("how often Completed comes", kinds.count("Completed"), 1)
    known = {"ConversationStarted", "TextDelta", "Usage", "Completed"}
    expect("events of the port alone", known.issuperset(kinds), heard.events)


@part.case(promises.ANSWER)
async def the_whole_window_is_taken(harness: ProviderHarness) -> None:
    before: list[PromptMessage] = []
    for number in range(20):
        before += [user(f"question {number}"), assistant(f"answer {number}")]
    question = a_question()
    harness.answer(question, PIECES)
    heard = await answered(harness, request_of(harness, question, before=before))
    expect_equal("the text", heard.text, "".join(PIECES))


@part.case(promises.ANSWER)
async def two_user_messages_side_by_side_are_taken(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    before = [user("One that was stopped before its answer.")]
    heard = await answered(harness, request_of(harness, question, before=before))
    expect_equal("the text", heard.text, "".join(PIECES))


@part.case(promises.BOUNDS)
async def counts_and_ids_are_within_their_bounds(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    last = present("Completed", (await answered(harness, question)).completed)
    for name in ("input_tokens", "output_tokens"):
        tokens = getattr(last, name)
        holds = type(tokens) is int and 0 <= tokens < _MAX_TOKENS
        expect(f"{name} is an int from 0 to 2^53", holds, tokens)
    _expect_text("finish_reason", last.finish_reason, 200)
    for name in ("provider_message_id", "provider_session_id"):
        if getattr(last, name) is not None:
            _expect_text(name, getattr(last, name), 1_000)
    try:
        encode_object(last.metadata, "metadata", max_bytes=Limits().max_metadata_bytes)
    except InvalidMessageError as error:
        expect("metadata is a JSON object within max_metadata_bytes", False, str(error))  # noqa: FBT003


def _expect_text(name: str, text: object, max_bytes: int) -> None:
    try:
        check_text(text, name, max_bytes=max_bytes)
    except InvalidMessageError:
        expect(f"{name} is a text of 1 to {max_bytes} bytes", False, text)  # noqa: FBT003


@part.case(promises.MANY_AT_ONCE)
async def many_turns_at_once_do_not_mix(harness: ProviderHarness) -> None:
    questions = [a_question(f"number {number}") for number in range(_TURNS)]
    said = {
        question: [f"<{number}", f".{number}" * 20, f"{number}>"]
        for number, question in enumerate(questions)
    }
    for question, pieces in said.items():
        harness.answer(question, pieces)
    found: dict[str, str] = {}

    async def turn(question: str) -> None:
        found[question] = (await answered(harness, question)).text

    async with anyio.create_task_group() as group:
        for question in questions:
            group.start_soon(turn, question)
    for question, pieces in said.items():
        expect_equal(f"the answer to {question!r}", found[question], "".join(pieces))


@part.case(promises.REQUESTS)
async def a_request_is_left_as_it_is(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    request = request_of(harness, question, before=[user("Hello"), assistant("Hello to you")])
    messages = request.messages
    before = copy.deepcopy(attrs.asdict(request))
    await answered(harness, request)
    expect_equal("the request after the turn", attrs.asdict(request), before)
    expect("its messages are the same objects", request.messages is messages, request.messages)


@part.case(promises.REQUESTS)
async def a_request_is_not_kept(harness: ProviderHarness) -> None:
    left = await _asked(harness)
    gc.collect()
    request = left()
    expect("nobody holds the request when the turn is over", request is None, request)


async def _asked(harness: ProviderHarness) -> weakref.ref[ProviderRequest]:
    question = a_question()
    harness.answer(question, PIECES)
    request = request_of(harness, question)
    await answered(harness, request)
    return weakref.ref(request)


@part.case(promises.ANSWER)
async def nothing_about_a_conversation_comes_after_text(harness: ProviderHarness) -> None:
    question = a_question()
    harness.answer(question, PIECES)
    events = (await answered(harness, question)).events
    first = next((n for n, event in enumerate(events) if isinstance(event, TextDelta)), 0)
    late = [event for event in events[first:] if isinstance(event, ConversationStarted)]
    expect_equal("ConversationStarted after the first text", late, [])
