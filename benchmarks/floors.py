"""The floor of everything that goes to another task and comes back: one bare round trip.

A client hands a request to a task that is parked and waits; that task wakes, answers, and the
client wakes. Two wake-ups, nothing else: no queue, no exception handling, no cancellation. On
asyncio each is a Future that the other task sets; on trio wait_task_rescheduled and reschedule.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from figures import cpu_us

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

    Ask = Callable[[], Awaitable[None]]


async def round_trip_us(backend: str, clients: int, asks: int) -> float:
    """CPU microseconds of one round trip, `clients` of them at once, `asks` each."""
    make: Callable[[], Pair] = AsyncioPair if backend == "asyncio" else TrioPair
    spent = 0.0
    async with anyio.create_task_group() as servers:
        pairs = [make() for _ in range(clients)]
        for pair in pairs:
            servers.start_soon(pair.serve)
        await anyio.wait_all_tasks_blocked()

        async def client(ask: Ask) -> None:
            for _ in range(asks):
                await ask()

        async def everyone() -> None:
            if clients == 1:
                await client(pairs[0].ask)
                return
            async with anyio.create_task_group() as group:
                for pair in pairs:
                    group.start_soon(client, pair.ask)

        spent = await cpu_us(everyone, clients * asks)
        servers.cancel_scope.cancel()
    return spent


class AsyncioPair:
    """A parked task and the way to ask it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[asyncio.Future[None]] = self._loop.create_future()

    async def serve(self) -> NoReturn:
        while True:
            answer = await self._asked
            self._asked = self._loop.create_future()
            answer.set_result(None)

    async def ask(self) -> None:
        answer: asyncio.Future[None] = self._loop.create_future()
        self._asked.set_result(answer)
        await answer


class TrioPair:
    """A parked task and the way to ask it."""

    def __init__(self) -> None:
        import trio  # noqa: PLC0415 - only where it runs

        self._low = trio.lowlevel
        self._server: trio.lowlevel.Task | None = None
        self._client: trio.lowlevel.Task | None = None

    async def serve(self) -> NoReturn:
        self._server = self._low.current_task()
        while True:
            await self._low.wait_task_rescheduled(self._abort)
            assert self._client is not None
            self._low.reschedule(self._client)

    async def ask(self) -> None:
        self._client = self._low.current_task()
        assert self._server is not None
        self._low.reschedule(self._server)
        await self._low.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> Any:
        return self._low.Abort.SUCCEEDED


Pair = AsyncioPair | TrioPair
