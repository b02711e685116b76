"""Hooks that are ready to use: metrics, an audit log, alerts, slow turns, errors kept and logged.

Each may serve several managers at once, and keeps no more than it says.
"""

from __future__ import annotations

import inspect
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.adapters.costs import usage_of
from langswarm.core.session.adapters.guests.alerts import Alert, AlertFilter
from langswarm.core.session.adapters.guests.audit_file import AuditFile
from langswarm.core.session.adapters.guests.audit_log import AuditLog, AuditLogError
from langswarm.core.session.adapters.guests.rate_limit import Rate
from langswarm.core.session.adapters.guests.tallies import (
    Last,
    Latest,
    Tally,
    check_positive,
    error_code,
    needs_an_operator,
)
from langswarm.core.session.runtime.guests import ISessionLifecycleHook

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Mapping

    from langswarm.core.session.runtime.views import SessionMessage

__all__ = [
    "Alert",
    "AlertHook",
    "AuditLogError",
    "AuditLogHook",
    "ErrorLogHook",
    "ErrorTrackingHook",
    "Metrics",
    "MetricsHook",
    "SlowTurn",
    "SlowTurnHook",
    "TrackedError",
    "log_alert",
    "needs_an_operator",
]


@attrs.frozen(kw_only=True)
class Metrics:
    """Counts since the hook was made. Names beyond `max_names` are counted as "other"."""

    events: Mapping[str, int]
    """By hook method without "on_": "session_created", "message_sent", ..."""
    models: Mapping[str, int]
    """Answers by the model that the provider named, if it did."""
    finish_reasons: Mapping[str, int]
    """Answers by finish reason."""
    fallbacks: Mapping[str, int]
    """Answers of fallbacks, by provider."""
    errors: Mapping[str, int]
    """By class and code: "ProviderError:rate_limit"."""
    provider_errors: Mapping[str, int]
    """Errors of providers, by provider."""
    characters_sent: int
    characters_received: int
    input_tokens: int
    """As the providers counted them, if they did."""
    output_tokens: int


class MetricsHook(ISessionLifecycleHook):
    """Counts what happens, without contents; read it with `snapshot()`.

    Args:
        max_names: so many models, codes, ... are counted by name.
    """

    def __init__(self, *, max_names: int = 100) -> None:
        check_positive([("max_names", max_names)])
        self._events = Tally(max_names)
        self._models = Tally(max_names)
        self._finish_reasons = Tally(max_names)
        self._fallbacks = Tally(max_names)
        self._errors = Tally(max_names)
        self._provider_errors = Tally(max_names)
        self._characters_sent = 0
        self._characters_received = 0
        self._input_tokens = 0
        self._output_tokens = 0

    def snapshot(self) -> Metrics:
        """A copy of the counts."""
        return Metrics(
            events=self._events.snapshot(),
            models=self._models.snapshot(),
            finish_reasons=self._finish_reasons.snapshot(),
            fallbacks=self._fallbacks.snapshot(),
            errors=self._errors.snapshot(),
            provider_errors=self._provider_errors.snapshot(),
            characters_sent=self._characters_sent,
            characters_received=self._characters_received,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
        )

    async def on_session_created(self, session_id: str, user_id: str) -> None:
        """Count it."""
        del session_id, user_id
        self._events.add("session_created")

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        """Count it."""
        del session_id
        self._events.add("message_sent")
        self._characters_sent += len(message.content)

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        """Count it, its tokens, and who answered."""
        del session_id
        self._events.add("message_received")
        self._characters_received += len(message.content)
        self._finish_reasons.add(message.finish_reason or "unknown")
        told = message.provider_metadata
        usage = usage_of(told)
        if usage is not None:
            self._input_tokens += usage.input_tokens
            self._output_tokens += usage.output_tokens
        else:
            self._output_tokens += message.token_count
        if isinstance(model := told.get("model"), str):
            self._models.add(model)
        fallback: Any = told.get("fallback")
        if isinstance(fallback, dict):
            self._fallbacks.add(str(told["fallback"].get("provider")))

    async def on_context_updated(self, session_id: str) -> None:
        """Count it."""
        del session_id
        self._events.add("context_updated")

    async def on_session_archived(self, session_id: str) -> None:
        """Count it."""
        del session_id
        self._events.add("session_archived")

    async def on_session_deleted(self, session_id: str) -> None:
        """Count it."""
        del session_id
        self._events.add("session_deleted")

    async def on_session_evicted(self, session_id: str) -> None:
        """Count it."""
        del session_id
        self._events.add("session_evicted")

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        """Count it by its code."""
        del session_id
        self._events.add("session_error")
        self._errors.add(error_code(error))
        provider = getattr(error, "provider", None)
        if isinstance(provider, str) and provider:
            self._provider_errors.add(provider)


