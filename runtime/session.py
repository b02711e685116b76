"""The session handle: what users hold of a session. It keeps no state of its own.

Any number of handles may name one session; all speak to the same actor. A handle stays good while
the session is evicted and comes back, and keeps the runtime alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import anyio.lowlevel

from ..actors.decisions import (
    AppendMessage,
    ChangeStatus,
    ClearMessages,
    RetryTurn,
    Rewind,
    SendMessage,
    UpdateConfig,
    UpdateContext,
)
from ..actors.errors import (
    ConfigurationError,
    InvalidMessageError,
    MessageNotFoundError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionNotFoundError,
    TurnNotFoundError,
)
from ..actors.model import (
    EMPTY_JSON,
    MessageQuery,
    MessageRecord,
    Role,
    SessionRecord,
    SessionStatus,
    StoredSession,
)
from ..actors.ports import ProviderSettings
from ..actors.transcript import Transcript
from ..actors.values import check_count, check_text, decode_object, encode_object
from .views import (
    SessionContext,
    SessionMessage,
    SessionMetrics,
    checked_us,
    metrics_of,
    to_datetime,
    to_us,
    view_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ..actors.decisions import Command
    from ..actors.idempotency import ClaimKey
    from ..actors.mailbox import Ticket
    from ..actors.supervisor import OnBusy, SessionHeader
    from .export import ExportFormat
    from .host import Anchor
    from .inspection import RunningTurn, SessionInspection
    from .turn_stream import TurnStream

T = TypeVar("T")

_ID_BYTES = 1_000


class Session:
    """One conversation. Get it from `create_session` or `get_session`.

    Sends and updates of one session run one at a time in the order of their calls, whichever
    handle and task they come from (G1, G2); a call that returned is durable (G3). Reads answer at
    once from committed state and never wait for a turn.

    Every method may raise StorageError, RuntimeClosedError and SessionQuarantinedError; those
    that write also SessionArchivedError, SessionNotFoundError (deleted), MailboxFullError and
    CapacityError.
    """

    __slots__ = ("_anchor", "_header")

    def __init__(self, anchor: Anchor, header: SessionHeader) -> None:
        self._anchor = anchor
        self._header = header

    def __repr__(self) -> str:
        record = self._record
        return (
            f"<Session {record.session_id!r} {record.status.value} "
            f"{record.provider}/{record.model} messages={record.visible_messages}>"
        )

    # -------------------------------------------------------- facts, without waiting

    @property
    def _record(self) -> SessionRecord:
        if self._header.record is None:
            raise RuntimeBugError("a session handle without a session")
        return self._header.record

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._record.session_id

    @property
    def user_id(self) -> str:
        """Whose session it is."""
        return self._record.user_id

    @property
    def provider(self) -> str:
        """The name of its provider."""
        return self._record.provider

    @property
    def model(self) -> str:
        """The model it asks for."""
        return self._record.model

    @property
    def status(self) -> SessionStatus:
        """active, archived or deleted, as of this process's last commit; compares to str."""
        return self._record.status

    @property
    def message_count(self) -> int:
        """Visible messages in the history."""
        return self._record.visible_messages

    @property
    def created_at(self) -> datetime:
        """When it was created: aware, UTC."""
        return to_datetime(self._record.created_us)

    @property
    def last_activity(self) -> datetime:
        """The last commit: aware, UTC."""
        return to_datetime(self._record.updated_us)

    @property
    def provider_session_id(self) -> str | None:
        """The provider's own conversation id, where it keeps one."""
        return self._record.provider_session_id

    @property
    def provider_session(self) -> Any:
        """The provider's own controls of this session; for the mock a `MockProviderSession`.

        None where the provider has none. What is set there holds from the next turn on, survives
        eviction while a handle is held, and is stored with that turn.
        """
        host = self._anchor.host
        provider = host.providers.get(self.provider)
        if provider is None:
            return None
        return provider.session_view(_Settings(self._header, host.limits.max_config_bytes))

    @property
    def current_turn(self) -> RunningTurn | None:
        """The turn that has not ended, with its id, stage, age and the characters so far."""
        from .inspection import turn_of  # noqa: PLC0415 - not for every program

        runtime = None if self._header.is_erased else self._anchor.host.started
        turn = None if runtime is None else runtime.supervisor.turn_of(self.session_id)
        return None if turn is None else turn_of(turn, turn.now())

    def inspect(self) -> SessionInspection:
        """What the session is doing in this process: queue, turn, stage, last error. Plain."""
        from .inspection import session_of  # noqa: PLC0415 - not for every program

        self._refuse_erased()
        return session_of(self._anchor.host.runtime().supervisor, self.session_id)

    # -------------------------------------------------------- messages

    def submit(
        self,
        content: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        on_busy: OnBusy | None = None,
        idempotency_key: str | None = None,
    ) -> Ticket[SessionMessage]:
        """Take the next place for a user message at once, and return it as a `Ticket` (G1).

        Plain, so the order of calls is the order of turns. Await the ticket for the answer; leave
        it, and the message runs all the same; `withdraw()` it while it is queued.

        Takes and raises what `send_message` does; what refuses the message at once is raised here.
        """
        limits = self._anchor.host.limits
        check_text(content, "the message", max_bytes=limits.max_message_bytes)
        text = self._metadata(metadata)
        claim = self._claim("send_message", idempotency_key, content, text)
        command = SendMessage(content=content, metadata=text, claim=claim)
        return self._submit(command, self._present_message, timeout, on_busy)

    async def send_message(
        self,
        content: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        on_busy: OnBusy | None = None,
        idempotency_key: str | None = None,
    ) -> SessionMessage:
        """Send a user message and return the assistant's answer; both are stored by then (G3).

        The place in the queue is taken before anything is awaited. A caller that is cancelled
        while its message is queued takes the message along; while it runs, the turn goes on to
        its commit (G9).

        Args:
            content: 1 to `max_message_bytes` bytes of UTF-8.
            metadata: JSON values stored with the message, at most `max_metadata_bytes`.
            timeout: seconds for all of it. A message that is queued for longer never runs; a turn
                that runs for longer is interrupted. None: no limit but `turn_timeout_seconds`.
            on_busy: what to do if the session has something to do already: "queue" behind it;
                "reject" the message; "interrupt" the turn that runs and queue behind the messages
                that were sent earlier. None: the session_config's `on_busy`, else "queue".
            idempotency_key: the same key, content and metadata are one turn, however often and from
                however many callers they come, also after a restart (G7); calls that share a turn
                share the longest of their timeouts. A turn under the key that
                was interrupted, or failed in a way that may pass, is run again if it is the last
                one. Kept for `idempotency_hours`.

        Raises:
            InvalidMessageError: a value that cannot be stored; nothing was queued.
            MailboxFullError, CapacityError: overload; the error hands the message back.
            SessionBusyError: `on_busy="reject"`.
            DeadlineExceededError: `timeout` passed.
            IdempotencyConflictError: the key was used for another message before.
            TurnInterruptedError: the turn was stopped; what had arrived is in the history.
            MessageRefused, MiddlewareError: a middleware refused it, or failed.
            ProviderError: no complete answer; the message stays, marked `failed`.
            ReentrantCallError: called by a guest from inside this session's own turn.
        """
        return await self.submit(
            content,
            metadata=metadata,
            timeout=timeout,
            on_busy=on_busy,
            idempotency_key=idempotency_key,
        )

    def stream_message(
        self,
        content: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        on_busy: OnBusy | None = None,
        idempotency_key: str | None = None,
    ) -> TurnStream:
        """Send a user message and follow its turn: `async for event in turn` inside `async with`.

        The place in the queue is taken by this plain call (G1). The turn belongs to the session:
        leaving the block, or losing the client behind it, does not stop it (G9); `stop()` does.
        `follow(after=event.cursor)` goes on from any event, also in another process.

        Takes what `send_message` does. What refuses the message at once is raised here; what
        happens later is told by the last event.
        """
        from .session_turns import SessionTurns  # noqa: PLC0415 - not for every program
        from .turn_stream import TurnStream  # noqa: PLC0415

        ticket = self.submit(
            content,
            metadata=metadata,
            timeout=timeout,
            on_busy=on_busy,
            idempotency_key=idempotency_key,
        )
        if ticket.transcript is None:
            ticket.transcript = Transcript(self._anchor.host.runtime().backend)
        return TurnStream(SessionTurns(self), ticket=ticket)

    def follow(self, turn_id: str | None = None, *, after: str | None = None) -> TurnStream:
        """The events of a turn, from its beginning or after a cursor, and on while it runs.

        Any number of followers, from any handle and any task; none of them is waited for. A turn
        that has ended is told from the history.

        Args:
            turn_id: as in `message.turn_id`; None: that of the cursor, else the turn that runs,
                else the last one.
            after: the cursor of the last event that was seen; None: from the beginning.

        Raises:
            ConfigurationError: no cursor, or one of another turn.
            TurnNotFoundError: (when iterated) no such turn, or its messages were cleared.
        """
        from .session_turns import SessionTurns  # noqa: PLC0415 - not for every program
        from .turn_stream import Cursor, TurnStream  # noqa: PLC0415

        cursor = None if after is None else Cursor.parse(after)
        if turn_id is not None:
            turn_no = self._turn_no(turn_id)
            if cursor is not None and cursor.turn_no != turn_no:
                raise ConfigurationError(f"after={after!r} is no cursor of turn {turn_id!r}")
            if cursor is None:
                return TurnStream(SessionTurns(self), turn_no=turn_no)
        return TurnStream(SessionTurns(self), after=cursor)

    async def stop(self, turn_id: str | None = None) -> bool:
        """Interrupt the turn that runs; what had arrived of the answer is kept (G9).

        Overtakes everything that is queued. Returns when the turn has ended, `cancel_grace_seconds`
        at most after its provider was cancelled: True; False if no turn ran, or not this one.

        Raises ReentrantCallError from inside this session's own turn.
        """
        supervisor = self._anchor.host.runtime().supervisor
        self._refuse_erased()
        supervisor.refuse_reentrant_wait(self.session_id)
        turn_no = None if turn_id is None else self._turn_no(turn_id)
        turn = supervisor.stop(self.session_id, turn_no)
        await anyio.lowlevel.checkpoint()
        while turn is not None and not turn.transcript.ended:
            await turn.transcript.change()
        return turn is not None

    async def retry(self, *, timeout: float | None = None) -> SessionMessage:
        """Run the last turn again, which failed or was interrupted; returns the new answer.

        The new turn takes the old one's place: its messages are hidden in the same commit (G5). Its
        question has passed the middleware before and does not pass it again.

        Raises what `send_message` does, and:
            TurnStateError: the last turn completed; `regenerate()` asks for another answer.
            TurnNotFoundError: there is none, or it was cleared or rewound.
        """
        return await self._submit(RetryTurn(how="retry"), self._present_message, timeout)

    async def regenerate(self, *, timeout: float | None = None) -> SessionMessage:
        """Ask for another answer to the last question, in place of the last one; see `retry`."""
        return await self._submit(RetryTurn(how="regenerate"), self._present_message, timeout)

    async def rewind(self, to: SessionMessage | str | int) -> None:
        """Hide everything behind a message: it is the last one then; `seq` goes on where it was.

        Args:
            to: the message, its id, or its `seq`; 0 hides all.

        Raises MessageNotFoundError for an unknown id.
        """
        from .branching import seq_of  # noqa: PLC0415 - not for every program

        await self._submit(Rewind(to_seq=await seq_of(self, to)), _present_nothing)

    async def fork(
        self, at: SessionMessage | str | int | None = None, *, session_id: str | None = None
    ) -> Session:
        """A new session of the same user with a copy of the history, context and configs.

        The copies have ids of their own, and nothing of what a provider keeps is taken along. A
        turn that is running is no part of it.

        Args:
            at: the last message to copy (itself, its id, or its `seq`); None: all.
            session_id: of the new session; default: 128 random bits.

        Raises SessionExistsError, MessageNotFoundError; InvalidMessageError for a history of more
        than 100,000 messages.
        """
        from .branching import fork_of  # noqa: PLC0415 - not for every program

        if session_id is not None:
            check_text(session_id, "session_id", max_bytes=_ID_BYTES)
        name, creation = await fork_of(self, at, session_id)
        return Session(self._anchor, await self._anchor.host.created(name, creation))

    async def send_system_message(
        self,
        content: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> SessionMessage:
        """Add a system message to the history, in its place among the sends; returns it stored."""
        limits = self._anchor.host.limits
        check_text(content, "the message", max_bytes=limits.max_message_bytes)
        text = self._metadata(metadata)
        claim = self._claim("send_system_message", idempotency_key, content, text)
        command = AppendMessage(content=content, metadata=text, claim=claim)
        return await self._submit(command, self._present_message)

    async def add_message(
        self,
        role: Role | str,
        content: str,
        *,
        timestamp: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> SessionMessage:
        """Add a message that was written elsewhere, without a turn; returns it stored.

        It takes its place among the sends, so the history is in the order of the calls whatever
        `timestamp` says, and the next turn's prompt has it. No provider is asked and no middleware
        sees it; hooks and events tell it.

        Args:
            role: "user", "assistant" or "system".
            content: up to `max_message_bytes` bytes of UTF-8; "" is allowed, and no provider is
                shown what is blank.
            timestamp: when it was written; a naive datetime is local time. None: now.
            metadata: JSON values stored with it, at most `max_metadata_bytes`.
            idempotency_key: the same key and arguments add one message, also after a restart (G7).

        Raises:
            InvalidMessageError: a value that cannot be stored.
            IdempotencyConflictError: the key was used for another message before.
        """
        limits = self._anchor.host.limits
        check_text(content, "the message", max_bytes=limits.max_message_bytes, empty=True)
        text = self._metadata(metadata)
        kind, at = _role(role), None if timestamp is None else checked_us(timestamp, "timestamp")
        claim = self._claim("add_message", idempotency_key, kind.value, content, text, str(at))
        command = AppendMessage(
            content=content, role=kind, metadata=text, created_us=at, claim=claim
        )
        return await self._submit(command, self._present_message)

    async def get_messages(
        self,
        limit: int | None = None,
        *,
        role: Role | str | None = None,
        start_time: datetime | None = None,
        since: datetime | None = None,
        end_time: datetime | None = None,
        after: int | None = None,
        before: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[SessionMessage]:
        """The newest `limit` messages that match, in chronological order (by `seq`).

        Args:
            limit: how many at most; None: all.
            role: only those of this role.
            start_time: not before this; a naive datetime is local time. `since` is the same.
            end_time: before this.
            after: only those with a greater `seq`; None: from the first one.
            before: only those with a smaller `seq`; None: to the last one.
            metadata: only those whose metadata has all of these at its top: equal JSON values.
        """
        start = start_time if start_time is not None else since
        query = MessageQuery(
            limit=check_count(limit, "limit"),
            role=None if role is None else _role(role),
            since_us=None if start is None else to_us(start),
            until_us=None if end_time is None else to_us(end_time),
            after_seq=check_count(after, "after") or 0,
            before_seq=check_count(before, "before"),
            metadata=self._wanted_metadata(metadata),
        )
        return [view_of(self.session_id, record) for record in await self._read(query)]

    async def get_message(self, message_id: str) -> SessionMessage:
        """One message by its id. Raises MessageNotFoundError."""
        check_text(message_id, "message_id", max_bytes=_ID_BYTES)
        session_id, _, place = message_id.rpartition("/")
        if session_id == self.session_id and place.isascii() and place.isdigit():
            seq = int(place[:10])
            query = MessageQuery(after_seq=seq - 1, before_seq=seq + 1, limit=1)
        else:
            query = MessageQuery(message_id=message_id, limit=1)
        for record in await self._read(query):
            view = view_of(self.session_id, record)
            if view.message_id == message_id:
                return view
        raise MessageNotFoundError(self.session_id, message_id)

    @overload
    async def export_conversation(
        self, format: Literal["dict"] = "dict", *, include_hidden: bool | None = None
    ) -> dict[str, Any]: ...

    @overload
    async def export_conversation(
        self, format: Literal["jsonl", "markdown"], *, include_hidden: bool | None = None
    ) -> str: ...

    @overload
    async def export_conversation(
        self, format: Literal["openai"], *, include_hidden: bool | None = None
    ) -> list[dict[str, str]]: ...

    @overload
    async def export_conversation(
        self, format: Literal["anthropic"], *, include_hidden: bool | None = None
    ) -> dict[str, Any]: ...

    async def export_conversation(
        self,
        format: ExportFormat = "dict",  # noqa: A002 - as open() and json have it
        *,
        include_hidden: bool | None = None,
    ) -> Any:
        """The whole conversation as data, as of one revision; a turn that runs is no part of it.

        Args:
            format: what is returned.
                "dict": JSON values with a format and a version: all that is stored of the session,
                for `manager.import_conversation`.
                "jsonl": the same as text, a line for the session and one for each message.
                "markdown": a text for people; what was said stands in fences.
                "openai": a list of messages as Chat Completions takes them.
                "anthropic": `messages` and `system`, as the Messages API takes them.
                The last two have what a provider may see: nothing hidden, failed or blank.
            include_hidden: the messages that a rewind or a retry has hidden, too, marked as
                hidden. None: in "dict" and "jsonl" only.

        No key is in it: sessions hold none. Its size is that of the history.

        Raises:
            ConfigurationError: an unknown format, or one that cannot have hidden messages.
            StorageError: of code `busy` (retryable), if the history was cleared or rewound again
                and again while it was read.
        """
        from .export import export_of  # noqa: PLC0415 - not for every program

        return await export_of(self, format, include_hidden=include_hidden)

    async def clear_messages(self) -> None:
        """Delete the history. `seq` goes on where it was; metrics keep their lifetime counts."""
        await self._submit(ClearMessages(), _present_nothing)

    # -------------------------------------------------------- context and config

    async def update_context(
        self,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
        **keywords: Any,
    ) -> SessionContext:
        """Merge JSON values into the context at the top level, in order with the sends (G6).

        A turn sees exactly the updates that were called before its send. `replace=True` makes the
        values the whole context. Returns the context as it is then. A repetition under the same
        `idempotency_key` changes nothing and returns the context as it is now (G7).
        """
        limits = self._anchor.host.limits
        values = {**(changes or {}), **keywords}
        text = encode_object(values, "the context", max_bytes=limits.max_context_bytes)
        claim = self._claim("update_context", idempotency_key, text, str(replace))
        command = UpdateContext(
            changes=text, replace=replace, max_bytes=limits.max_context_bytes, claim=claim
        )
        return await self._submit(command, _present_context)

    async def get_context(self) -> SessionContext:
        """The context as last committed: a read-only mapping with a `version`."""
        return _present_context(await self._stored())

    async def update_config(self, changes: Mapping[str, Any], /) -> dict[str, Any]:
        """Change session_config keys; None takes one back to its default.

        There are name, description, tags, metadata (as a whole), max_messages, on_busy and
        auto_archive_after.

        Returns the whole config. Raises ConfigurationError for unknown keys and wrong values.
        """
        from .config import session_config_text  # noqa: PLC0415 - most sessions never need it

        limit = self._anchor.host.limits.max_config_bytes
        text = session_config_text(changes, max_bytes=limit, none_removes=True)
        command = UpdateConfig(changes=text, max_bytes=limit)
        return await self._submit(command, _present_config)

    async def get_config(self) -> dict[str, Any]:
        """The session_config as last committed; keys that were never set are not in it.

        `auto_archive_after` is a timedelta, however it was given.
        """
        return _present_config(await self._stored())

    async def get_provider_metadata(self) -> dict[str, Any]:
        """What the provider knows of this session's conversation, asked for now; {}: nothing.

        Raises ProviderError, and ConfigurationError if the manager has no such provider.
        """
        from .provider_metadata import read_provider_metadata  # noqa: PLC0415 - rarely needed

        state = await self._stored()
        return await read_provider_metadata(self._anchor.host, state)

    async def get_metrics(self) -> SessionMetrics:
        """Lifetime figures of the session as last committed."""
        return metrics_of((await self._stored()).record)

    async def refresh(self) -> None:
        """Read the session's facts again; needed only where another process writes to it."""
        self._header.update((await self._stored()).record)

    # -------------------------------------------------------- life

    async def archive(self) -> None:
        """Make it read-only: earlier calls complete first, later ones are refused (G8)."""
        await self._submit(ChangeStatus(status=SessionStatus.ARCHIVED), _present_nothing)

    async def reopen(self) -> None:
        """Make an archived session writable again."""
        await self._submit(ChangeStatus(status=SessionStatus.ACTIVE), _present_nothing)

    async def delete(self) -> None:
        """Hide it: afterwards it is not found, listed or written any more."""
        await self._submit(ChangeStatus(status=SessionStatus.DELETED), _present_nothing)

    # -------------------------------------------------------- inside

    def _submit(
        self,
        command: Command,
        present: Callable[[Any], T],
        timeout: float | None = None,
        on_busy: OnBusy | None = None,
    ) -> Ticket[T]:
        _check_timeout(timeout)
        if on_busy is not None:
            _check_on_busy(on_busy)
        try:
            supervisor = self._anchor.host.runtime().supervisor
        except RuntimeClosedError as error:
            error.content = getattr(command, "content", None)
            raise
        self._refuse_erased()
        return supervisor.submit(
            self.session_id, command, present, timeout_seconds=timeout, on_busy=on_busy
        )

    def _claim(self, method: str, key: str | None, *payload: str) -> ClaimKey | None:
        if key is None:
            return None
        from .claims import claim_of  # noqa: PLC0415 - most never need it

        return claim_of(self.session_id, method, key, *payload)

    def _turn_no(self, turn_id: str) -> int:
        session_id, _, number = turn_id.rpartition("/")
        if session_id != self.session_id or not (number.isascii() and number.isdigit()):
            raise TurnNotFoundError(self.session_id, turn_id)
        return int(number[:15])

    def _metadata(self, metadata: Mapping[str, Any] | None) -> str:
        if not metadata:
            return EMPTY_JSON
        limit = self._anchor.host.limits.max_metadata_bytes
        return encode_object(metadata, "metadata", max_bytes=limit)

    def _wanted_metadata(self, metadata: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
        if metadata is None:
            return ()
        from .session_list import wanted_metadata  # noqa: PLC0415 - not for every program

        return wanted_metadata(metadata, self._anchor.host.limits.max_metadata_bytes)

    def _present_message(self, record: MessageRecord) -> SessionMessage:
        return view_of(self.session_id, record)

    async def _read(self, query: MessageQuery) -> list[MessageRecord]:
        self._refuse_deleted()
        storage = self._anchor.host.runtime().storage
        return list(await storage.read_messages(self._record.key, query))

    async def _stored(self) -> StoredSession:
        self._refuse_deleted()
        runtime = self._anchor.host.runtime()
        state = runtime.supervisor.live_state(self.session_id)
        if state is None:
            state = await runtime.storage.load_now(self.session_id)
        else:
            await anyio.lowlevel.checkpoint()
        # Another session may have got the id while it was read.
        if state is None or state.record.key != self._record.key:
            raise SessionNotFoundError(self.session_id)
        return state

    def _refuse_erased(self) -> None:
        """The id may be another session's by now."""
        if self._header.is_erased:
            raise SessionNotFoundError(self.session_id)

    def _refuse_deleted(self) -> None:
        if self.status is SessionStatus.DELETED:
            raise SessionNotFoundError(self.session_id)


class _Settings(ProviderSettings):
    """Provider settings of one session, kept in its header until the next turn stores them."""

    def __init__(self, header: SessionHeader, max_bytes: int) -> None:
        self._header = header
        self._max_bytes = max_bytes

    def get(self, name: str) -> Any:
        return self._header.pending_settings.get(name)

    def set(self, name: str, value: Any) -> None:
        settings = {**self._header.pending_settings, name: value}
        try:
            encode_object(settings, "the provider settings", max_bytes=self._max_bytes)
        except InvalidMessageError as error:
            raise ConfigurationError(str(error)) from None
        self._header.pending_settings = settings


def _check_on_busy(on_busy: str) -> None:
    from .config import ON_BUSY  # noqa: PLC0415 - most sessions never need it

    if on_busy not in ON_BUSY:
        raise ConfigurationError(f"on_busy={on_busy!r}: there are {', '.join(ON_BUSY)}")


def _check_timeout(timeout: object) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ConfigurationError(f"timeout={timeout!r} must be a number of seconds, 0 or more")


def _role(role: Role | str) -> Role:
    try:
        return Role(role)
    except ValueError:
        known = ", ".join(role.value for role in Role)
        raise InvalidMessageError(f"no role {role!r}; there are {known}") from None


def _present_nothing(_: object) -> None:
    return None


def _present_context(state: StoredSession) -> SessionContext:
    documents = state.documents
    return SessionContext(state.record, documents.context, documents.context_version)


def _present_config(state: StoredSession) -> dict[str, Any]:
    config = decode_object(state.documents.config)
    if "auto_archive_after" in config:
        from datetime import timedelta  # noqa: PLC0415 - not for every program

        config["auto_archive_after"] = timedelta(seconds=config["auto_archive_after"])
    return config


Session.__module__ = "langswarm.core.session"
Session.__qualname__ = "Session"
