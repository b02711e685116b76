"""G13, G15: guests that ignore their cancellation, one after the other, leave nobody waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from langswarm.core.session import create_session_manager
from langswarm.core.session.errors import MiddlewareError, ProviderError
from langswarm.core.session.interfaces import ISessionMiddleware
from langswarm.core.session.providers import Completed, IProvider, TextDelta

from .helpers import PATIENCE_SECONDS, Echo, Store, new_session, on_a_virtual_clock, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langswarm.core.session import SessionMessage
    from langswarm.core.session.interfaces import SessionContext
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest


async def stubborn(released: anyio.Event) -> None:
    """Ignores every cancellation until it is released."""
    with anyio.CancelScope(shield=True):
        await released.wait()


class StubbornFilter(ISessionMiddleware):
    """Hangs on answers, whatever happens."""

    def __init__(self) -> None:
        self.released = anyio.Event()
        self.reached = anyio.Event()

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        del session_id, context
        if message.role == "assistant":
            self.reached.set()
            await stubborn(self.released)
        return message


class StubbornEnd(IProvider):
    """Answers, and then does not end."""

    def __init__(self) -> None:
        self.released = anyio.Event()

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        del request
        yield TextDelta("hi")
        yield Completed()
        await stubborn(self.released)


@on_a_virtual_clock
async def test_g15_two_stubborn_guests_of_one_turn_do_not_leave_its_caller_waiting() -> None:
    """G15: the provider is abandoned, then the middleware on what it had answered."""
    middleware, provider = StubbornFilter(), StubbornEnd()
    manager = create_session_manager(
        providers={"openai": provider},
        middleware=[middleware],
        cancel_grace_seconds=2,
        middleware_timeout_seconds=2,
        turn_timeout_seconds=5,
    )
    async with manager:
        session = await new_session(manager)
        assert isinstance(await outcome(session.submit("one")), MiddlewareError)
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.supervisor.abandoned_turns == 2
        provider.released.set()
        middleware.released.set()


async def test_g13_the_end_answers_the_caller_of_a_turn_whose_filter_is_stubborn(
    store: Store,
) -> None:
    """G13: also where the middleware would have had more time than the end gives."""
    middleware = StubbornFilter()
    manager = store.manager(
        Echo(), middleware=[middleware], cancel_grace_seconds=0.02, middleware_timeout_seconds=60
    )
    session = await new_session(manager)
    ticket = session.submit("one")
    await middleware.reached.wait()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: manager.aclose(drain_seconds=0))
        with anyio.fail_after(PATIENCE_SECONDS):
            assert isinstance(await outcome(ticket), MiddlewareError)
        middleware.released.set()


@on_a_virtual_clock
async def test_g15_the_time_of_one_turn_does_not_wait_for_that_of_another() -> None:
    """G15: a turn with more time on the watch does not hide one with less."""
    middleware = StubbornFilter()

    class Hanging(Echo):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            if request.messages[-1].content == "hang":
                await anyio.sleep_forever()
            async for event in super().stream(request):
                yield event

    manager = create_session_manager(
        providers={"openai": Hanging()},
        middleware=[middleware],
        cancel_grace_seconds=60,
        middleware_timeout_seconds=60,
        turn_timeout_seconds=5,
    )
    async with manager:
        first, second = await new_session(manager), await new_session(manager)
        ticket = first.submit("one")
        await middleware.reached.wait()
        assert isinstance(await outcome(second.submit("hang")), ProviderError)
        assert anyio.current_time() < 10
        middleware.released.set()
        await ticket


async def test_g15_a_hook_that_cannot_even_be_looked_at_leaves_no_session_stuck(
    store: Store,
) -> None:
    """G15: an attribute that raises is the hook's fault, and nobody else's."""

    class Broken:
        @property
        def on_session_error(self) -> object:
            raise RuntimeError("planted")

    provider = Echo()
    provider.failing.add("bad")
    async with store.manager(provider, hooks=[Broken()]) as manager:
        session = await new_session(manager)
        assert isinstance(await outcome(session.submit("bad")), ProviderError)
        with anyio.fail_after(PATIENCE_SECONDS):
            await session.send_message("good")
