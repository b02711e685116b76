"""Anthropic's message threads: the server holds a conversation between two requests.

A reply is continued once, within five minutes, by one request at a time. What is not continued as
agreed is refused with an `error_code` in the error's details, and the client sends all anew.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from .replies import anthropic_error
from .values import as_object

if TYPE_CHECKING:
    from .state import Call
    from .values import Json

BETA = "message-threads-2026-08-12"
LIFETIME_SECONDS = 300.0
_CREATE_ONLY = ("system", "tools")

Said = list[tuple[str, str]]


@attrs.define(kw_only=True)
class Held:
    """A conversation up to one reply."""

    said: Said
    """System text first, the reply last."""
    used_at: float
    busy: bool = False
    continued: bool = False


@attrs.define(kw_only=True)
class Threads:
    """`server.state.threads`."""

    unsupported: tuple[str, ...] = ()
    """Features for which every threaded request is refused."""
    ignored: bool = False
    """As a proxy does it: the field is taken and not heeded."""
    _held: dict[str, Held] = attrs.field(factory=dict[str, Held])
    _passed: float = 0.0

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of the replies that can be continued."""
        return tuple(key for key, held in self._held.items() if self._lives(held))

    def pass_time(self, seconds: float) -> None:
        """Threads get older."""
        self._passed += seconds

    def expire(self) -> None:
        """All threads are gone."""
        self._held.clear()

    def _now(self) -> float:
        return time.monotonic() + self._passed

    def _lives(self, held: Held) -> bool:
        return not held.continued and self._now() - held.used_at <= LIFETIME_SECONDS

    def store(self, message_id: str, said: Said) -> None:
        self._held[message_id] = Held(said=said, used_at=self._now())

    def take(self, message_id: object) -> Held:
        """What is held up to this reply, for the one request that continues it."""
        held = self._held.get(str(message_id))
        if held is None or self._now() - held.used_at > LIFETIME_SECONDS:
            raise _refusal(404, "thread_not_found", f"thread: {message_id} was not found")
        held.used_at = self._now()
        if held.busy:
            raise _refusal(400, "thread_continue_in_flight", "thread: it is being continued")
        if held.continued:
            raise _refusal(400, "thread_already_continued", "thread: it was continued already")
        held.busy = True
        return held


@attrs.define(kw_only=True)
class ThreadTurn:
    """One request's part in a thread."""

    threads: Threads
    before: Said
    held: Held | None = None
    """What it continues; None: it creates a thread."""

    def complete(self, message_id: str, said: Said) -> None:
        """The reply is whole: it can be continued, the one before it cannot any more."""
        if self.held is not None:
            self.held.continued = True
        self.threads.store(message_id, said)


def thread_turn(call: Call) -> ThreadTurn | None:
    """What the request's `thread` says; None: it is not in a thread. Raises VendorError."""
    field = call.body.get("thread")
    threads = call.state.threads
    if field is None or threads.ignored:
        return None
    given = as_object(field)
    if BETA not in call.betas or given is None:
        raise anthropic_error(
            400, "invalid_request_error", "thread: Extra inputs are not permitted"
        )
    if threads.unsupported:
        raise _refusal(
            400,
            "thread_unsupported_request",
            "thread: this request cannot be threaded",
            unsupported=list(threads.unsupported),
        )
    if given.get("type") == "create":
        return ThreadTurn(threads=threads, before=[])
    return _continued(call, given)


def _continued(call: Call, given: Json) -> ThreadTurn:
    if given.get("type") != "continue" or not given.get("previous_message_id"):
        raise anthropic_error(400, "invalid_request_error", "thread: it cannot be understood")
    for name in _CREATE_ONLY:
        if name in call.body:
            raise anthropic_error(
                400, "invalid_request_error", f"{name}: a thread is created with it"
            )
    held = call.state.threads.take(given["previous_message_id"])

    def release() -> None:
        held.busy = False

    call.finally_(release)
    return ThreadTurn(threads=call.state.threads, before=held.said, held=held)


def _refusal(status: int, code: str, message: str, **more: object) -> Exception:
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    return anthropic_error(status, kind, message, details={"error_code": code, **more})
