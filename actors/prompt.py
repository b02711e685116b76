"""The window: what of a history is sent to a provider. Pure values and a bounded cache of them.

System messages stay, failed turns are left out, an interrupted answer is kept as the user saw it,
and the window never begins in the middle of a pair. `max_messages` bounds the system messages and
the others, each by itself, newest first; the history itself is never trimmed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from .model import MessageRecord, PromptMessage, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

# The objects around a text, measured once; only has to be right within a factor of two.
_MESSAGE_OVERHEAD_BYTES = 160


class PromptWindow:
    """The latest messages of one session that a provider may see."""

    __slots__ = ("bytes", "recent", "system")

    def __init__(self) -> None:
        self.system: deque[PromptMessage] = deque()
        self.recent: deque[PromptMessage] = deque()
        self.bytes = 0

    @classmethod
    def of(cls, records: Iterable[MessageRecord], max_messages: int) -> PromptWindow:
        """The window over records; each kind in `seq` order."""
        window = cls()
        for record in records:
            window.append(record, max_messages)
        return window

    def append(self, record: MessageRecord, max_messages: int) -> None:
        """One more message; the oldest of its kind fall out of the window."""
        if record.hidden_by or record.finish_reason == "failed":
            return
        message = PromptMessage(role=record.role, content=record.content)
        self.bytes += _size(message)
        if message.role is Role.SYSTEM:
            self.system.append(message)
            if len(self.system) > max_messages:
                self.bytes -= _size(self.system.popleft())
            return
        self.recent.append(message)
        while len(self.recent) > max_messages or (
            self.recent and self.recent[0].role is not Role.USER
        ):
            self.bytes -= _size(self.recent.popleft())

    def with_user_message(self, content: str, max_messages: int) -> tuple[PromptMessage, ...]:
        """The whole prompt: system, what fits of the history, the new user message last."""
        question = PromptMessage(role=Role.USER, content=content)
        if len(self.recent) < max_messages:
            return (*self.system, *self.recent, question)
        recent = list(self.recent)
        start = max(0, len(recent) + 1 - max_messages)
        while start < len(recent) and recent[start].role is not Role.USER:
            start += 1
        return (*self.system, *recent[start:], question)


def _size(message: PromptMessage) -> int:
    return len(message.content) + _MESSAGE_OVERHEAD_BYTES


class WindowCache:
    """Windows of live sessions within a byte budget over all; the least recently used goes first.

    Only the session's own actor puts and drops its window, so a cached window is never stale.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._windows: OrderedDict[str, tuple[PromptWindow, int]] = OrderedDict()
        # Invariant: the sum of the sizes beside the windows.
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
        before = self._windows.get(session_id)
        self._windows[session_id] = (window, window.bytes)
        if before is None:
            self.bytes += window.bytes
        else:
            self.bytes += window.bytes - before[1]
            self._windows.move_to_end(session_id)
        while self.bytes > self._budget:
            _, (_, size) = self._windows.popitem(last=False)
            self.bytes -= size

    def drop(self, session_id: str) -> None:
        """Forget the window, if there is one."""
        entry = self._windows.pop(session_id, None)
        if entry is not None:
            self.bytes -= entry[1]
