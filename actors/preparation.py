"""What a command needs to know beside the state of its session, read before it is decided.

Most commands need nothing. Those that are repeated under an idempotency key, that run a turn again
or hide a part of the history, first look into the storage; the session does nothing else meanwhile,
so what is read here holds until the command is decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .decisions import (
    AppendMessage,
    CreateSession,
    RetryTurn,
    Rewind,
    SendMessage,
    UpdateContext,
)
from .errors import SessionNotFoundError, TurnNotFoundError
from .model import MessageQuery, MessageRecord, SessionStatus, StoredSession, TurnState
from .outcomes import error_of, may_pass
from .turn_writes import Replay

if TYPE_CHECKING:
    from .decisions import Command
    from .model import Claim, TurnRecord
    from .storage_actor import StorageActor

_PAGE = 1_000
_LOOK_BACK = frozenset((RetryTurn, Rewind))


@attrs.frozen(kw_only=True)
class Repeated:
    """It was done before; this is the result."""

    value: MessageRecord | StoredSession


@attrs.frozen(kw_only=True)
class VisibleAfter:
    """So many visible messages are behind the place that a history is rewound to."""

    count: int


Prepared = Repeated | Replay | VisibleAfter | None
"""None: there is nothing to know."""


def needs_preparation(command: Command) -> bool:
    """Whether `prepare` has anything to look up for it."""
    return getattr(command, "claim", None) is not None or type(command) in _LOOK_BACK


async def prepare(
    storage: StorageActor, session_id: str, state: StoredSession | None, command: Command
) -> Prepared:
    """Look into the storage. Raises what refuses the command."""
    if isinstance(command, CreateSession):
        return await _created(storage, command)
    if state is None:
        raise SessionNotFoundError(session_id)
    if isinstance(command, RetryTurn):
        return await _last_turn(storage, state, command)
    if isinstance(command, Rewind):
        return VisibleAfter(count=await _count_after(storage, state, command.to_seq))
    if isinstance(command, SendMessage | AppendMessage | UpdateContext):
        return await _repeated(storage, state, command)
    return None


# ---------------------------------------------------------------- idempotency keys


async def _created(storage: StorageActor, command: CreateSession) -> Prepared:
    found = await _claimed(storage, command)
    if found is None:
        return None
    state = await storage.load_now(found.session_id)
    if state is None or state.record.status is SessionStatus.DELETED:
        raise SessionNotFoundError(found.session_id)
    return Repeated(value=state)


async def _repeated(
    storage: StorageActor,
    state: StoredSession,
    command: SendMessage | AppendMessage | UpdateContext,
) -> Prepared:
    found = await _claimed(storage, command)
    if found is None:
        return None
    if isinstance(command, UpdateContext):
        return Repeated(value=state)
    if isinstance(command, AppendMessage):
        message = await _message(storage, state, found.result)
        if message is None:
            raise TurnNotFoundError(state.record.session_id, None)
        return Repeated(value=message)
    return await _turn_again(storage, state, found.result)


async def _claimed(storage: StorageActor, command: Command) -> Claim | None:
    claim = getattr(command, "claim", None)
    if claim is None:
        return None
    found = await storage.find_claim(claim.scope, claim.method, claim.key)
    if found is not None:
        claim.check(found.payload_hash)
    return found


async def _turn_again(storage: StorageActor, state: StoredSession, turn_no: int) -> Prepared:
    """Its answer; or the turn to be run again, where what ended it may have passed."""
    record = state.record
    turn = await storage.read_turn(record.key, turn_no)
    if turn is None:
        raise TurnNotFoundError(record.session_id, f"{record.session_id}/{turn_no}")
    if turn.state is TurnState.COMPLETED:
        answer = await _message(storage, state, turn.user_seq + 1)
        if answer is None or answer.turn_no != turn_no:
            raise TurnNotFoundError(record.session_id, f"{record.session_id}/{turn_no}")
        return Repeated(value=answer)
    if may_pass(turn) and turn_no == record.last_turn_no:
        return await _replay(storage, state, turn)
    raise error_of(turn) or TurnNotFoundError(record.session_id, None)


# ---------------------------------------------------------------- the last turn


async def _last_turn(storage: StorageActor, state: StoredSession, command: RetryTurn) -> Replay:
    record = state.record
    if not record.last_turn_no:
        raise TurnNotFoundError(record.session_id, None)
    turn = await storage.read_turn(record.key, record.last_turn_no)
    if turn is None:
        raise TurnNotFoundError(record.session_id, f"{record.session_id}/{record.last_turn_no}")
    from .branches import check_replay  # noqa: PLC0415 - not for every program

    check_replay(record.session_id, turn, command.how)
    return await _replay(storage, state, turn)


async def _replay(storage: StorageActor, state: StoredSession, turn: TurnRecord) -> Replay:
    """Its question, if it can still be seen."""
    record = state.record
    query = MessageQuery(after_seq=turn.user_seq - 1, before_seq=turn.user_seq + 2)
    found = await storage.read_messages(record.key, query)
    mine = [message for message in found if message.turn_no == turn.turn_no]
    if not mine or mine[0].seq != turn.user_seq:
        raise TurnNotFoundError(record.session_id, f"{record.session_id}/{turn.turn_no}")
    return Replay(turn=turn, question=mine[0], last_seq=mine[-1].seq, visible=len(mine))


# ---------------------------------------------------------------- messages


async def _message(storage: StorageActor, state: StoredSession, seq: int) -> MessageRecord | None:
    query = MessageQuery(after_seq=seq - 1, before_seq=seq + 1, include_hidden=True)
    found = await storage.read_messages(state.record.key, query)
    return found[0] if found else None


async def _count_after(storage: StorageActor, state: StoredSession, seq: int) -> int:
    """How many visible messages are behind `seq`; page by page, so memory is bounded."""
    count, before = 0, state.record.last_seq + 1
    while before > seq + 1:
        query = MessageQuery(after_seq=seq, before_seq=before, limit=_PAGE)
        page = await storage.read_messages(state.record.key, query)
        count += len(page)
        if len(page) < _PAGE:
            break
        before = page[0].seq
    return count
