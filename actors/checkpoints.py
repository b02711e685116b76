"""What has arrived of an answer, stored from time to time: a kill does not take it away (G9).

A conversation that was made at the provider is stored at once: a kill in between would leave it
there for good.

One write of a session is in flight at a time, so whatever else a turn wants to write waits for the
checkpoint that is being written.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING

from .errors import SessionError, StorageError
from .turn_writes import checkpoint_turn
from .values import about

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answer import Answer
    from .model import StoredSession
    from .session_actor import SessionActor
    from .transcript import Transcript

logger = logging.getLogger("langswarm.core.session")

RETRY_SECONDS = 1.0
"""After a checkpoint failed that was to store a conversation."""


class Checkpoints:
    """Those of one turn. Plain calls only."""

    __slots__ = (
        "_actor",
        "_answer",
        "_is_retrying",
        "_stored_conversations",
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
        # Of the conversations that were made for this turn, how many the storage was told.
        self._stored_conversations = 0
        # Whether the last one that was to store a conversation failed, and is due again.
        self._is_retrying = False
        # What waits for the checkpoint that is being written.
        self._waiting: Callable[[], None] | None = None

    def heard(self) -> None:
        """Something has arrived: it is to be stored soon, unless the turn ends before."""
        if self._is_behind and not self._is_retrying:
            self.store()
        elif self.due == math.inf and not self._transcript.is_held_back:
            self._look_again(self._actor.system.limits.checkpoint_seconds)

    @property
    def _is_behind(self) -> bool:
        return self._answer.made != self._stored_conversations

    def store(self) -> None:
        """Write it. A held-back text is not stored: after a kill users find what they saw."""
        self.due = math.inf
        actor, answer = self._actor, self._answer
        if self.doubt is not None:
            return
        if actor.is_writing:
            # The one before is not stored yet.
            self._look_again(actor.system.limits.checkpoint_seconds)
            return
        self._is_retrying = False
        now_us = actor.system.wall_clock_us()
        write = checkpoint_turn(
            actor.loaded_state(),
            "" if self._transcript.is_held_back else answer.text(),
            now_us,
            tokens=(answer.input_tokens, answer.output_tokens),
            provider_session_id=answer.conversation_id,
            strays=answer.strays,
            in_use=answer.in_use,
            until_us=now_us + round(actor.system.limits.turn_timeout_seconds * 1e6),
        )
        actor.submit_write(write, partial(self._stored, answer.made))

    def then(self, action: Callable[[], None]) -> bool:
        """Whether `action` has to wait for one that is being written; it is called then."""
        if not self._actor.is_writing:
            return False
        self._waiting = action
        return True

    def _look_again(self, seconds: float) -> None:
        if seconds > 0:
            self.due = self._actor.backend.now() + seconds
            self._actor.system.turns.look_at(self.due)

    def _stored(self, made: int, end: StoredSession | SessionError) -> None:
        """It is decided. One that failed is no harm: what has arrived is still here."""
        waiting, self._waiting = self._waiting, None
        if isinstance(end, SessionError):
            session_id = self._actor.session_id
            turn_no = self._actor.loaded_state().record.open_turn_no
            logger.warning(
                "a checkpoint of session %s failed: %s",
                session_id,
                end,
                extra=about(session_id, turn_no),
            )
            failed = isinstance(end, StorageError) and end.outcome == "failed"
            self.doubt = None if failed else end
        else:
            self._stored_conversations = made
        if waiting is not None:
            waiting()
        elif self._is_behind and isinstance(end, SessionError):
            self._is_retrying = True
            self._look_again(RETRY_SECONDS)
        elif self._is_behind:
            self.store()  # one more was made meanwhile
