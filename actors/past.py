"""Sessions that are created with a past: imported ones. They keep their times and their numbers."""

from __future__ import annotations

import attrs

from .decisions import OwnDecision, check_writable, next_record
from .model import (
    EMPTY_JSON,
    Counters,
    MessageRecord,
    Role,
    SessionStatus,
    SessionWrite,
    StoredSession,
    TurnRecord,
    changed,
)
from .usage import usage_of_creation


@attrs.frozen(kw_only=True)
class Past:
    """What a session has been before it was created here, beside its messages."""

    created_us: int
    updated_us: int
    status: SessionStatus = SessionStatus.ACTIVE
    last_seq: int = 0
    """At least that of its last message; the next one gets one more."""
    last_turn_no: int = 0
    turns: tuple[TurnRecord, ...] = ()
    """Those that have ended and may still be asked for: the last one, to be run again."""
    counters: Counters = attrs.field(factory=Counters)
    latencies: str = ""
    provider_settings: str = EMPTY_JSON
    context_version: int = 0

    def applied(self, write: SessionWrite, now_us: int) -> SessionWrite:
        """The write that creates it, with all of this; it counts as a session of today."""
        after = write.after
        record = changed(
            after.record,
            created_us=self.created_us,
            updated_us=self.updated_us,
            status=self.status,
            last_seq=self.last_seq,
            last_turn_no=self.last_turn_no,
            visible_messages=sum(not message.hidden_by for message in write.messages),
            dirty=self.last_seq > 0,
            latencies=self.latencies,
            counters=self.counters,
        )
        documents = changed(
            after.documents,
            provider_settings=self.provider_settings,
            context_version=self.context_version,
        )
        return changed(
            write,
            after=changed(after, record=record, documents=documents),
            past_turns=self.turns,
            usage=usage_of_creation(changed(record, updated_us=now_us)),
        )


@attrs.frozen(kw_only=True)
class AppendPast(OwnDecision):
    """Add messages that were written elsewhere, behind those that were imported before, at once.

    Nothing is done to a session that has gone on since.
    """

    after_seq: int
    """The last message that the session must have."""
    messages: tuple[MessageRecord, ...]
    """`seq` from there on, without gaps."""

    def decide(self, state: StoredSession, now_us: int) -> SessionWrite | None:
        """The write; None: the session has gone on."""
        check_writable(state)
        record = state.record
        if record.last_seq != self.after_seq or not self.messages:
            return None
        counters, roles = record.counters, [message.role for message in self.messages]
        after = next_record(
            state,
            now_us,
            last_seq=self.messages[-1].seq,
            visible_messages=record.visible_messages + len(roles),
            dirty=True,
            counters=changed(
                counters,
                user_messages=counters.user_messages + roles.count(Role.USER),
                assistant_messages=counters.assistant_messages + roles.count(Role.ASSISTANT),
                system_messages=counters.system_messages + roles.count(Role.SYSTEM),
            ),
        )
        return SessionWrite(
            expected_revision=record.revision,
            after=changed(state, record=after),
            messages=self.messages,
        )