class AuditLogHook(ISessionLifecycleHook):
    """Writes one JSON line per event to a file that only its owner can read (0600).

    A line has `time`, `event`, `session_id`, and what there is of `user_id`, `message_id`, `seq`,
    `turn_id`, `role`, `characters`, `finish_reason`, `tokens`, `error`. The text of an error is
    never written: it may quote what was sent. Files are written in a thread, the lines of a session
    in the order of its events. They are with the operating system then, not synced.

    What cannot be written, to a full disk for example, is lost, and no turn notices: it is counted
    in `lost`, raised as AuditLogError once a minute at most, which the runtime logs and tells other
    hooks, and a line `lines_lost` in the file says how many there were, when it goes on.

    One process, one file: another process would rotate it away.

    Args:
        path: the file; its folder must be there. `path.1` is the one before, and so on.
        max_bytes: how large a file becomes.
        keep: how many earlier files are kept.
        contents: write what messages say, up to 10,000 characters of each.

    Raises ConfigurationError if the folder is not there, or a limit makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 10_000_000,
        keep: int = 5,
        contents: bool = False,
    ) -> None:
        check_positive([("max_bytes", max_bytes), ("keep + 1", keep + 1)])
        self._log = AuditLog(AuditFile(Path(path).absolute(), max_bytes=max_bytes, keep=keep))
        self._contents = contents

    @property
    def written(self) -> int:
        """Lines that are in the file or in those before it."""
        return self._log.written

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._log.lost

    async def _write(self, event: str, session_id: str, **fields: Any) -> None:
        await self._log.write({"event": event, "session_id": session_id, **fields})

    async def _write_message(self, event: str, session_id: str, message: SessionMessage) -> None:
        fields: dict[str, Any] = {
            "message_id": message.message_id,
            "seq": message.seq,
            "turn_id": message.turn_id,
            "role": message.role.value,
            "characters": len(message.content),
        }
        if message.finish_reason is not None:
            fields |= {"finish_reason": message.finish_reason, "tokens": message.token_count}
        if self._contents:
            fields["content"] = message.content
        await self._write(event, session_id, **fields)

    async def on_session_created(self, session_id: str, user_id: str) -> None:
        """Write it."""
        await self._write("session_created", session_id, user_id=user_id)

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        """Write it."""
        await self._write_message("message_sent", session_id, message)

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        """Write it."""
        await self._write_message("message_received", session_id, message)

    async def on_context_updated(self, session_id: str) -> None:
        """Write it."""
        await self._write("context_updated", session_id)

    async def on_session_archived(self, session_id: str) -> None:
        """Write it."""
        await self._write("session_archived", session_id)

    async def on_session_deleted(self, session_id: str) -> None:
        """Write it."""
        await self._write("session_deleted", session_id)

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        """Write its class and code; not for an audit log that cannot be written."""
        if not isinstance(error, AuditLogError):
            await self._write("session_error", session_id, error=error_code(error))


class AlertHook(ISessionLifecycleHook):
    """Calls you when something needs an operator: once per kind of error within a time.

    A kind is the class and the code of an error. What happens again within the time is counted, and
    told by the next alert of its kind. A callback that raises is logged by the runtime.

    Args:
        callback: gets an `Alert`; a plain function, which must not block, or an asynchronous one,
            which has `hook_timeout_seconds`.
        window_seconds: one alert per kind within these.
        alerts_per_minute: of all kinds together; as many may come at once.
        when: which errors count; default `needs_an_operator`: not those that are for the caller to
            mend, such as refused messages, nor stopped turns.
        max_kinds: so many kinds are remembered.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        callback: Callable[[Alert], Awaitable[None] | None],
        *,
        window_seconds: float = 300.0,
        alerts_per_minute: int = 10,
        when: Callable[[Exception], bool] = needs_an_operator,
        max_kinds: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_positive([("window_seconds", window_seconds), ("max_kinds", max_kinds)])
        self._callback = callback
        self._when = when
        self._clock = clock
        self._filter = AlertFilter(
            window_seconds=window_seconds,
            rate=Rate(alerts_per_minute, alerts_per_minute),
            max_kinds=max_kinds,
        )

    @property
    def suppressed(self) -> int:
        """Errors that became no alert of their own."""
        return self._filter.suppressed

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        """Call, if it is time to."""
        if not self._when(error):
            return
        alert = self._filter.alert(error_code(error), session_id, error, self._clock())
        if alert is not None:
            called = self._callback(alert)
            if inspect.isawaitable(called):
                await called


