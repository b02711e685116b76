"""What retention does to a session: archive or delete it by a rule, and erase it for good.

Each command looks again when it is its turn in the mailbox: a session that was used since it was
listed, or that has made way for another one of the same id, is left alone.

To erase is to hide first (status deleted), then to clear a long history slice by slice, so that
no commit holds up the others, and last to delete what is left. A kill in between leaves a deleted
session, which is erased when it is asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .decisions import ChangeStatus, OwnDecision, change_status, next_record
from .model import Purge, SessionStatus, SessionWrite, changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import SessionRecord, StoredSession

SLICE_MESSAGES = 100
"""How many messages one commit deletes at most."""

_NOTICES = {
    SessionStatus.ARCHIVED: "session_archived",
    SessionStatus.DELETED: "session_deleted",
}


@attrs.frozen(kw_only=True)
class RetentionRule:
    """Which sessions are to be archived or deleted: those that one of the conditions names."""

    of: SessionStatus
    """Only sessions of this status."""
    becomes: SessionStatus
    idle_before_us: int | None = None
    """The last commit was before this."""
    now_us: int | None = None
    """Or it was longer ago than the session's own `auto_archive_seconds`, at this time."""
    most_messages: int | None = None
    """Or it has more visible messages."""

    def applies(self, record: SessionRecord) -> bool:
        """Whether it is due, as it is now."""
        if record.status is not self.of:
            return False
        if self.idle_before_us is not None and record.updated_us < self.idle_before_us:
            return True
        own_us = record.auto_archive_seconds * 1_000_000
        if self.now_us is not None and own_us and record.updated_us < self.now_us - own_us:
            return True
        return self.most_messages is not None and record.visible_messages > self.most_messages


@attrs.frozen(kw_only=True)
class RetireSession(OwnDecision):
    """Archive or delete it, if the rule still applies."""

    key: int
    rule: RetentionRule

    @property
    def notice(self) -> str:
        """As if its user had done it."""
        return _NOTICES[self.rule.becomes]

    def decide(self, state: StoredSession, now_us: int) -> SessionWrite | None:
        """None: it was used since, or is another one."""
        if state.record.key != self.key or not self.rule.applies(state.record):
            return None
        return change_status(state, ChangeStatus(status=self.rule.becomes), now_us)


@attrs.frozen(kw_only=True)
class HideSession(OwnDecision):
    """The first step of an erasure that does not wait until its user has deleted it."""

    passes_quarantine = True
    key: int

    @property
    def notice(self) -> str:
        """As if its user had done it."""
        return "session_deleted"

    def decide(self, state: StoredSession, now_us: int) -> SessionWrite | None:
        """None: it is another one."""
        if state.record.key != self.key:
            return None
        return change_status(state, ChangeStatus(status=SessionStatus.DELETED), now_us)


@attrs.frozen(kw_only=True)
class ClearSlice(OwnDecision):
    """Delete a deleted session's messages up to this one."""

    passes_quarantine = True
    key: int
    through_seq: int

    def decide(self, state: StoredSession, now_us: int) -> SessionWrite | None:
        """It is no activity: the time since when it is deleted stays."""
        del now_us
        if not _is_to_go(state.record, self.key):
            return None
        record = next_record(state, state.record.updated_us, visible_messages=0)
        return SessionWrite(
            expected_revision=state.record.revision,
            after=changed(state, record=record),
            clear_through_seq=self.through_seq,
        )


@attrs.frozen(kw_only=True)
class EraseSession(OwnDecision):
    """Delete all that is left of a deleted session, and queue its conversation at the provider."""

    passes_quarantine = True
    key: int
    keeps: bool
    """The provider keeps conversations, as far as is known."""

    def decide(self, state: StoredSession, now_us: int) -> SessionWrite | None:
        """None: it is not deleted, or another one."""
        record = state.record
        if not _is_to_go(record, self.key):
            return None
        name = record.provider_session_id if self.keeps else None
        after = next_record(state, record.updated_us, visible_messages=0, provider_session_id=None)
        return SessionWrite(
            expected_revision=record.revision,
            after=changed(state, record=after),
            clear_through_seq=record.last_seq,
            purges=() if name is None else (_purge(record.provider, name, now_us),),
            erases=True,
        )


def _is_to_go(record: SessionRecord, key: int) -> bool:
    return record.key == key and record.status is SessionStatus.DELETED


def _purge(provider: str, name: str, now_us: int) -> Purge:
    return Purge(provider=provider, provider_session_id=name, queued_us=now_us, due_us=now_us)


def steps_of_erasure(record: SessionRecord, *, keeps: bool) -> Iterator[OwnDecision]:
    """The commands that erase a deleted session, one after the other, each once it is committed."""
    for through_seq in range(SLICE_MESSAGES, record.last_seq, SLICE_MESSAGES):
        yield ClearSlice(key=record.key, through_seq=through_seq)
    yield EraseSession(key=record.key, keeps=keeps)
