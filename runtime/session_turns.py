"""A session's turns, as a stream of events asks for them: the running one, and the past ones."""

# A part of the session handle, in a file of its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING

from ..actors.decisions import Barrier
from ..actors.errors import TurnNotFoundError
from ..actors.model import MessageQuery, TurnState
from .views import view_of

if TYPE_CHECKING:
    from ..actors.model import MessageRecord
    from ..actors.supervisor import Supervisor
    from ..actors.turn import Turn
    from .session import Session
    from .turn_stream import StoredTurn
    from .views import SessionMessage


class SessionTurns:
    """The session's turns, for those who follow them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def session_id(self) -> str:
        return self._session.session_id

    def view_of(self, record: MessageRecord) -> SessionMessage:
        return view_of(self.session_id, record)

    def running(self) -> Turn | None:
        if self._session._header.is_erased:  # the id may be another session's by now
            return None
        return self._supervisor().turn_of(self.session_id)

    def refuse_reentrant_wait(self) -> None:
        self._supervisor().refuse_reentrant_wait(self.session_id)

    async def stored(self, turn_no: int | None) -> StoredTurn | None:
        session = self._session
        state = await session._stored()
        number = state.record.last_turn_no if turn_no is None else turn_no
        storage = session._anchor.host.runtime().storage
        turn = await storage.read_turn(state.record.key, number) if number else None
        if turn is None:
            wanted = None if turn_no is None else f"{self.session_id}/{turn_no}"
            raise TurnNotFoundError(self.session_id, wanted)
        if turn.state is TurnState.OPEN:
            if self.running() is None:  # cut off, and about to be closed
                await session._submit(Barrier(), _nothing)
            return None
        # The answer is right behind its question: nothing is committed in between (G2).
        query = MessageQuery(
            after_seq=turn.user_seq - 1, before_seq=turn.user_seq + 2, include_hidden=True
        )
        found = [view_of(self.session_id, each) for each in await session._read(query)]
        if not found or found[0].seq != turn.user_seq:
            raise TurnNotFoundError(self.session_id, f"{self.session_id}/{number}")
        answer = found[1] if len(found) > 1 and found[1].turn_id == found[0].turn_id else None
        return turn, found[0], answer

    def _supervisor(self) -> Supervisor:
        return self._session._anchor.host.runtime().supervisor


def _nothing(_: object) -> None:
    return None