def log_alert(alert: Alert) -> None:
    """A callback for `AlertHook`: an error in the log "langswarm.core.session.alerts".

    Its record has `session_id`, `kind` and `repeated`. The text of the error is not in it.
    """
    logging.getLogger("langswarm.core.session.alerts").error(
        "%s in session %s; %d more since the alert before",
        alert.kind,
        alert.session_id,
        alert.repeated,
        extra={"session_id": alert.session_id, "kind": alert.kind, "repeated": alert.repeated},
    )


class ErrorLogHook(ISessionLifecycleHook):
    """Logs every error of a session, with its class and its code.

    Each record has `session_id` and `code` as attributes.

    Args:
        logger: a logger or its name; default "langswarm.core.session.errors".
        level: of the records.
        details: the text of the error and its traceback, too. They may quote what was sent.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "langswarm.core.session.errors",
        *,
        level: int = logging.ERROR,
        details: bool = False,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._details = details

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        """Log it."""
        code = error_code(error)
        self._logger.log(
            self._level,
            "%s in session %s%s",
            code,
            session_id,
            f": {error}" if self._details else "",
            exc_info=error if self._details else None,
            extra={"session_id": session_id, "code": code},
        )


@attrs.frozen(kw_only=True)
class SlowTurn:
    """A turn that took long."""

    session_id: str
    turn_id: str
    seconds: float
    """From the commit of the question to that of the answer."""


class SlowTurnHook(ISessionLifecycleHook):
    """Keeps the last turns that took longer than `seconds`, and counts them.

    A turn without an answer is not among them: `ErrorTrackingHook` has the code of its end.

    Args:
        seconds: what is slow.
        keep: how many are kept.
        max_open: so many turns at once are looked at: those that began last.
    """

    def __init__(self, seconds: float = 30.0, *, keep: int = 100, max_open: int = 100_000) -> None:
        check_positive([("seconds", seconds), ("keep", keep), ("max_open", max_open)])
        self._seconds = seconds
        self._begun: Latest[tuple[str, datetime]] = Latest(max_open)
        self._slow: Last[SlowTurn] = Last(keep)
        self.count = 0
        """How many there were."""

    def snapshot(self) -> tuple[SlowTurn, ...]:
        """The last ones, the oldest first."""
        return self._slow.snapshot()

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        """A turn begins; a session has one at a time."""
        if message.turn_id is not None:
            self._begun.set(session_id, (message.turn_id, message.timestamp))

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        """It has ended."""
        turn_id, began = self._begun.pop(session_id) or (None, message.timestamp)
        seconds = (message.timestamp - began).total_seconds()
        if turn_id is not None and turn_id == message.turn_id and seconds > self._seconds:
            self.count += 1
            self._slow.add(SlowTurn(session_id=session_id, turn_id=turn_id, seconds=seconds))


@attrs.frozen(kw_only=True)
class TrackedError:
    """An error, without its text."""

    code: str
    """The class and the code: "ProviderError:rate_limit"."""
    session_id: str
    time: datetime
    text: str
    """Empty unless `texts=True`."""


class ErrorTrackingHook(ISessionLifecycleHook):
    """Counts errors by class and code, and keeps the last ones.

    Args:
        keep: how many are kept.
        max_codes: so many codes are counted by name, the others as "other".
        texts: keep the first 300 characters of what an error says. It may quote what was sent.
    """

    def __init__(self, *, keep: int = 100, max_codes: int = 100, texts: bool = False) -> None:
        check_positive([("keep", keep), ("max_codes", max_codes)])
        self._counts = Tally(max_codes)
        self._last: Last[TrackedError] = Last(keep)
        self._texts = texts

    def counts(self) -> Mapping[str, int]:
        """By code, the commonest first."""
        return self._counts.snapshot()

    def last(self) -> tuple[TrackedError, ...]:
        """The last ones, the oldest first."""
        return self._last.snapshot()

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        """Count it, keep it."""
        code = error_code(error)
        self._counts.add(code)
        self._last.add(
            TrackedError(
                code=code,
                session_id=session_id,
                time=datetime.now(UTC),
                text=str(error)[:300] if self._texts else "",
            )
        )
