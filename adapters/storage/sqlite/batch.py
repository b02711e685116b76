"""The writes of a batch, taken apart into rows and sorted by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .rows import (
    Row,
    changing_row,
    claim_row,
    documents_row,
    fixed_row,
    message_row,
    purge_row,
    row_id,
    tag_row,
    turn_row,
    usage_counts,
)
from .schema import SEQ_MAX
from .sealing import NO_KEYS
from .statements import (
    ADD_USAGE_OF_DAYS,
    ADD_USAGE_OF_USERS,
    CLEAR_MESSAGES,
    CLEAR_TAGS,
    ERASE_CLAIMS,
    ERASE_DOCUMENTS,
    ERASE_PENDING,
    ERASE_SESSIONS,
    ERASE_TURNS,
    HIDE_MESSAGES,
    INSERT_MESSAGES,
    INSERT_SESSIONS,
    INSERT_TAGS,
    INSERT_TURNS,
    MARK_MESSAGES,
    PUT_CLAIMS,
    PUT_DOCUMENTS,
    QUEUE_PURGES,
    UPDATE_SESSIONS,
    UPDATE_TURNS,
    run_rows,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from ....actors.model import MessageRecord, SessionWrite, UsageRecord
    from .sealing import Vault
    from .search import SearchIndex


class MisfitError(Exception):
    """A write does not fit what is stored."""


@attrs.define(eq=False)
class Batch:
    """A batch, sorted by kind of row."""

    index: SearchIndex
    vault: Vault = NO_KEYS
    new: list[Row] = attrs.field(factory=list[Row])
    changed: list[Row] = attrs.field(factory=list[Row])
    documents: list[Row] = attrs.field(factory=list[Row])
    cleared: list[Row] = attrs.field(factory=list[Row])
    hidden: list[Row] = attrs.field(factory=list[Row])
    pending: list[Row] = attrs.field(factory=list[Row])
    messages: list[Row] = attrs.field(factory=list[Row])
    marks: list[Row] = attrs.field(factory=list[Row])
    opened: list[Row] = attrs.field(factory=list[Row])
    closed: list[Row] = attrs.field(factory=list[Row])
    claims: list[Row] = attrs.field(factory=list[Row])
    purges: list[Row] = attrs.field(factory=list[Row])
    untagged: list[Row] = attrs.field(factory=list[Row])
    tags: list[Row] = attrs.field(factory=list[Row])
    usage: list[UsageRecord] = attrs.field(factory=list["UsageRecord"])
    erased: list[tuple[int, str]] = attrs.field(factory=list[tuple[int, str]])

    def add(self, write: SessionWrite, key: int) -> None:
        """Take one write apart."""
        after = write.after
        record = after.record
        expected = write.expected_revision
        if expected:
            fence = (key, expected, record.epoch)
            self.changed.append(fence + changing_row(record))
        else:
            self.new.append(fixed_row(key, record) + changing_row(record))
        if write.documents_changed or not expected:
            self._add_documents(write, key)
        if write.clear_through_seq or write.hides or write.marks:
            self._change_stored(write, key)
        if write.messages:
            self._add_messages(write.messages, key)
        if write.turn is not None:
            row = self.vault.turn(turn_row(key, write.turn))
            (self.opened if write.opens_turn else self.closed).append(row)
        if write.claim is not None:
            self.claims.append(self.vault.claim(claim_row(write.claim)))
        if write.purges:
            self.purges.extend(map(purge_row, write.purges))
        if write.usage is not None:
            self.usage.append(write.usage)
        if write.tags is not None or write.past_turns or write.erases:
            self._add_rare(write, key)

    def _add_messages(self, messages: Sequence[MessageRecord], key: int) -> None:
        if not self.index.is_known(key):
            self.pending.append((key, messages[0].seq))
        for message in messages:
            self.messages.append(self.vault.message(message_row(key, message)))

    def _add_documents(self, write: SessionWrite, key: int) -> None:
        record = write.after.record
        row = documents_row(write.after.documents, record.revision)
        row = self.vault.documents(row, key, record.session_id, record.user_id)
        self.documents.append((key, *row))

    def _change_stored(self, write: SessionWrite, key: int) -> None:
        if write.clear_through_seq:
            last = min(write.clear_through_seq, SEQ_MAX)  # behind it are rows of other sessions
            self.cleared.append((row_id(key, 0), row_id(key, last)))
        for seq, finish_reason in dict(write.marks).items():
            self.marks.append((row_id(key, seq), finish_reason))
        for first_seq, last_seq, by in write.hides:
            first, last = max(first_seq, 1), min(last_seq, SEQ_MAX)
            if first <= last:  # beyond them are the rows of other sessions
                self.hidden.append((row_id(key, first), row_id(key, last), by))

    def _add_rare(self, write: SessionWrite, key: int) -> None:
        if write.tags is not None:
            self.untagged.append((key,))
            self.tags.extend(tag_row(key, self.vault.tag(tag)) for tag in write.tags)
        for turn in write.past_turns:
            self.opened.append(self.vault.turn(turn_row(key, turn)))
        if write.erases:
            self.erased.append((key, write.after.record.session_id))

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it all; the fence first, so that a stale writer changes nothing else."""
        run_rows(connection, INSERT_SESSIONS, self.new)
        if run_rows(connection, UPDATE_SESSIONS, self.changed) != len(self.changed):
            raise MisfitError("another revision or epoch is stored")
        run_rows(connection, PUT_DOCUMENTS, self.documents)
        if self.cleared:
            self._clear(self.cleared, connection)
        run_rows(connection, HIDE_MESSAGES, self.hidden)
        run_rows(connection, INSERT_MESSAGES, self.messages)
        if self.pending:
            self.index.put(self.pending, connection)
        run_rows(connection, MARK_MESSAGES, self.marks)
        run_rows(connection, INSERT_TURNS, self.opened)
        if run_rows(connection, UPDATE_TURNS, self.closed) != len(self.closed):
            raise MisfitError("the turn is not stored")
        run_rows(connection, PUT_CLAIMS, self.claims)
        run_rows(connection, QUEUE_PURGES, self.purges)
        run_rows(connection, CLEAR_TAGS, self.untagged)
        run_rows(connection, INSERT_TAGS, self.tags)
        if self.usage:
            self._add_usage(connection)
        if self.erased:
            self._erase(connection)

    def committed(self) -> None:
        """All of it is."""
        self.index.committed(self.pending, len(self.messages), [key for key, _ in self.erased])

    def _add_usage(self, connection: sqlite3.Connection) -> None:
        users: dict[Row, list[Row]] = {}
        days: dict[Row, list[Row]] = {}
        for usage in self.usage:
            counts = usage_counts(usage)
            day, provider, model = usage.day, usage.provider, usage.model
            users.setdefault((day, usage.user_id, provider, model), []).append(counts)
            days.setdefault((day, provider, model), []).append(counts)
        run_rows(connection, ADD_USAGE_OF_USERS, _summed(users))
        run_rows(connection, ADD_USAGE_OF_DAYS, _summed(days))

    def _clear(self, ranges: list[Row], connection: sqlite3.Connection) -> None:
        self.index.take_out(ranges, connection)
        run_rows(connection, CLEAR_MESSAGES, ranges)

    def _erase(self, connection: sqlite3.Connection) -> None:
        keys = [(key,) for key, _ in self.erased]
        ranges: list[Row] = [(row_id(key, 0), row_id(key, SEQ_MAX)) for key, _ in self.erased]
        self._clear(ranges, connection)
        run_rows(connection, ERASE_PENDING, keys)
        run_rows(connection, ERASE_TURNS, ranges)
        run_rows(connection, CLEAR_TAGS, keys)
        run_rows(connection, ERASE_DOCUMENTS, keys)
        run_rows(connection, ERASE_SESSIONS, keys)
        run_rows(connection, ERASE_CLAIMS, [(session_id,) for _, session_id in self.erased])


def _summed(groups: dict[Row, list[Row]]) -> list[Row]:
    return [
        (*name, *(rows[0] if len(rows) == 1 else map(sum, zip(*rows, strict=True))))
        for name, rows in groups.items()
    ]
