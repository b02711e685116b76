"""Sessions in memory: for development and tests. They live as long as this object does."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from ...actors.errors import StorageError
from ...actors.model import Committed, Conflict, Role, SessionPage, SessionStatus
from ...actors.ports import ISessionStorage, StorageHealth
from .usage_table import UsageTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...actors.model import (
        Claim,
        MessageQuery,
        MessageRecord,
        Purge,
        SessionQuery,
        SessionRecord,
        SessionWrite,
        StoredSession,
        TurnRecord,
        UsageQuery,
        UsageReport,
    )
    from ...actors.ports import WriteOutcome

EXAMINED_PER_LISTED = 10
"""How many sessions are looked at for each one that a page may hold."""

_by_seq = attrgetter("seq")
_by_key = attrgetter("key")
_by_due = attrgetter("due_us")


@attrs.define(eq=False)
class _Entry:
    """All that is kept of one session."""

    key: int
    stored: StoredSession
    # Invariant: ascending by seq; gaps are possible (imports), so positions come from bisection.
    messages: list[MessageRecord] = attrs.field(factory=list["MessageRecord"])
    turns: dict[int, TurnRecord] = attrs.field(factory=dict[int, "TurnRecord"])
    tags: frozenset[str] = frozenset()

    def position(self, seq: int) -> int:
        """Where the message `seq` is, or would be."""
        return bisect_left(self.messages, seq, key=_by_seq)


@attrs.frozen(kw_only=True)
class MemoryStatistics:
    """A snapshot of an `InMemorySessionStorage`."""

    is_open: bool
    sessions: int
    batches: int
    """Calls of commit()."""
    writes: int
    """Writes that were committed."""
    refused: int
    """Writes that ended as a conflict or an error."""


class InMemorySessionStorage(ISessionStorage):
    """Keeps sessions in this object; `close()` and `open()` keep them, the process's end does not.

    The same checks and answers as SQLite, without a copy: records are immutable and shared.
    """

    def __init__(self) -> None:
        self._open = False
        self._entries: dict[int, _Entry] = {}
        self._by_id: dict[str, _Entry] = {}
        # Invariant: ascending by key, the list of all as well as that of each user.
        self._all: list[_Entry] = []
        self._by_user: dict[str, list[_Entry]] = {}
        self._usage = UsageTable()
        self._claims: dict[tuple[str, str, str], Claim] = {}
        self._purges: dict[tuple[str, str], Purge] = {}  # in the order in which they were queued
        self._last_key = 0
        self._batches = 0
        self._writes = 0
        self._refused = 0

    def statistics(self) -> MemoryStatistics:
        """What has happened so far."""
        return MemoryStatistics(
            is_open=self._open,
            sessions=len(self._entries),
            batches=self._batches,
            writes=self._writes,
            refused=self._refused,
        )

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        self._check_open()
        outcomes = [self._commit_one(write) for write in writes]
        self._batches += 1
        return outcomes

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        self._check_open()
        entries = map(self._by_id.get, session_ids)
        return [None if entry is None else entry.stored for entry in entries]

    async def read_back(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        return await self.load(session_ids)  # a commit is decided within its call

    async def load_unfinished(self, limit: int) -> Sequence[StoredSession]:
        self._check_open()
        found: list[StoredSession] = []
        for entry in self._entries.values():
            if len(found) >= limit:
                break
            if entry.stored.record.open_turn_no:
                found.append(entry.stored)
        return found

    async def read_messages(self, key: int, query: MessageQuery) -> Sequence[MessageRecord]:
        self._check_open()
        entry = self._entries.get(key)
        limit = query.limit
        if entry is None or (limit is not None and limit <= 0):
            return []
        newest_first: list[MessageRecord] = []
        for message in _newest_first(entry, query):
            if _matches(message, query):
                newest_first.append(message)
                if len(newest_first) == limit:
                    break
        newest_first.reverse()
        return newest_first

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        self._check_open()
        entries = self._all if query.user_id is None else self._by_user.get(query.user_id, [])
        end = len(entries)
        if query.before_key is not None:
            end = bisect_left(entries, query.before_key, key=_by_key)
        limit = max(query.limit, 0)
        first = max(0, end - limit * EXAMINED_PER_LISTED)
        rare = _rare_conditions(query)
        found: list[_Entry] = []
        for position in range(end - 1, first - 1, -1):
            if len(found) == limit:
                first = position + 1
                break
            entry = entries[position]
            if _is_listed(entry.stored.record, query) and rare(entry):
                found.append(entries[position])
        more = limit > 0 and first > 0
        return SessionPage(
            records=tuple(entry.stored.record for entry in found),
            next_key=entries[first].key if more else None,
        )

    async def read_usage(self, query: UsageQuery) -> UsageReport:
        self._check_open()
        return self._usage.report(query)

    async def erase_user(self, user_id: str) -> None:
        self._check_open()
        self._usage.erase_user(user_id)
        from ...actors.idempotency import user_scope  # noqa: PLC0415 - not for every program

        scope = user_scope(user_id)
        for name in [name for name in self._claims if name[0] == scope]:
            del self._claims[name]

    async def read_turn(self, key: int, turn_no: int) -> TurnRecord | None:
        self._check_open()
        entry = self._entries.get(key)
        return None if entry is None else entry.turns.get(turn_no)

    async def find_claim(self, scope: str, method: str, key: str) -> Claim | None:
        self._check_open()
        return self._claims.get((scope, method, key))

    async def sweep_claims(self, before_us: int, limit: int) -> int:
        self._check_open()
        old = [name for name, claim in self._claims.items() if claim.created_us < before_us]
        swept = old[: max(limit, 0)]
        for name in swept:
            del self._claims[name]
        return len(swept)

    async def load_purges(self, now_us: int, limit: int) -> Sequence[Purge]:
        self._check_open()
        due = [purge for purge in self._purges.values() if purge.due_us <= now_us]
        due.sort(key=_by_due)
        return due[: max(limit, 0)]

    async def settle_purge(self, purge: Purge, *, retry_us: int | None, error: str | None) -> None:
        self._check_open()
        name = (purge.provider, purge.provider_session_id)
        stored = self._purges.get(name)
        if stored is None:
            return
        if retry_us is None:
            del self._purges[name]
        else:
            self._purges[name] = attrs.evolve(
                stored, attempts=stored.attempts + 1, due_us=retry_us, last_error=error
            )

    def health(self) -> StorageHealth:
        return StorageHealth(is_open=self._open, facts={"sessions": len(self._entries)})

    # ------------------------------------------------------------ one write

    def _commit_one(self, write: SessionWrite) -> WriteOutcome:
        """Check everything, then change everything: nothing in between can fail."""
        entry = self._by_id.get(write.after.record.session_id)
        refusal = _refusal(entry, write)
        if refusal is not None:
            self._refused += 1
            return refusal
        if entry is None:
            entry = self._create(write)
        elif write.documents_changed or write.after.documents is entry.stored.documents:
            entry.stored = write.after
        else:
            entry.stored = attrs.evolve(write.after, documents=entry.stored.documents)
        _change_messages(entry, write)
        for turn in write.past_turns:
            entry.turns[turn.turn_no] = turn
        if write.turn is not None:
            entry.turns[write.turn.turn_no] = write.turn
        if write.tags is not None:
            entry.tags = frozenset(write.tags)
        self._change_tables(write)
        if write.erases:
            self._erase(entry)
        self._writes += 1
        return Committed(entry.key)

    def _change_tables(self, write: SessionWrite) -> None:
        claim = write.claim
        if claim is not None:
            self._claims[claim.scope, claim.method, claim.key] = claim
        for purge in write.purges:
            self._purges.setdefault((purge.provider, purge.provider_session_id), purge)
        if write.usage is not None:
            self._usage.add(write.usage)

    def _create(self, write: SessionWrite) -> _Entry:
        self._last_key = key = self._last_key + 1
        record = attrs.evolve(write.after.record, key=key)
        entry = _Entry(key, attrs.evolve(write.after, record=record))
        self._entries[key] = entry
        self._by_id[record.session_id] = entry
        self._all.append(entry)
        self._by_user.setdefault(record.user_id, []).append(entry)
        return entry

    def _erase(self, entry: _Entry) -> None:
        record = entry.stored.record
        del self._entries[entry.key], self._by_id[record.session_id]
        of_user = self._by_user[record.user_id]
        for entries in (self._all, of_user):
            del entries[bisect_left(entries, entry.key, key=_by_key)]
        if not of_user:
            del self._by_user[record.user_id]
        for name in [name for name in self._claims if name[0] == record.session_id]:
            del self._claims[name]

    def _check_open(self) -> None:
        if not self._open:
            raise StorageError("the storage is not open: call open() first", code="closed")


def _refusal(entry: _Entry | None, write: SessionWrite) -> Conflict | StorageError | None:
    if entry is None:
        if write.expected_revision:
            return Conflict(0, 0)
        last_seq, turns = 0, {}
    else:
        stored = entry.stored.record
        after = write.after.record
        if not write.expected_revision or (stored.revision, stored.epoch, stored.key) != (
            write.expected_revision,
            after.epoch,
            after.key,
        ):
            return Conflict(stored.revision, stored.epoch)
        last_seq = entry.messages[-1].seq if entry.messages else 0
        turns = entry.turns
    for message in write.messages:
        if message.seq <= last_seq:
            return _invalid(write, f"message {message.seq} is stored already")
        last_seq = message.seq
    if write.past_turns:
        turns = dict(turns)
    for past in write.past_turns:
        if past.turn_no in turns:
            return _invalid(write, f"turn {past.turn_no} is stored already")
        turns[past.turn_no] = past
    turn = write.turn
    if turn is not None and write.opens_turn == (turn.turn_no in turns):
        state = "stored already" if write.opens_turn else "not stored"
        return _invalid(write, f"turn {turn.turn_no} is {state}")
    return None


def _invalid(write: SessionWrite, reason: str) -> StorageError:
    session_id = write.after.record.session_id
    return StorageError(
        f"the write to session {session_id!r} does not fit what is stored: {reason}; "
        "nothing of it was written",
        code="invalid",
    )


def _change_messages(entry: _Entry, write: SessionWrite) -> None:
    if write.clear_through_seq:
        del entry.messages[: entry.position(write.clear_through_seq + 1)]
    for hide in write.hides:
        _hide(entry, *hide)
    entry.messages.extend(write.messages)
    for seq, finish_reason in write.marks:
        _mark(entry, seq, finish_reason)


def _hide(entry: _Entry, first_seq: int, last_seq: int, by: int) -> None:
    for position in range(entry.position(first_seq), entry.position(last_seq + 1)):
        message = entry.messages[position]
        if not message.hidden_by:
            entry.messages[position] = attrs.evolve(message, hidden_by=by)


def _mark(entry: _Entry, seq: int, finish_reason: str) -> None:
    position = entry.position(seq)
    if position < len(entry.messages) and entry.messages[position].seq == seq:
        message = entry.messages[position]
        entry.messages[position] = attrs.evolve(message, finish_reason=finish_reason)


def _newest_first(entry: _Entry, query: MessageQuery) -> Iterator[MessageRecord]:
    messages = entry.messages
    start, end = 0, len(messages)
    if query.after_seq:
        start = entry.position(query.after_seq + 1)
    if query.before_seq is not None:
        end = entry.position(query.before_seq)
    for position in range(end - 1, start - 1, -1):
        yield messages[position]


def _matches(message: MessageRecord, query: MessageQuery) -> bool:
    return (
        (query.include_hidden or not message.hidden_by)
        and (query.role is None or message.role is query.role)
        and (query.since_us is None or message.created_us >= query.since_us)
        and (query.until_us is None or message.created_us < query.until_us)
        and (query.message_id is None or message.message_id == query.message_id)
        and (query.turn_no is None or message.turn_no == query.turn_no)
        and (not query.metadata or _has_metadata(message, query))
        and not (query.for_prompt and _is_kept_from_prompts(message))
    )


def _has_metadata(message: MessageRecord, query: MessageQuery) -> bool:
    from .json_match import object_has_all  # noqa: PLC0415 - json: not for every program

    return object_has_all(message.metadata, query.metadata)


def _is_kept_from_prompts(message: MessageRecord) -> bool:
    return message.role is Role.SYSTEM or message.finish_reason == "failed"


def _is_listed(record: SessionRecord, query: SessionQuery) -> bool:
    if query.status is None:
        if record.status is SessionStatus.DELETED:
            return False
    elif record.status is not query.status:
        return False
    return (
        (query.provider is None or record.provider == query.provider)
        and (query.model is None or record.model == query.model)
        and (query.active_since_us is None or record.updated_us >= query.active_since_us)
        and (query.idle_since_us is None or record.updated_us < query.idle_since_us)
    )


def _rare_conditions(query: SessionQuery) -> Callable[[_Entry], bool]:
    """Those that look beyond the record; what they need is loaded by who asks for them."""
    if not query.tags and not query.metadata and query.text is None:
        return lambda _: True
    from ...actors.words import words_of  # noqa: PLC0415
    from .json_match import config_has_all  # noqa: PLC0415

    words = frozenset(words_of(query.text or ""))

    def says(entry: _Entry) -> bool:
        return bool(words) and any(
            not message.hidden_by and words.issubset(words_of(message.content))
            for message in entry.messages
        )

    def holds(entry: _Entry) -> bool:
        return (
            entry.tags.issuperset(query.tags)
            and config_has_all(entry.stored.documents.config, query.metadata)
            and (query.text is None or says(entry))
        )

    return holds
