"""Calls that leave something behind at the vendor, whoever stops waiting for them.

A conversation that is made while its turn is stopped would stay at the vendor for ever: nobody
knows its id, and there is no list. So the call gets a moment to end, and what it made is deleted.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import attrs

from ....actors.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SECONDS = 3.0
"""For the call to end and for its undoing together, once nobody waits any more."""


@attrs.define
class _Call:
    is_wanted: bool = True
    made: str | None = None
    error: ProviderError | None = None


async def make(create: Callable[[], Awaitable[str]], undo: Callable[[str], Awaitable[None]]) -> str:
    """The id of what `create` made. Cancelled in the meantime, `undo` it within 3 s, if it can be.

    Raises what `create` raises, which must be ProviderError.
    """
    call = _Call()
    shielded = anyio.CancelScope(shield=True)
    ended = anyio.Event()

    async def run() -> None:
        try:
            with shielded:
                call.made = await create()
                if not call.is_wanted:
                    await undo(call.made)
        except ProviderError as error:
            call.error = error
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            await ended.wait()
        except BaseException:
            call.is_wanted = False
            shielded.deadline = anyio.current_time() + SECONDS
            if call.made is not None and ended.is_set():
                # It came at the same moment as the cancellation, which goes before its own errors.
                with anyio.move_on_after(SECONDS, shield=True), suppress(ProviderError):
                    await undo(call.made)
            raise
    if call.made is None:
        raise call.error or RuntimeError("nothing was made")
    return call.made
