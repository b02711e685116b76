"""Whatever goes wrong, and wherever: no conversation at the vendor holds a question twice."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, nullcontext
from random import Random
from typing import TYPE_CHECKING

import attrs
import pytest
from langswarm.core.session import ProviderError, Session, create_session_manager

from ...vendors import faults
from ...vendors.conversations import stored_items

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from langswarm.core.session.adapters.http.service import HttpCall
    from langswarm.core.session.adapters.http.stream import HttpStream
    from langswarm.core.session.adapters.providers.openai import OpenAIProvider

    from ...vendors import VendorServer
    from ...vendors.faults import Fault
    from .helpers import Connect

RESPONSES = "/v1/responses"
POINTS = (None, *range(12))
"""Before the headers, after them, after each of the events of an answer and after all of them."""
OOPS = {"type": "error", "code": "server_error", "message": "Oops"}


class NoPauses(Random):
    def uniform(self, a: float, b: float) -> float:
        del b
        return a


def breaking(break_: Callable[..., Fault]) -> list[Fault]:
    """At each point, of an answer that is not made, and of one that is."""
    found = [break_(events=events) for events in POINTS]
    return [*found, *(attrs.evolve(fault, processed=True) for fault in found)]


FAULTS: dict[str, list[Fault]] = {
    "reset": breaking(faults.reset),
    "drop": breaking(faults.drop),
    "truncate": [faults.truncate(events=events) for events in range(12)],
    "stall": breaking(faults.stall)[::3],
    "statuses": [faults.status(code) for code in (500, 502, 503, 504, 408, 409, 429, 529)],
    "html": [faults.html(code) for code in (200, 502)],
    "garbage": [
        fault(events=events)
        for events in range(1, 10)
        for fault in (faults.malformed_chunk, faults.bad_utf8, faults.duplicate)
    ],
    "errors": [faults.in_stream_error(OOPS, events=events) for events in range(1, 10)],
}


def provider_of(connect: Connect, library: str) -> OpenAIProvider:
    provider = connect(http_library=library, max_retries=2, breaker_failures=0)
    provider._http._rng = NoPauses()
    return provider


@contextmanager
def impatient(provider: OpenAIProvider, vendor: VendorServer) -> Generator[None]:
    """Where the vendor will stall, and there alone: on a busy machine others are as slow."""
    service = provider._http
    patient, begin = service.options, service.begin

    async def begin_impatiently(call: HttpCall, *, streamed: bool) -> HttpStream:
        stalls = streamed and vendor.faults_left
        service.options = attrs.evolve(patient, stall_timeout=0.05) if stalls else patient
        return await begin(call, streamed=streamed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "begin", begin_impatiently)
        yield
    service.options = patient


async def check(vendor: VendorServer, session: Session, what: object) -> None:
    """Each question once in each conversation; the session's own one holds what is shown."""
    asked = Counter(
        (seen.body["conversation"], seen.body["input"][0]["content"])
        for seen in vendor.seen(RESPONSES, "POST")
        if seen.status not in {409, 429, 529}  # these were not processed, surely
    )
    assert max(asked.values()) == 1, f"{asked} after {what}"
    state = vendor.state.conversations
    name = session.provider_session_id
    items = state.by_id[str(name)].items
    said = [m.content for m in await session.get_messages() if m.finish_reason != "failed"]
    assert [item["content"][0]["text"] for item in items] == said, what
    await vendor.until(lambda: set(state.by_id) == {name})


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("resumed", [False, True])
async def test_a_question_is_in_no_conversation_twice(
    vendor: VendorServer, connect: Connect, kind: str, resumed: bool
) -> None:
    """Each fault at each point, whether the vendor goes on with what was broken off or not."""
    number = 0
    given_up: list[ProviderError] = []
    for fault in FAULTS[kind]:
        for vendor.finishes_aborted in (False, True):
            library = ("httpx", "httpx2")[number % 2]
            number += 1
            provider = provider_of(connect, library)
            async with create_session_manager(providers={"openai": provider}) as manager:
                session = await manager.create_session("ada", "openai", "gpt-5")
                if resumed:
                    await session.send_message("Hello")
                vendor.script(fault, path=RESPONSES)
                with impatient(provider, vendor) if kind == "stall" else nullcontext():
                    try:
                        answer = await session.send_message("Again and again")
                        assert answer.content == "answer to: Again and again"
                    except ProviderError as error:
                        given_up.append(error)
                await session.send_message("Go on")
                await check(vendor, session, (fault, vendor.finishes_aborted))
            vendor.requests.clear()
            vendor.clear_scripts()
            vendor.state.conversations.by_id.clear()
    assert all(error.retryable for error in given_up), given_up


async def test_what_the_vendor_still_works_on_is_in_a_conversation_that_nobody_goes_on_with(
    vendor: VendorServer, connect: Connect
) -> None:
    """The connection was lost, nothing is there yet; the conversation is locked until it is."""
    state = vendor.state.conversations
    provider = provider_of(connect, "httpx")
    async with create_session_manager(providers={"openai": provider}) as manager:
        session = await manager.create_session("ada", "openai", "gpt-5")
        await session.send_message("Hello")
        old = str(session.provider_session_id)
        vendor.script(faults.reset(), path=RESPONSES)
        state.locked.add(old)
        said = [{"role": "user", "content": "Again"}, {"role": "assistant", "content": "late"}]
        answer = await session.send_message("Again")
        assert answer.content == "answer to: Again"
        assert session.provider_session_id != old
        if old in state.by_id:
            state.by_id[old].items += stored_items(vendor.state.ids, said)
        state.locked.discard(old)
        await check(vendor, session, "a locked conversation")
