"""Cancelling a call at each point where it gives way to the event loop."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


async def cancelled_at(point: int, call: Coroutine[Any, Any, object]) -> bool:
    """Run `call`, cancelled when it suspends for the `point`th time, counted from 1.

    Returns whether it came that far: False means that it ended by itself before.
    """
    reached = 0

    def suspends() -> None:
        nonlocal reached
        reached += 1
        if reached == point:
            scope.cancel()

    with anyio.CancelScope() as scope:
        await _watched(call, suspends)
    return reached >= point


@types.coroutine
def _watched(
    call: Coroutine[Any, Any, object], suspends: Callable[[], None]
) -> Generator[Any, Any, object]:
    """Await `call`; tell `suspends` just before each time that it gives way."""
    sent: Any = None
    thrown: BaseException | None = None
    while True:
        try:
            trap = call.send(sent) if thrown is None else call.throw(thrown)
        except StopIteration as stop:
            return stop.value
        suspends()
        thrown = None
        try:
            sent = yield trap
        except BaseException as error:  # noqa: BLE001 - goes on into the call
            thrown = error
