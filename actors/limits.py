"""Every bound of the runtime, in one place; each is a keyword of `create_session_manager`."""

from __future__ import annotations

from typing import Any, Final

import attrs

from .errors import ConfigurationError

_MOST: Final = 1e300
"""Times are added up as floats, which whole numbers can exceed."""


def _limit(default: float, *, least: float, what: str) -> Any:
    """A field that refuses a value below `least`, naming the value; `what` is its documentation."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        wanted = "an int" if isinstance(default, int) else "a number"
        fits = isinstance(value, int if isinstance(default, int) else (int, float))
        if isinstance(value, bool) or not fits:
            raise ConfigurationError(f"{attribute.name} must be {wanted}, not {value!r}")
        if isinstance(value, int) and not isinstance(default, int) and value > _MOST:
            raise ConfigurationError(f"{attribute.name} must be {_MOST:g} or less")
        if not value >= least:  # type: ignore[operator]
            raise ConfigurationError(f"{attribute.name} must be {least} or more, not {value!r}")

    return attrs.field(default=default, validator=check, metadata={"what": what})


@attrs.frozen(kw_only=True)
class Limits:
    """The bounds, their defaults, and what happens beyond them.

    Raises ConfigurationError for a value of the wrong type or below its least.
    """

    max_live_sessions: int = _limit(
        10_000, least=1, what="sessions loaded at once; beyond: idle ones leave, else a FIFO wait"
    )
    idle_seconds: float = _limit(
        300.0, least=0.0, what="a session idle this long leaves memory; 0: as soon as it is idle"
    )
    mailbox_size: int = _limit(
        1_000, least=1, what="messages queued per session; beyond: MailboxFullError"
    )
    max_waiting_sessions: int = _limit(
        100_000, least=1, what="sessions waiting for a live place; beyond: CapacityError at once"
    )
    queue_timeout_seconds: float = _limit(
        30.0, least=0.0, what="wait for a live place, or for a turn's; beyond: CapacityError"
    )
    max_inflight_turns: int = _limit(
        10_000, least=1, what="turns with their providers at once; beyond: a FIFO wait"
    )
    max_inflight_turns_per_user: int = _limit(
        0, least=0, what="of these, those of one user; 0: no such limit; beyond: a FIFO wait"
    )
    max_sessions_per_user: int = _limit(
        0, least=0, what="not deleted ones; 0: no such limit; beyond: CapacityError"
    )
    turn_timeout_seconds: float = _limit(
        600.0, least=0.001, what="a provider's whole answer; beyond: ProviderTimeoutError"
    )
    checkpoint_seconds: float = _limit(
        1.0, least=0.0, what="a running answer is stored so far, so often at most; 0: never"
    )
    middleware_timeout_seconds: float = _limit(
        30.0, least=0.001, what="one middleware call; beyond: MiddlewareError"
    )
    hook_timeout_seconds: float = _limit(
        30.0, least=0.001, what="one hook call; beyond: it is cancelled and reported"
    )
    hook_lane_size: int = _limit(
        1_000, least=1, what="hook calls queued per session; beyond: the newest is dropped, counted"
    )
    cancel_grace_seconds: float = _limit(
        5.0, least=0.001, what="a cancelled guest's time to end; beyond: abandoned, quarantine"
    )
    blocking_seconds: float = _limit(
        0.25, least=0.001, what="one step of a guest without an await; beyond: logged and counted"
    )
    drain_seconds: float = _limit(
        30.0, least=0.0, what="aclose() lets turns finish; beyond: they are interrupted"
    )
    max_restarts: int = _limit(
        3, least=0, what="crashes of one session within restart_window_seconds; beyond: quarantine"
    )
    restart_window_seconds: float = _limit(60.0, least=0.001, what="see max_restarts")
    quarantine_seconds: float = _limit(
        60.0, least=0.001, what="rest of a quarantined session: SessionQuarantinedError"
    )
    storage_batch_size: int = _limit(
        1_000, least=1, what="writes committed together; the others are the next batch"
    )
    storage_queue_size: int = _limit(
        100_000, least=1, what="writes waiting, at most one a live session; beyond: CapacityError"
    )
    idempotency_hours: float = _limit(
        24.0, least=0.0, what="an idempotency key is kept at least so long; beyond: forgotten"
    )
    window_cache_bytes: int = _limit(
        32 * 1024 * 1024, least=0, what="prompt windows of all sessions; beyond: read again"
    )
    event_buffer_size: int = _limit(
        1_000, least=1, what="events buffered per subscriber; beyond: a gap marker with a count"
    )
    max_message_bytes: int = _limit(
        4 * 1024 * 1024, least=1, what="UTF-8 of one message; beyond: InvalidMessageError"
    )
    max_metadata_bytes: int = _limit(
        64 * 1024, least=2, what="JSON of one message's metadata; beyond: InvalidMessageError"
    )
    max_context_bytes: int = _limit(
        1024 * 1024, least=2, what="JSON of a session's context; beyond: InvalidMessageError"
    )
    max_config_bytes: int = _limit(
        64 * 1024, least=2, what="JSON of each of a session's configs; beyond: an error"
    )
    page_size: int = _limit(1_000, least=1, what="sessions that one list call returns at most")
