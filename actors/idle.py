"""The idle sessions in the order in which they became idle: an intrusive linked list.

One list is both the idle clock (its head is the next to expire, since all wait equally long) and
the order of leaving when places are short (its head is the least recently used). Touching is O(1)
and costs two pointers in the actor; there are no timers and no buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session_actor import SessionActor


class IdleList:
    """Idle actors, oldest first."""

    __slots__ = ("_newest", "count", "oldest")

    def __init__(self) -> None:
        self.oldest: SessionActor | None = None
        self._newest: SessionActor | None = None
        self.count = 0

    def append(self, actor: SessionActor, now: float) -> None:
        """It became idle now."""
        actor.idle_since = now
        actor.older, actor.newer = self._newest, None
        if self._newest is None:
            self.oldest = actor
        else:
            self._newest.newer = actor
        self._newest = actor
        self.count += 1

    def remove(self, actor: SessionActor) -> None:
        """It is idle no longer; nothing happens if it was not."""
        if actor.idle_since < 0:
            return
        older, newer = actor.older, actor.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self._newest = older
        else:
            newer.older = older
        actor.older = actor.newer = None
        actor.idle_since = -1.0
        self.count -= 1
