"""CPU of commands that need no provider, beside a bare round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import attrs
from figures import Figure, Scale, alternate, beside, cpu_us
from floors import round_trip_us
from langswarm.core.session import create_session_manager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from langswarm.core.session import Session

    Asks = Callable[[Session, int], Coroutine[Any, Any, None]]


@attrs.frozen
class Sizes:
    """How much is asked."""

    sequential: int
    sessions: int
    each: int
    repetitions: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(sequential=2_000, sessions=100, each=50, repetitions=7),
    "quick": Sizes(sequential=500, sessions=100, each=10, repetitions=3),
    "tiny": Sizes(sequential=5, sessions=3, each=2, repetitions=1),
}


def figures(scale: Scale, backend: str) -> list[Figure]:
    return anyio.run(_figures, SIZES[scale], backend, backend=backend)


async def _figures(sizes: Sizes, backend: str) -> list[Figure]:
    return [
        await _measured("update_context", _update, sizes, backend, clients=1),
        await _measured("update_context", _update, sizes, backend, clients=sizes.sessions),
        await _measured("ask without a write", _reopen, sizes, backend, clients=1),
    ]


async def _measured(name: str, asks: Asks, sizes: Sizes, backend: str, *, clients: int) -> Figure:
    each = sizes.sequential if clients == 1 else sizes.each
    async with create_session_manager() as manager:
        sessions = [await manager.create_session("user", "mock", "m") for _ in range(clients)]

        async def everyone() -> None:
            if clients == 1:
                await asks(sessions[0], each)
                return
            async with anyio.create_task_group() as group:
                for session in sessions:
                    group.start_soon(asks, session, each)

        async def sample() -> float:
            return await cpu_us(everyone, clients * each)

        await sample()  # warm
        pairs = await alternate(
            sample, lambda: round_trip_us(backend, clients, each), sizes.repetitions
        )
    who = "1 session" if clients == 1 else f"{clients} sessions at once"
    return beside(f"{name}, {who}", "us CPU", pairs)


async def _update(session: Session, count: int) -> None:
    for number in range(count):
        await session.update_context({"step": number})


async def _reopen(session: Session, count: int) -> None:
    """It is open already: the answer comes from the actor, nothing is stored."""
    for _ in range(count):
        await session.reopen()
