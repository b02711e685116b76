"""Guests: middleware, lifecycle hooks and event subscribers, kept at arm's length.

A guest may raise, hang or lie; it can refuse or spoil its own message and nothing else (G15).
Middleware runs inside the turn, in mailbox order, each call with a timeout. Hooks run after the
commit, in a lane per session, in commit order, awaited by neither the reply nor the next turn.
Each hook call has a task of its own, in the context of the call that caused it.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
import attrs

from ..actors.answer import describe
from ..actors.errors import MessageRefused, MiddlewareError, RateLimitedError
from ..actors.ports import GuestStatistics, IGuests, Notice
from ..actors.values import about, check_text, encode_object
from ..actors.wait import current_backend
from ..actors.watch import Watched
from .events import EventHistory, EventStream, SessionEvent, preview_of
from .views import SessionContext, SessionMessage, now_us, view_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from ..actors.model import MessageRecord, StoredSession
    from .events import EventFilter
    from .host import Host, Runtime

logger = logging.getLogger("langswarm.core.session")


class ISessionMiddleware:
    """Sees every message on its way in and every answer on its way out, in the order added.

    Derive from it or write any class with this method.
    """

    holds_back_answers: bool = True
    """Whether an answer must not be shown before this middleware has seen the whole of it.

    True: who follows a turn gets its text at once, at its end. False, for middleware that does not
    change or refuse answers (logging, checks of user messages): the text streams while it comes.
    """

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        """Return the message, changed or not; raise `MessageRefused` to refuse it.

        `RateLimitedError` refuses it for now, and says when to come again. `message.role` tells
        the directions apart. Any other exception, and no answer within
        `middleware_timeout_seconds`, fails the call with MiddlewareError; an answer that could
        not be processed is never shown.
        """
        del session_id, context
        return message


class ISessionLifecycleHook:
    """Is told what happened, after it was committed. Every method is optional."""

    async def on_session_created(self, session_id: str, user_id: str) -> None:
        """A session was created."""

    async def on_message_sent(self, session_id: str, message: SessionMessage) -> None:
        """A user or system message was stored."""

    async def on_message_received(self, session_id: str, message: SessionMessage) -> None:
        """An answer was stored."""

    async def on_context_updated(self, session_id: str) -> None:
        """The context was updated."""

    async def on_session_archived(self, session_id: str) -> None:
        """The session was archived."""

    async def on_session_deleted(self, session_id: str) -> None:
        """The session was deleted."""

    async def on_session_evicted(self, session_id: str) -> None:
        """The session left memory; it comes back with the next call."""

    async def on_session_error(self, session_id: str, error: Exception) -> None:
        """A turn failed, a guest misbehaved, or a message was refused."""


def _of_session(notice: Notice) -> tuple[Any, ...]:
    return (notice.record.session_id,)


def _of_message(notice: Notice) -> tuple[Any, ...]:
    session_id = notice.record.session_id
    return (session_id, None if notice.message is None else view_of(session_id, notice.message))


def _turn_no(notice: Notice) -> int:
    return 0 if notice.message is None else notice.message.turn_no


_NOT_DURABLE = frozenset(("session_error", "session_evicted"))

# notice -> the hook's method and its arguments
_HOOKS: dict[str, tuple[str, Callable[[Notice], tuple[Any, ...]]]] = {
    "session_created": (
        "on_session_created",
        lambda notice: (notice.record.session_id, notice.record.user_id),
    ),
    "message_sent": ("on_message_sent", _of_message),
    "message_received": ("on_message_received", _of_message),
    "context_updated": ("on_context_updated", _of_session),
    "session_archived": ("on_session_archived", _of_session),
    "session_deleted": ("on_session_deleted", _of_session),
    "session_evicted": ("on_session_evicted", _of_session),
    "session_error": (
        "on_session_error",
        lambda notice: (notice.record.session_id, notice.error),
    ),
}


@attrs.frozen
class _Call:
    """One hook call that waits in a lane."""

    method: Callable[..., Awaitable[object]]
    notice: Notice
    arguments: Callable[[Notice], tuple[Any, ...]]
    context: Context


class Guests(IGuests):
    """All guests of one manager."""

    def __init__(self, host: Host, *, event_previews: bool) -> None:
        self._host = host
        self._limits = host.limits
        self._event_previews = event_previews
        self._middleware: list[ISessionMiddleware] = []
        self._hooks: list[object] = []
        self._streams: WeakSet[EventStream] = WeakSet()
        # True from the first subscriber on: one that went may come back for what it missed.
        self._has_subscribers = False
        self._history = EventHistory(host.limits.event_buffer_size)
        # Invariant: a session has a lane exactly while a call of it waits or runs.
        self._lanes: dict[str, deque[_Call]] = {}
        self._lanes_of: Runtime | None = None
        self._lanes_empty = anyio.Event()
        self._scopes: set[anyio.CancelScope] = set()
        self._failed = 0
        self._dropped = 0

    def add_middleware(self, middleware: ISessionMiddleware) -> None:
        """Last in the order."""
        self._middleware.append(middleware)
        self.has_middleware = True
        self.holds_back_answers |= bool(getattr(middleware, "holds_back_answers", True))
        self.filter_seconds += self._limits.middleware_timeout_seconds

    def add_hook(self, hook: object) -> None:
        """Last in the order."""
        self._hooks.append(hook)
        self.is_listening = True

    def subscribe(self, wanted: EventFilter, after: int | None) -> EventStream:
        """A stream of what happens from now on, or of what has happened behind a cursor."""
        replayed = () if after is None else self._history.after(after)
        size = self._limits.event_buffer_size
        stream = EventStream(wanted, buffer_size=size, replayed=replayed)
        self._streams.add(stream)
        self._has_subscribers = self.is_listening = True
        return stream

    def close_streams(self) -> None:
        """No more events."""
        for stream in list(self._streams):
            stream.close()

    @property
    def backlog(self) -> int:
        """Sessions of which a hook call waits or runs."""
        return len(self._lanes)

    def statistics(self) -> GuestStatistics:
        """A snapshot of the guests."""
        return GuestStatistics(
            middleware=len(self._middleware),
            hooks=len(self._hooks),
            subscribers=len(self._streams),
            failed_hook_calls=self._failed,
            dropped_hook_calls=self._dropped,
        )

    # -------------------------------------------------------- middleware

    async def filter(self, state: StoredSession, message: MessageRecord) -> tuple[str, str]:
        """Through all middleware in order; returns content and metadata."""
        session_id = state.record.session_id
        view = view_of(session_id, message)
        documents = state.documents
        for middleware in tuple(self._middleware):
            context = SessionContext(state.record, documents.context, documents.context_version)
            view = await self._process(middleware, session_id, view, context)
        limits = self._limits
        content = check_text(
            view.content, "a middleware's message", max_bytes=limits.max_message_bytes, empty=True
        )
        metadata = encode_object(
            view.metadata, "a middleware's metadata", max_bytes=limits.max_metadata_bytes
        )
        return content, metadata

    async def _process(
        self,
        middleware: ISessionMiddleware,
        session_id: str,
        view: SessionMessage,
        context: SessionContext,
    ) -> SessionMessage:
        name = type(middleware).__name__
        seconds = self._limits.middleware_timeout_seconds
        try:
            result: object = None
            with anyio.move_on_after(seconds) as scope:
                result = await middleware.process_message(session_id, view, context)
        except (MessageRefused, RateLimitedError):
            raise
        except Exception as error:
            raise MiddlewareError(f"the middleware {name} raised {describe(error)}") from error
        if scope.cancelled_caught:
            raise MiddlewareError(
                f"the middleware {name} gave no answer within "
                f"middleware_timeout_seconds={seconds:g}"
            )
        if not isinstance(result, SessionMessage):
            raise MiddlewareError(
                f"the middleware {name} returned {type(result).__name__}, not a SessionMessage"
            )
        return result

    # -------------------------------------------------------- hooks and events

    def publish(self, notice: Notice, context: Context) -> None:
        """Queue the hook calls, fill the subscribers' buffers. Never raises, whatever a hook is."""
        try:
            if self._hooks and notice.kind in _HOOKS:
                self._queue_calls(notice, context)
            if self._has_subscribers:
                self._offer(notice)
        except Exception:
            self._failed += 1
            logger.exception("a hook could not be called")

    def _offer(self, notice: Notice) -> None:
        record, message = notice.record, notice.message
        event = SessionEvent(
            type=notice.kind,
            cursor=self._history.last_cursor + 1,
            session_id=record.session_id,
            user_id=record.user_id,
            revision=0 if notice.kind in _NOT_DURABLE else record.revision,
            created_us=now_us(),
            message_id=None if message is None else view_of(record.session_id, message).message_id,
            message_preview=preview_of(message.content) if message and self._event_previews else "",
            error=notice.error,
        )
        self._history.add(event)
        for stream in tuple(self._streams):
            stream.offer(event)

    def _queue_calls(self, notice: Notice, context: Context) -> None:
        name, arguments = _HOOKS[notice.kind]
        ignored = getattr(ISessionLifecycleHook, name)
        for hook in self._hooks:
            method = getattr(hook, name, None)
            if method is None or getattr(method, "__func__", None) is ignored:
                continue
            self._queue(_Call(method, notice, arguments, context))

    def _queue(self, call: _Call) -> None:
        session_id = call.notice.record.session_id
        runtime = self._host.started
        if runtime is not self._lanes_of:
            # another event loop: what waited on the one before died with it
            self._lanes, self._lanes_of = {}, runtime
        lane = self._lanes.get(session_id)
        if lane is None:
            lane = self._lanes[session_id] = deque((call,))
            self._start(session_id, lane)
        elif len(lane) >= self._limits.hook_lane_size:
            self._dropped += 1
            logger.error(
                "the hooks of session %s are too slow; a call was dropped",
                session_id,
                extra=about(session_id),
            )
        else:
            lane.append(call)

    def _start(self, session_id: str, lane: deque[_Call]) -> None:
        if self._lanes_of is not None:
            executor = self._lanes_of.executor
            executor.start(lane[0].context.copy(), self._run, session_id, lane)

    async def _run(self, session_id: str, lane: deque[_Call]) -> None:
        try:
            await self._call(lane[0])
        finally:
            lane.popleft()
            if lane:
                self._start(session_id, lane)
            elif self._lanes.get(session_id) is lane:
                del self._lanes[session_id]
                if not self._lanes:
                    self._lanes_empty.set()

    async def _call(self, call: _Call) -> None:
        seconds = self._limits.hook_timeout_seconds
        scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        self._scopes.add(scope)
        failure: BaseException | None = None
        try:
            with scope:
                await self._watched(call)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a guest may raise anything
            failure = error
        finally:
            self._scopes.discard(scope)
        if failure is None and scope.cancelled_caught:
            failure = TimeoutError(f"a hook did not end within hook_timeout_seconds={seconds:g}")
        if failure is not None and not current_backend().native_cancellations():
            self._hook_failed(call, failure)

    def _watched(self, call: _Call) -> Awaitable[object]:
        running = call.method(*call.arguments(call.notice))
        runtime = self._lanes_of
        if runtime is None:
            return running
        notice = call.notice
        blocking, session_id = runtime.supervisor.blocking, notice.record.session_id
        return Watched(running, blocking, "a hook", session_id, _turn_no(notice))

    def _hook_failed(self, call: _Call, failure: BaseException) -> None:
        self._failed += 1
        error = failure if isinstance(failure, Exception) else RuntimeError(describe(failure))
        notice = call.notice
        session_id = notice.record.session_id
        logger.error(
            "the hook %r failed for session %s",
            getattr(call.method, "__qualname__", call.method),
            session_id,
            exc_info=error,
            extra=about(session_id, _turn_no(notice)),
        )
        if notice.kind != "session_error":
            told = Notice(kind="session_error", record=notice.record, error=error)
            self.publish(told, call.context)

    async def drain(self, seconds: float) -> None:
        """Let the lanes run empty, at most this long; then cancel what runs, drop what waits."""
        with anyio.move_on_after(seconds):
            while self._lanes:
                self._lanes_empty = anyio.Event()
                await self._lanes_empty.wait()
        for session_id, lane in self._lanes.items():
            self._dropped += len(lane)
            logger.error(
                "%d hook calls of session %s did not end before the runtime",
                len(lane),
                session_id,
                extra=about(session_id),
            )
            while len(lane) > 1:
                lane.pop()
        for scope in self._scopes:
            scope.cancel()


for _public in (ISessionMiddleware, ISessionLifecycleHook):
    _public.__module__ = "langswarm.core.session.interfaces"
