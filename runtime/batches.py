"""One operation on many sessions: all are looked up at once, all do it at once, each may fail.

Every ticket is taken in the caller's task, so that a guest which names its own session is told so
as by any other call, and a caller that goes away takes along what has not begun.
"""

# A part of the manager, in a file of its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import attrs

from ..actors.decisions import ChangeStatus, UpdateConfig
from ..actors.errors import InvalidMessageError, SessionError, SessionNotFoundError, again
from ..actors.mailbox import Ticket
from ..actors.model import SessionStatus
from .config import session_config_text
from .listing import check_id

if TYPE_CHECKING:
    from ..actors.decisions import Command
    from ..actors.supervisor import SessionHeader
    from .listing import Listing


@attrs.frozen
class BatchResult:
    """What became of one session of a batch."""

    session_id: str
    error: SessionError | None = None
    """Why it was not done; None: it was, and is stored (G3)."""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


async def change_statuses(
    manager: Listing, ids: Iterable[str], status: SessionStatus, user_id: str | None
) -> list[BatchResult]:
    """Archive or delete each of them."""
    return await _each(manager, ids, ChangeStatus(status=status), user_id)


async def update_configs(
    manager: Listing, ids: Iterable[str], changes: Mapping[str, Any], user_id: str | None
) -> list[BatchResult]:
    """Make the same changes to the session_config of each."""
    limit = manager._anchor.host.limits.max_config_bytes
    text = session_config_text(changes, max_bytes=limit, none_removes=True)
    return await _each(manager, ids, UpdateConfig(changes=text, max_bytes=limit), user_id)


async def _each(
    manager: Listing, ids: object, command: Command, user_id: str | None
) -> list[BatchResult]:
    host = manager._anchor.host
    names = _names(ids, host.limits.page_size)
    if user_id is not None:
        check_id(user_id, "user_id")
    once = list(dict.fromkeys(names))
    headers = await _look_up(manager, once, user_id)
    tickets = {name: _begin(manager, name, headers[name], command) for name in once}
    errors: dict[str, SessionError | None] = {}
    try:
        for name, ticket in tickets.items():
            errors[name] = await _outcome(ticket)
    finally:
        for ticket in tickets.values():
            if isinstance(ticket, Ticket):
                ticket.withdraw()
    return [BatchResult(name, errors[name]) for name in names]


def _names(ids: object, most: int) -> list[str]:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise InvalidMessageError(f"the ids of sessions must be a list of str, not {ids!r}")
    names = list(islice(cast("Iterable[str]", ids), most + 1))
    if len(names) > most:
        raise InvalidMessageError(
            f"more than {most} sessions at once (limit page_size); make several calls of it"
        )
    return [check_id(name, "the id of a session") for name in names]


async def _look_up(
    manager: Listing, names: list[str], user_id: str | None
) -> dict[str, SessionHeader | None]:
    """The headers of those that are there and this user's; the same work, whichever are.

    Headers are registered before: what is committed in between updates them (see `Host.header`).
    """
    host = manager._anchor.host
    headers = {name: host.header(name) for name in names}
    if not names:
        return {}
    found: dict[str, SessionHeader | None] = {}
    for name, state in zip(names, await host.runtime().storage.load_many(names), strict=True):
        found[name] = None
        if state is None or (user_id is not None and state.record.user_id != user_id):
            continue
        header = headers[name]
        header.update(state.record)
        if header.record is not None and header.record.status is not SessionStatus.DELETED:
            found[name] = header
    return found


def _begin(
    manager: Listing, name: str, header: SessionHeader | None, command: Command
) -> Ticket[None] | SessionError:
    """Its place in the session's queue, or why it has none."""
    if header is None:
        return SessionNotFoundError(name)
    try:
        supervisor = manager._anchor.host.runtime().supervisor
        return supervisor.submit(name, command, lambda _: None)
    except SessionError as error:
        return again(error)


async def _outcome(ticket: Ticket[None] | SessionError) -> SessionError | None:
    if isinstance(ticket, SessionError):
        return ticket
    try:
        await ticket
    except SessionError as error:
        return again(error)
    return None


BatchResult.__module__ = "langswarm.core.session.interfaces"
