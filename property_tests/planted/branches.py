"""Wrong variants of turns that are run again, and of histories that are rewound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from langswarm.core.session.actors import branches, turn
from langswarm.core.session.actors.model import changed
from langswarm.core.session.actors.session_actor import SessionActor
from langswarm.core.session.actors.turn import Turn
from langswarm.core.session.actors.turn_writes import open_turn

from .catalogue import planted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from contextvars import Context

    from langswarm.core.session.actors.model import SessionWrite, StoredSession
    from langswarm.core.session.actors.turn_writes import Question


@planted("G5")
def retry_forgets_to_hide() -> AbstractContextManager[object]:
    """The turn that is run again stays in the history."""

    def keep(*arguments: Any, **keywords: Any) -> SessionWrite:
        return changed(open_turn(*arguments, **keywords), hides=())

    return patch.object(turn, "open_turn", keep)


@planted("G5")
def hidden_messages_are_counted() -> AbstractContextManager[object]:
    """The number of visible messages does not know of those that a retry hid."""

    def count(
        state: StoredSession, question: Question, *arguments: Any, **keywords: Any
    ) -> SessionWrite:
        write = open_turn(state, question, *arguments, **keywords)
        visible = state.record.visible_messages + 1
        record = changed(write.after.record, visible_messages=visible)
        return changed(write, after=changed(write.after, record=record))

    return patch.object(turn, "open_turn", count)


@planted("G5")
def rewind_is_off_by_one() -> AbstractContextManager[object]:
    """The message that a history is rewound to is hidden too."""

    rewind = branches.rewind

    def further(state: StoredSession, to_seq: int, visible: int, now_us: int) -> SessionWrite:
        return rewind(state, max(0, to_seq - 1), visible, now_us)

    return patch.object(branches, "rewind", further)


@planted("G4")
def stale_window_after_a_rewind() -> AbstractContextManager[object]:
    """The cached prompt window does not hear of a rewind."""
    told = SessionActor._told

    def deaf(
        self: SessionActor,
        command: object,
        context: Context,
        write: SessionWrite,
        after: StoredSession,
    ) -> None:
        told(self, command, context, changed(write, hides=()), after)

    return patch.object(SessionActor, "_told", deaf)


@planted("G4")
def stale_window_after_a_retry() -> AbstractContextManager[object]:
    """The cached prompt window holds the turn that was replaced."""
    opened = Turn._opened

    def deaf(self: Turn, write: SessionWrite, *arguments: Any) -> None:
        opened(self, changed(write, hides=()), *arguments)

    return patch.object(Turn, "_opened", deaf)


@planted("G4")
def rewound_conversation_is_resumed() -> AbstractContextManager[object]:
    """The provider's own conversation is gone on with after a rewind."""

    rewind = branches.rewind

    def clean(state: StoredSession, to_seq: int, visible: int, now_us: int) -> SessionWrite:
        write = rewind(state, to_seq, visible, now_us)
        record = changed(write.after.record, dirty=state.record.dirty)
        return changed(write, after=changed(write.after, record=record))

    return patch.object(branches, "rewind", clean)


@planted("G9")
def completed_turns_are_retried() -> AbstractContextManager[object]:
    """retry() does what regenerate() does."""

    def anything_goes(*_: object) -> None:
        return None

    return patch.object(branches, "check_replay", anything_goes)
