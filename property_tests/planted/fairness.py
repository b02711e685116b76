"""Wrong variants of who comes first, and of what the backends have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from langswarm.core.session.actors import turn, turn_writes
from langswarm.core.session.actors.model import changed
from langswarm.core.session.actors.supervisor import Supervisor
from langswarm.core.session.actors.wait import current_backend

from .catalogue import planted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.session_actor import SessionActor


@planted("G12", by="fairness")
def nobody_yields() -> AbstractContextManager[object]:
    """A session keeps its live place until its mailbox is empty."""

    def keep(self: Supervisor, actor: SessionActor) -> None:
        del self, actor

    return patch.object(Supervisor, "yield_place", keep)


@planted("G12", by="fairness")
def last_come_first_admitted() -> AbstractContextManager[object]:
    """The line for live places is a stack."""

    def admit_newest(self: Supervisor) -> None:
        while self._waiting and self._has_place():
            actor, _ = self._waiting.popitem(last=True)
            self._admit(actor)

    return patch.object(Supervisor, "_admit_waiting", admit_newest)


@planted("G16", by="agreement")
def finish_reasons_differ_on_trio() -> AbstractContextManager[object]:
    """On trio a finished answer is stored with another word for why it finished."""
    close = turn_writes.close_turn

    def close_in_other_words(*arguments: Any) -> SessionWrite:
        write = close(*arguments)
        if current_backend().name != "trio":
            return write
        other = tuple(changed(each, finish_reason="end_turn") for each in write.messages)
        return changed(write, messages=other)

    return patch.object(turn, "close_turn", close_in_other_words)
