"""Wrong variants of idempotency keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import attrs
from langswarm.core.session.actors import preparation, session_actor, turn
from langswarm.core.session.actors.idempotency import ClaimKey
from langswarm.core.session.actors.model import TurnState, changed
from langswarm.core.session.actors.preparation import needs_preparation
from langswarm.core.session.actors.session_actor import SessionActor
from langswarm.core.session.actors.storage_actor import StorageActor
from langswarm.core.session.actors.supervisor import Supervisor
from langswarm.core.session.actors.turn_writes import Replay, open_turn

from .catalogue import planted, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.errors import SessionError
    from langswarm.core.session.actors.mailbox import Ticket
    from langswarm.core.session.actors.model import Claim, SessionWrite, StoredSession, TurnRecord
    from langswarm.core.session.actors.preparation import Prepared
    from langswarm.core.session.actors.turn_writes import Question


@planted("G7")
def claims_are_written_with_the_answer() -> AbstractContextManager[object]:
    """A key is stored when its turn is closed: what is cut off in between is run once more."""
    submit = SessionActor.submit_write
    kept: dict[SessionActor, Claim | None] = {}

    def later(
        self: SessionActor,
        write: SessionWrite,
        done: Callable[[StoredSession | SessionError], None],
    ) -> None:
        if write.opens_turn:
            kept[self], write = write.claim, changed(write, claim=None)
        elif write.turn is not None and write.turn.state is not TurnState.OPEN:
            write = changed(write, claim=kept.pop(self, None))
        submit(self, write, done)

    return patch.object(SessionActor, "submit_write", later)


@planted("G7")
def another_message_under_a_key_is_not_noticed() -> AbstractContextManager[object]:
    """The hash of what was sent is not compared."""

    def fine(self: ClaimKey, payload_hash: bytes) -> None:
        del self, payload_hash

    return patch.object(ClaimKey, "check", fine)


@planted("G7")
def a_shared_message_runs_twice() -> AbstractContextManager[object]:
    """A call that comes while another runs under its key is queued, and looked up by nobody."""
    shared, needs = Supervisor._shared, needs_preparation
    unchecked: set[int] = set()

    def queue(self: Supervisor, claim: ClaimKey) -> Ticket[Any] | None:
        if shared(self, claim) is not None:
            unchecked.add(id(claim))
        return None

    def needs_some(command: Any) -> bool:
        return id(getattr(command, "claim", None)) not in unchecked and needs(command)

    return together(
        patch.object(Supervisor, "_shared", queue),
        patch.object(session_actor, "needs_preparation", needs_some),
    )


@planted("G7")
def keys_are_forgotten_in_a_restart() -> AbstractContextManager[object]:
    """A process knows the keys that came to it, and no others."""
    find, submit = StorageActor.find_claim, StorageActor.submit
    known: dict[StorageActor, set[str]] = {}

    def note(self: StorageActor, write: SessionWrite, done: Callable[..., None]) -> None:
        if write.claim is not None:
            known.setdefault(self, set()).add(write.claim.scope + write.claim.key)
        submit(self, write, done)

    async def find_own(self: StorageActor, scope: str, method: str, key: str) -> Claim | None:
        found = await find(self, scope, method, key)
        return found if scope + key in known.get(self, ()) else None

    return together(
        patch.object(StorageActor, "submit", note),
        patch.object(StorageActor, "find_claim", find_own),
    )


@planted("G7")
def completed_turns_are_run_again() -> AbstractContextManager[object]:
    """A key that comes again asks the provider again, in place of the answer that is there."""
    turn_again = preparation._turn_again

    async def run_again(storage: StorageActor, state: StoredSession, turn_no: int) -> Prepared:
        found: TurnRecord | None = await storage.read_turn(state.record.key, turn_no)
        is_last = turn_no == state.record.last_turn_no
        if found is not None and found.state is TurnState.COMPLETED and is_last:
            return await preparation._replay(storage, state, found)
        return await turn_again(storage, state, turn_no)

    return patch.object(preparation, "_turn_again", run_again)


@planted("G7")
def interrupted_turns_are_doubled() -> AbstractContextManager[object]:
    """A key whose turn was cut off is taken for a new one: the question is there twice."""
    turn_again = preparation._turn_again

    async def as_new(storage: StorageActor, state: StoredSession, turn_no: int) -> Prepared:
        found = await turn_again(storage, state, turn_no)
        return None if isinstance(found, Replay) else found

    return patch.object(preparation, "_turn_again", as_new)


@planted("G7")
def a_turn_run_again_loses_its_key() -> AbstractContextManager[object]:
    """Only the first turn under a key is stored with it."""

    def without(
        state: StoredSession, question: Question, *arguments: Any, **keywords: Any
    ) -> SessionWrite:
        if question.replay is not None:
            question = attrs.evolve(question, claim=None)
        return open_turn(state, question, *arguments, **keywords)

    return patch.object(turn, "open_turn", without)
