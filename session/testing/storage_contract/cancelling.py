"""Callers that go away, in every way that their event loop has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    Call = Callable[[], Coroutine[Any, Any, object]]
    Cancelled = Callable[[int, Call], Awaitable[None]]


def ways_to_cancel() -> tuple[Cancelled, ...]:
    """By a cancel scope; on asyncio also by `task.cancel()`, which passes anyio's shields.

    Each takes a number of steps of the event loop, and a call that is cancelled after them.
    """
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return (_by_scope, _by_task)
    return (_by_scope,)


async def _by_scope(steps: int, call: Call) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await _wait(steps)
        group.cancel_scope.cancel()


async def _by_task(steps: int, call: Call) -> None:
    """As `asyncio.wait_for` and the end of `asyncio.run` do it: once."""
    task = asyncio.create_task(call())
    await _wait(steps)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _wait(steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
