"""Short ways to write sessions, messages and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.model import (
    Claim,
    MessageQuery,
    MessageRecord,
    Purge,
    Role,
    SessionDocuments,
    SessionQuery,
    SessionRecord,
    SessionWrite,
    StoredSession,
    TurnRecord,
    TurnState,
    UsageQuery,
    UsageRecord,
)
from langswarm.core.session.testing.storage_contract.case import (
    expect,
    expect_committed,
    expect_equal,
    present,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from langswarm.core.session.actors.ports import ISessionStorage

START_US = 1_700_000_000_000_000
ALL = MessageQuery(include_hidden=True)


def new(session_id: str, *, user_id: str = "ann", **changes: Any) -> SessionWrite:
    """The write that creates a session; `changes` are fields of its record."""
    record = SessionRecord(
        session_id=session_id,
        user_id=user_id,
        provider="mock",
        model="mock-model",
        created_us=START_US,
        updated_us=START_US,
        revision=1,
    )
    after = StoredSession(
        record=attrs.evolve(record, **changes), documents=SessionDocuments(config='{"a": 1}')
    )
    return SessionWrite(expected_revision=0, after=after, documents_changed=True)


def message(seq: int, content: str | None = None, **changes: Any) -> MessageRecord:
    """Message `seq`, from the user, created at second `seq`."""
    plain = MessageRecord(
        seq=seq,
        role=Role.USER,
        content=f"text {seq}" if content is None else content,
        created_us=START_US + seq * 1_000_000,
    )
    return attrs.evolve(plain, **changes)


def change(stored: StoredSession, *messages: MessageRecord, **changes: Any) -> SessionWrite:
    """The next write to a session: these messages, and other fields of SessionWrite."""
    record = attrs.evolve(
        stored.record,
        revision=stored.record.revision + 1,
        last_seq=max([stored.record.last_seq, *(message.seq for message in messages)]),
        **changes.pop("record", {}),
    )
    after = attrs.evolve(
        stored,
        record=record,
        documents=changes.pop("documents", stored.documents),
        open_turn=changes.pop("open_turn", None),
    )
    return SessionWrite(
        expected_revision=stored.record.revision, after=after, messages=messages, **changes
    )


def open_turn(stored: StoredSession, turn_no: int = 1, **changes: Any) -> SessionWrite:
    """The write that opens a turn with its user message."""
    seq = stored.record.last_seq + 1
    turn = TurnRecord(turn_no=turn_no, state=TurnState.OPEN, user_seq=seq, opened_us=START_US)
    turn = attrs.evolve(turn, **changes)
    return change(
        stored,
        message(seq, turn_no=turn_no),
        record={"last_turn_no": turn_no, "open_turn_no": turn_no},
        open_turn=turn,
        turn=turn,
        opens_turn=True,
    )


def close_turn(stored: StoredSession, **changes: Any) -> SessionWrite:
    """The write that closes the open turn with its answer."""
    seq = stored.record.last_seq + 1
    turn = attrs.evolve(
        present("a session with an open turn", stored.open_turn),
        **{"state": TurnState.COMPLETED, "closed_us": START_US + 5, **changes},
    )
    answer = message(seq, role=Role.ASSISTANT, finish_reason="stop", turn_no=turn.turn_no)
    return change(stored, answer, record={"open_turn_no": 0}, turn=turn)


def claim(key: str = "k", **changes: Any) -> Claim:
    """What was done to the session "s" under this key."""
    plain = Claim(
        scope="s",
        method="send_message",
        key=key,
        payload_hash=b"hash",
        created_us=START_US,
        session_id="s",
        result=1,
    )
    return attrs.evolve(plain, **changes)


def purge(name: str = "conv", **changes: Any) -> Purge:
    """A conversation to be deleted, due since it was queued."""
    plain = Purge(provider="mock", provider_session_id=name, queued_us=START_US, due_us=START_US)
    return attrs.evolve(plain, **changes)


def usage(**changes: Any) -> UsageRecord:
    """What one commit adds to the figures of day 100."""
    plain = UsageRecord(day=100, user_id="ann", provider="mock", model="mock-model")
    return attrs.evolve(plain, **changes)


async def commit(storage: ISessionStorage, write: SessionWrite) -> StoredSession:
    """Commit one write, which must succeed, and return the session as it now is."""
    outcomes = list(await storage.commit([write]))
    expect("one write has one outcome", len(outcomes) == 1, outcomes)
    key = expect_committed("a good write", outcomes[0]).key
    stored = await load_one(storage, write.after.record.session_id)
    expect_equal("the key of the stored record", stored.record.key, key)
    return stored


async def load_one(storage: ISessionStorage, session_id: str) -> StoredSession:
    """The session, which must be there."""
    found = list(await storage.load([session_id]))
    expect("loading one id has one answer", len(found) == 1, found)
    return present(f"the session {session_id!r} is stored", found[0])


async def create(storage: ISessionStorage, session_id: str = "s", **changes: Any) -> StoredSession:
    """A new session in the storage."""
    return await commit(storage, new(session_id, **changes))


async def say(
    storage: ISessionStorage, session_id: str, *texts: str, **changes: Any
) -> StoredSession:
    """A new session that has these messages; `changes` are fields of its record."""
    write = new(session_id, last_seq=len(texts), **changes)
    messages = tuple(message(seq, text) for seq, text in enumerate(texts, 1))
    return await commit(storage, attrs.evolve(write, messages=messages))


async def use(storage: ISessionStorage, session_id: str, *used: UsageRecord) -> StoredSession:
    """A new session, the writes of which have added this usage."""
    stored = await create(storage, session_id)
    for one in used:
        stored = await commit(storage, change(stored, usage=one))
    return stored


async def days_of(storage: ISessionStorage, **changes: Any) -> list[UsageRecord]:
    """The figures of days, of all of them unless the query says otherwise."""
    query = attrs.evolve(UsageQuery(first_day=-1000, last_day=100_000), **changes)
    return list((await storage.read_usage(query)).days)


async def contents(storage: ISessionStorage, key: int, query: MessageQuery = ALL) -> Sequence[str]:
    """The contents of a session's messages."""
    return [message.content for message in await storage.read_messages(key, query)]


def ids_of(records: Iterable[SessionRecord]) -> list[str]:
    """The ids of a page."""
    return [record.session_id for record in records]


async def walk(
    storage: ISessionStorage,
    query: SessionQuery,
    between: Callable[[int], Awaitable[object]] | None = None,
) -> list[list[SessionRecord]]:
    """The pages of a list, to its end; `between` runs after each with its number."""
    pages: list[list[SessionRecord]] = []
    while True:
        page = await storage.list_sessions(query)
        found = list(page.records)
        expect(f"at most {query.limit} sessions on a page", len(found) <= query.limit, found)
        pages.append(found)
        after, before = page.next_key, query.before_key
        if after is None:
            return pages
        goes_on = after >= 0 and (before is None or after < before)
        expect("a next_key below before_key, not below 0", goes_on, page)
        query = attrs.evolve(query, before_key=after)
        if between is not None:
            await between(len(pages))


async def listed(storage: ISessionStorage, limit: int = 9, **conditions: Any) -> list[str]:
    """The ids of all sessions that match, however many pages they are on."""
    pages = await walk(storage, SessionQuery(limit=limit, **conditions))
    return [record.session_id for page in pages for record in page]
