"""Turns that nobody wants any more: closed early, cancelled, overtaken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from langswarm.core.session.actors.errors import ProviderError
from langswarm.core.session.actors.ports import TextDelta
from langswarm.core.session.testing.expectations import expect
from langswarm.core.session.testing.provider_contract import promises, turns
from langswarm.core.session.testing.provider_contract.cancelling import cancelled_at
from langswarm.core.session.testing.provider_contract.case import Part
from langswarm.core.session.testing.provider_contract.turns import (
    PIECES,
    Heard,
    a_question,
    listen,
    released,
    request_of,
    still_answers,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

part = Part()

_POINTS = 100
_AT_ONCE = 10
_UNDER_WAY_SECONDS = 0.05
"""Enough for a request to a local vendor; if it is not, it is cancelled a little earlier."""


@part.case(promises.CLOSED_ALWAYS)
async def closing_in_the_middle_of_an_answer_releases_everything(
    harness: ProviderHarness,
) -> None:
    for events in range(4):
        question = a_question()
        harness.answer(question, [f"{number} " for number in range(50)])
        await _close_after(harness, question, events)
        await released(harness, f"when the generator was closed after {events} events")
        await still_answers(harness, f"after one that was closed after {events} events")


@part.case(promises.BOUNDED, needs=("answer", "stall", "streams"))
async def closing_while_the_vendor_is_silent_releases_everything(
    harness: ProviderHarness,
) -> None:
    question = a_question()
    harness.stall(question, PIECES)
    await _close_after(harness, question, None)
    await released(harness, "when the generator was closed")
    await still_answers(harness, "after one that was closed in a silence")


async def _close_after(harness: ProviderHarness, question: str, events: int | None) -> None:
    """Close after so many events; None: after the first text."""
    stream: Any = harness.provider.stream(request_of(harness, question))
    number = 0
    # One scope: a provider may hold one of its own from one event to the next.
    with anyio.move_on_after(turns.TURN_SECONDS) as scope:
        while events is None or number < events:
            event = await anext(stream, None)
            number += 1
            if event is None or (events is None and isinstance(event, TextDelta)):
                break
        since = anyio.current_time()
        scope.deadline = since + turns.RELEASE_SECONDS
        await stream.aclose()
        _expect_moments("closing the generator", anyio.current_time() - since)
    expect("text arrives, and closing takes moments", not scope.cancelled_caught, "neither")


def _expect_moments(what: str, seconds: float) -> None:
    limit = turns.RELEASE_SECONDS
    expect(f"{what} takes at most {limit} s", seconds <= limit, f"{seconds:.1f} s")


@part.case(promises.BOUNDED, needs=("answer", "stall"))
async def a_turn_is_cancelled_while_the_vendor_is_silent(harness: ProviderHarness) -> None:
    for pieces in ((), PIECES) if harness.streams else ((),):
        await _cancel_in_silence(harness, pieces)
        await released(harness, "when the turn was cancelled")
        await still_answers(harness, "after one that was cancelled in a silence")


async def _cancel_in_silence(harness: ProviderHarness, pieces: Sequence[str]) -> None:
    question = a_question()
    harness.stall(question, pieces)
    request = request_of(harness, question)
    heard = Heard()
    ended = anyio.Event()

    async def turn() -> None:
        with scope:
            await _listen_through_silence(harness, request, heard)
        ended.set()

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(turn)
        await _under_way(heard, text=bool(pieces))
        scope.cancel()
        with anyio.move_on_after(turns.RELEASE_SECONDS) as obeying:
            await ended.wait()
        late = obeying.cancelled_caught
        expect("a cancellation is obeyed", not late, f"not within {turns.RELEASE_SECONDS} s")
    cancelled = scope.cancelled_caught or heard.error is not None
    expect("a cancellation passes", cancelled, heard.events)


async def _under_way(heard: Heard, *, text: bool) -> None:
    if text:
        await until(lambda: bool(heard.text), turns.TURN_SECONDS)
    else:
        await anyio.sleep(_UNDER_WAY_SECONDS)


@part.case(promises.USABLE)
async def a_turn_that_is_cancelled_at_any_point_spoils_nothing(harness: ProviderHarness) -> None:
    for point in range(1, _POINTS + 1):
        question = a_question()
        harness.answer(question, PIECES)
        reached = False
        with anyio.move_on_after(turns.TURN_SECONDS) as scope:
            call = listen(harness, request_of(harness, question), Heard())
            reached = await cancelled_at(point, call)
        late = scope.cancelled_caught
        expect(f"a turn that is cancelled at its suspension {point} ends", not late, "it does not")
        await released(harness, f"after a cancellation at suspension {point}")
        await still_answers(harness, f"after a cancellation at suspension {point}")
        if not reached:
            return


@part.case(promises.USABLE)
async def many_turns_that_are_cancelled_at_once_spoil_nothing(harness: ProviderHarness) -> None:
    for point in (1, 2, 3, 5, 8, 13):
        async with anyio.create_task_group() as group:
            for _ in range(_AT_ONCE):
                question = a_question()
                harness.answer(question, PIECES)
                call = listen(harness, request_of(harness, question), Heard())
                group.start_soon(cancelled_at, point, call)
    await released(harness, "after many cancellations")
    await still_answers(harness, "after many cancellations")


@part.case(promises.NOT_HELD_UP, needs=("answer", "stall"))
async def a_turn_that_waits_does_not_hold_up_another(harness: ProviderHarness) -> None:
    question = a_question()
    harness.stall(question, PIECES)
    request = request_of(harness, question)
    heard = Heard()
    async with anyio.create_task_group() as group:
        group.start_soon(_listen_through_silence, harness, request, heard)
        await _under_way(heard, text=harness.streams)
        await still_answers(harness, "while another turn waits")
        expect("it is answered before the other one ends", heard.error is None, heard.error)
        group.cancel_scope.cancel()


async def _listen_through_silence(harness: ProviderHarness, request: Any, heard: Heard) -> None:
    """The provider may see the silence itself: that is another case."""
    try:
        await listen(harness, request, heard)
    except ProviderError as error:
        heard.error = error
