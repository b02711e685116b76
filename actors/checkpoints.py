"""What has arrived of an answer, stored from time to time: a kill does not take it away (G9).

One write of a session is in flight at a time, so whatever else a turn wants to write waits for the
checkpoint that is being written.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from .errors import SessionError, StorageError
from .turn_writes import checkpoint_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answer import Answer
    from .model import StoredSession
    from .session_actor import SessionActor
    from .transcript import Transcript

logger = logging.getLogger("langswarm.core.session")


class Checkpoints:
    """Those of one turn. Plain calls only."""

    __slots__ = (
        "_actor",
        "_answer",
        "_stored_conversation",
        "_transcript",
        "_waiting",
        "doubt",
        "due",
    )

    def __init__(self, actor: SessionActor, answer: Answer, transcript: Transcript) -> None:
        self._actor = actor
        self._answer = answer
        self._transcript = transcript
        # When what has arrived is to be stored; inf: nothing new has.
        self.due = math.inf
        # Why it is not known which revision is stored, so that nothing more can be written.
        self.doubt: SessionError | None = None
        # The conversation that the provider has made for this turn, once the storage was told.
        self._stored_conversation: str | None = None
        # What waits for the checkpoint that is being written.
        self._waiting: Callable[[], None] | None = None

    def heard(self) -> None:
        """Something has arrived: it is to be stored soon, unless the turn ends before."""
        if self._answer.conversation_id != self._stored_conversation:
            self.store()  # at once: a kill in between would leave it at the provider for good
        elif self.due == math.inf and not self._transcript.is_held_back:
            self._look_again()

    def store(self) -> None:
        """Write it. A held-back text is not stored: after a kill users find what they saw."""
        self.due = math.inf
        actor, answer = self._actor, self._answer
        if actor.is_writing:
            self._look_again()  # the one before is not stored yet
            return
        self._stored_conversation = answer.conversation_id
        write = checkpoint_turn(
            actor.loaded_state(),
            "" if self._transcript.is_held_back else answer.text(),
            actor.system.wall_clock_us(),
            provider_session_id=answer.conversation_id,
        )
        actor.submit_write(write, self._stored)

    def then(self, action: Callable[[], None]) -> bool:
        """Whether `action` has to wait for one that is being written; it is called then."""
        if not self._actor.is_writing:
            return False
        self._waiting = action
        return True

    def _look_again(self) -> None:
        system = self._actor.system
        seconds = system.limits.checkpoint_seconds
        if seconds > 0:
            self.due = self._actor.backend.now() + seconds
            system.turns.look_at(self.due)

    def _stored(self, end: StoredSession | SessionError) -> None:
        """It is decided. One that failed is no harm: what has arrived is still here."""
        waiting, self._waiting = self._waiting, None
        if isinstance(end, SessionError):
            logger.warning("a checkpoint of session %s failed: %s", self._actor.session_id, end)
            failed = isinstance(end, StorageError) and end.outcome == "failed"
            self.doubt = None if failed else end
        if waiting is not None:
            waiting()
