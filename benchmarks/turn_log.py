"""The writes of a workload, recorded once, so that a bare loop can store the very same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
from langswarm.core.session import InMemorySessionStorage, create_session_manager
from langswarm.core.session.adapters.storage.sqlite.rows import (
    Row,
    changing_row,
    documents_row,
    fixed_row,
    message_row,
    turn_row,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome


def question(session: int, turn: int) -> str:
    """What user number `session` asks in turn number `turn`: 70 to 140 characters."""
    return f"Question {turn} of user {session}: " + "tell me more about that, please. " * (
        1 + (session + turn) % 3
    )


@attrs.frozen
class Batch:
    """The rows of one commit: one write of each session."""

    sessions: list[Row]
    """Changed columns, then the fence: key, revision, epoch."""
    messages: list[Row]
    turns: list[Row]


@attrs.frozen
class TurnLog:
    """What sessions x turns write."""

    new_sessions: list[Row]
    new_documents: list[Row]
    rounds: list[tuple[Batch, Batch]]
    """The opening and the closing commit of each round."""


class _Recorder(InMemorySessionStorage):
    def __init__(self) -> None:
        super().__init__()
        self.of_session: dict[int, list[SessionWrite]] = {}
        self.created: list[tuple[int, SessionWrite]] = []

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        for write, stored in zip(writes, await self._stored(writes), strict=True):
            if write.expected_revision:
                self.of_session[stored].append(write)
            else:
                self.created.append((stored, write))
                self.of_session[stored] = []
        return outcomes

    async def _stored(self, writes: Sequence[SessionWrite]) -> list[int]:
        ids = [write.after.record.session_id for write in writes]
        return [state.record.key for state in await self.load(ids) if state is not None]


def record(sessions: int, turns: int) -> TurnLog:
    """Run the workload through the whole runtime in memory and keep what it wrote."""
    return anyio.run(_record, sessions, turns)


async def _record(sessions: int, turns: int) -> TurnLog:
    storage = _Recorder()
    async with create_session_manager(storage) as manager:
        for user in range(sessions):
            session = await manager.create_session(f"user-{user}", "mock", "mock-model")
            for turn in range(turns):
                await session.send_message(question(user, turn))
    rounds = [
        (_batch(storage, 2 * number), _batch(storage, 2 * number + 1)) for number in range(turns)
    ]
    return TurnLog(
        new_sessions=[
            fixed_row(key, write.after.record) + changing_row(write.after.record)
            for key, write in storage.created
        ],
        new_documents=[
            (key, *documents_row(write.after.documents, write.after.record.revision))
            for key, write in storage.created
        ],
        rounds=rounds,
    )


def _batch(storage: _Recorder, number: int) -> Batch:
    writes = [(key, writes[number]) for key, writes in storage.of_session.items()]
    return Batch(
        sessions=[
            (*changing_row(write.after.record), key, write.expected_revision, 1)
            for key, write in writes
        ],
        messages=[message_row(key, message) for key, write in writes for message in write.messages],
        turns=[turn_row(key, write.turn) for key, write in writes if write.turn is not None],
    )
