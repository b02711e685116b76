"""When the words of messages are indexed: in slices, with the commits that arrive in between.

Before a search, all that is pending then, so that it finds what was committed before. Without a
search, when much is pending: then slowly while there are commits, so that these lose little, and
without a pause while there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from ....actors.errors import StorageError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from .search import SearchIndex
    from .writer import Writer

    Change = Callable[[Callable[[sqlite3.Connection], int]], Awaitable[tuple[int, float]]]

logger = logging.getLogger("langswarm.core.session")

SLICE_SECONDS = 0.02
"""Before a search; a commit that arrives meanwhile waits as long."""
QUIET_SECONDS = 0.005
"""Without a search."""
PAUSE_SECONDS = 0.2
"""Between two slices while there are commits."""
RETRY_SECONDS = 60.0
"""After an error."""
FIRST_PAGES = 16
MOST_PAGES = 1024
"""Of a step that writes parts of the index together."""


class Indexing:
    """Of one open database; every method runs on the storage's own event loop."""

    def __init__(self, writer: Writer, change: Change, hurry: asyncio.Event) -> None:
        self._writer = writer
        self._index: SearchIndex = writer.index
        self._change = change
        self._hurry = hurry
        self._one_at_a_time = asyncio.Lock()
        self._is_running = False
        self._not_before = 0.0

    def is_due(self) -> bool:
        """Whether `run` should be started."""
        return (
            (self._index.is_due or self._index.is_damaged)
            and not self._is_running
            and not self._hurry.is_set()
            and asyncio.get_running_loop().time() >= self._not_before
        )

    async def catch_up(self) -> None:
        """Index all that is pending now. Raises StorageError."""
        async with self._one_at_a_time:
            await self._mend()
            keys = await self._pending()
            while keys and not self._hurry.is_set():
                await self._index_some(keys, SLICE_SECONDS)

    async def run(self) -> None:
        """The same at leisure; never raises."""
        self._is_running = True
        try:
            async with self._one_at_a_time:
                await self._mend()
                keys = await self._pending()
            batches = self._writer.batches
            while keys and not self._hurry.is_set():
                if self._writer.batches != batches:
                    batches = self._writer.batches
                    await self._pause()
                async with self._one_at_a_time:
                    await self._index_some(keys, QUIET_SECONDS)
        except StorageError as error:
            if error.code != "closed":
                logger.exception("messages could not be indexed; a search tries it again")
            self._not_before = asyncio.get_running_loop().time() + RETRY_SECONDS
        finally:
            self._is_running = False

    async def merge(self) -> None:
        """Write the parts of the index together, so that nothing is left of what was deleted."""
        pages = FIRST_PAGES
        written, seconds = await self._change(partial(self._index.merge_some, -pages))
        while written and not self._hurry.is_set():
            pages = min(MOST_PAGES, max(1, int(pages * QUIET_SECONDS / max(seconds, 1e-6))))
            written, seconds = await self._change(partial(self._index.merge_some, pages))

    # ------------------------------------------------------------ inside

    async def _pending(self) -> list[int]:
        keys: list[int] = []

        def read(connection: sqlite3.Connection) -> int:
            keys.extend(self._index.pending(connection))
            return len(keys)

        await self._change(read)
        return keys

    async def _index_some(self, keys: list[int], seconds: float) -> None:
        try:
            await self._change(partial(self._index.index_some, keys, seconds))
        except StorageError as error:
            key = self._index.reading
            if error.code != "corrupt" or key is None:
                raise
            logger.exception("the messages of session %s are damaged and not indexed", key)
            self._index.skip(key)
            keys[:] = await self._pending()

    async def _mend(self) -> None:
        if self._index.is_damaged:
            await self._change(self._index.mend)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._hurry.wait()
