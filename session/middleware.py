"""Middleware that is ready to use: logging, redaction, limits of length and of rate.

Each may serve several managers at once, and keeps no more than it says.
"""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import TYPE_CHECKING

from anyio import to_thread
from langswarm.core.session.actors.errors import (
    ConfigurationError,
    MessageRefused,
    RateLimitedError,
)
from langswarm.core.session.adapters.guests.rate_limit import Buckets, Rate, delay_or_take
from langswarm.core.session.adapters.guests.redaction import KINDS, Redacted, Redactor
from langswarm.core.session.runtime.guests import ISessionMiddleware

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Mapping

    from langswarm.core.session.runtime.views import SessionContext, SessionMessage

__all__ = [
    "KINDS",
    "LengthLimitMiddleware",
    "LoggingMiddleware",
    "RateLimitMiddleware",
    "Redacted",
    "RedactionMiddleware",
    "Redactor",
]

_LONG_TEXT_CHARACTERS = 20_000


class LoggingMiddleware(ISessionMiddleware):
    """Logs every question and every answer, without what is in them.

    Each record has `session_id`, `turn_id`, `user_id`, `role` and `characters` as attributes. What
    the handlers do holds up the event loop: give slow ones a `logging.handlers.QueueHandler`.

    Args:
        logger: a logger or its name; default "langswarm.core.session.messages".
        level: of the records.
        contents: put the beginning of the text into the message, on one line, as `repr` shows it.
        max_characters: how much of the text, where `contents` is True.
    """

    holds_back_answers = False

    def __init__(
        self,
        logger: logging.Logger | str = "langswarm.core.session.messages",
        *,
        level: int = logging.INFO,
        contents: bool = False,
        max_characters: int = 200,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._contents = contents
        self._max_characters = max_characters

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        """The message itself."""
        if self._logger.isEnabledFor(self._level):
            length = len(message.content)
            shown = f": {message.content[: self._max_characters]!r}" if self._contents else ""
            self._logger.log(
                self._level,
                "%s message of %d characters%s",
                message.role.value,
                length,
                shown,
                extra={
                    "session_id": session_id,
                    "turn_id": message.turn_id,
                    "user_id": context.user_id,
                    "role": message.role.value,
                    "characters": length,
                },
            )
        return message


class RedactionMiddleware(ISessionMiddleware):
    """Takes personal data and keys out of questions, answers or both, before they are stored.

    `[email]`, `[phone]`, `[card]`, `[api_key]` or `[bearer]` stands where something was, and
    `metadata["redacted"]` says how many of each, never what. Neither the provider, nor the history,
    nor any hook gets to see it. A message's metadata and system messages are not looked at.

    It recognises what has a form; names and addresses have none. With `answers`, an answer is shown
    as a whole, at its end.

    Args:
        kinds: which of `KINDS`; default all.
        patterns: further kinds by name, as regular expressions; see `Redactor`.
        questions: look at questions.
        answers: look at answers.

    Raises ConfigurationError as `Redactor` does, and if there is nothing to look at.
    """

    def __init__(
        self,
        *,
        kinds: Iterable[str] = KINDS,
        patterns: Mapping[str, str | re.Pattern[str]] | None = None,
        questions: bool = True,
        answers: bool = True,
    ) -> None:
        if not (questions or answers):
            raise ConfigurationError("one of questions and answers must be True")
        self._redactor = Redactor(kinds, patterns)
        self._roles = {"user"} if questions else set[str]()
        if answers:
            self._roles.add("assistant")
        self.holds_back_answers = answers

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        """The message without what is found."""
        del session_id, context
        if message.role.value not in self._roles:
            return message
        if len(message.content) > _LONG_TEXT_CHARACTERS:  # others go on meanwhile
            redacted = await to_thread.run_sync(self._redactor.redact, message.content)
        else:
            redacted = self._redactor.redact(message.content)
        if redacted.counts:
            message.content = redacted.text
            message.metadata = {**message.metadata, "redacted": dict(redacted.counts)}
        return message


class LengthLimitMiddleware(ISessionMiddleware):
    """Refuses questions that are too long, and cuts answers that are.

    A refused question raises MessageRefused, which says both lengths. A cut answer has its length
    before in `metadata["cut_from_characters"]`, and is shown as a whole, at its end.

    Args:
        max_characters: of a question; None: as many as `max_message_bytes` allows.
        max_answer_characters: of an answer; None: the same.
    """

    def __init__(
        self, max_characters: int | None = 8_000, *, max_answer_characters: int | None = None
    ) -> None:
        for name, limit in (
            ("max_characters", max_characters),
            ("max_answer_characters", max_answer_characters),
        ):
            if limit is not None and limit < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {limit!r}")
        self._max_characters = max_characters
        self._max_answer_characters = max_answer_characters
        self.holds_back_answers = max_answer_characters is not None

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        """The message, if it is short enough or an answer."""
        del session_id, context
        length = len(message.content)
        if message.role == "user":
            if self._max_characters is not None and length > self._max_characters:
                raise MessageRefused(
                    f"the message has {length:,} characters, {self._max_characters:,} are allowed"
                )
        elif self._max_answer_characters is not None and length > self._max_answer_characters:
            message.content = message.content[: self._max_answer_characters]
            message.metadata = {**message.metadata, "cut_from_characters": length}
        return message


class RateLimitMiddleware(ISessionMiddleware):
    """Refuses questions of those who send too many: RateLimitedError with `retry_after_seconds`.

    Each user and each session has a bucket that holds a burst and fills evenly, and so have all
    users together. A question needs one of each; one that is refused costs nothing. A turn that is
    tried again (`retry`, `regenerate`) is not asked about. Buckets live in this object and end with
    the process.

    Args:
        user_messages_per_minute: of one user in all sessions; None: no limit.
        user_burst: so many at once.
        session_messages_per_minute: of one session; None: no limit.
        session_burst: so many at once.
        total_messages_per_minute: of all users together; None: no limit.
        total_burst: so many at once.
        max_remembered: so many users, and as many sessions, are remembered: those that asked last.
            Who is forgotten may send a burst again.
        clock: seconds that never go back.

    Raises ConfigurationError for a rate that is not above 0, or a burst below 1.
    """

    holds_back_answers = False

    def __init__(
        self,
        *,
        user_messages_per_minute: float | None = 60.0,
        user_burst: int = 20,
        session_messages_per_minute: float | None = None,
        session_burst: int = 10,
        total_messages_per_minute: float | None = None,
        total_burst: int = 100,
        max_remembered: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = _buckets(user_messages_per_minute, user_burst, max_remembered)
        self._sessions = _buckets(session_messages_per_minute, session_burst, max_remembered)
        self._all = _buckets(total_messages_per_minute, total_burst, 1)
        self._clock = clock
        self._lock = Lock()

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        """The message, if there is room for it."""
        if message.role != "user":
            return message
        asked: dict[Buckets, str] = {}
        names: dict[Buckets, str] = {}
        for buckets, key, whose in (
            (self._users, context.user_id, "this user"),
            (self._sessions, session_id, "this session"),
            (self._all, "", "all users"),
        ):
            if buckets is not None:
                asked[buckets], names[buckets] = key, whose
        with self._lock:
            now = self._clock()
            slowest = max(asked, key=lambda each: each.delay(asked[each], now), default=None)
            seconds = delay_or_take(asked, now)
        if slowest is not None and seconds:
            raise RateLimitedError(
                f"too many messages of {names[slowest]}; send the next one in {seconds:.1f} s",
                content=message.content,
                retry_after_seconds=seconds,
            )
        return message


def _buckets(per_minute: float | None, burst: int, max_keys: int) -> Buckets | None:
    return None if per_minute is None else Buckets(Rate(per_minute, burst), max_keys)
