"""Where the prompt windows of live sessions are: in a cache with a bound, or in the storage.

A window that was read is the same as one that grew message by message (G4), so it makes no
difference which of the two a session has.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import attrs

from .model import MessageQuery, Role
from .prompt import PromptWindow, is_shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .model import MessageRecord

    Read = Callable[[MessageQuery], Awaitable[Sequence[MessageRecord]]]

_PAGE_MESSAGES = 1000


class WindowCache:
    """Windows of live sessions within a byte budget over all; the least recently used goes first.

    Only the session's own actor puts and drops its window, so a cached window is never stale.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._windows: OrderedDict[str, tuple[PromptWindow, int]] = OrderedDict()
        # Invariant: the sum of the sizes beside the windows, at most the budget.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._windows)

    def get(self, session_id: str) -> PromptWindow | None:
        """The window, now the most recently used, or None: read the storage."""
        entry = self._windows.get(session_id)
        if entry is None:
            return None
        self._windows.move_to_end(session_id)
        return entry[0]

    def put(self, session_id: str, window: PromptWindow) -> None:
        """Keep the window (again, after it grew), if the budget allows."""
        self.drop(session_id)
        if window.bytes > self._budget:
            return  # it would drive out all others, and not stay either
        self._windows[session_id] = (window, window.bytes)
        self.bytes += window.bytes
        while self.bytes > self._budget:
            _, (_, size) = self._windows.popitem(last=False)
            self.bytes -= size

    def drop(self, session_id: str) -> None:
        """Forget the window, if there is one."""
        entry = self._windows.pop(session_id, None)
        if entry is not None:
            self.bytes -= entry[1]


async def read_window(
    read: Read, before_seq: int, max_messages: int, *, has_system: bool
) -> PromptWindow:
    """The window over the stored messages before `before_seq`. StorageError from the storage."""
    said = MessageQuery(before_seq=before_seq, for_prompt=True)
    records = await _read_shown(read, said, max_messages)
    if has_system:
        system = MessageQuery(before_seq=before_seq, role=Role.SYSTEM)
        records += await _read_shown(read, system, max_messages)
    return PromptWindow.of(records, max_messages)


async def _read_shown(read: Read, query: MessageQuery, wanted: int) -> list[MessageRecord]:
    """Page after page: a storage leaves out what is hidden or failed, but not what is blank."""
    page_size = min(wanted, _PAGE_MESSAGES)
    query = attrs.evolve(query, limit=page_size)
    newest_first: list[MessageRecord] = []
    while True:
        page = await read(query)
        newest_first.extend(filter(is_shown, reversed(page)))
        if len(newest_first) >= wanted or len(page) < page_size:
            return newest_first[::-1]
        query = attrs.evolve(query, before_seq=page[0].seq)
