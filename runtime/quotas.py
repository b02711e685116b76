"""How many sessions a user may have: counted anew, one creation of a user at a time.

What counts is in the storage, so there is nothing to keep in step with deletions, erasures and
restarts. A creation whose caller went away may go on to its commit; until it is decided, it counts.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import anyio

from ..actors.errors import CapacityError
from ..actors.mailbox import Ticket, TicketState
from ..actors.model import SessionQuery

if TYPE_CHECKING:
    from ..actors.decisions import CreateSession
    from ..actors.limits import Limits
    from ..actors.model import SessionRecord, StoredSession
    from .host import Runtime

_UNSETTLED = (TicketState.QUEUED, TicketState.RUNNING)


class _Line:
    """The creations of one user. It lives as long as one of them waits or runs."""

    __slots__ = ("__weakref__", "lock", "tickets")

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.tickets: WeakSet[Ticket[SessionRecord]] = WeakSet()


_lines: WeakKeyDictionary[Runtime, WeakValueDictionary[str, _Line]] = WeakKeyDictionary()


async def created_within_quota(
    runtime: Runtime, limits: Limits, session_id: str, command: CreateSession
) -> SessionRecord:
    """Create the session, unless its user has `max_sessions_per_user` already: CapacityError."""
    lines = _lines.setdefault(runtime, WeakValueDictionary())
    line = lines.setdefault(command.user_id, _Line())
    async with line.lock:
        if not await _was_done(runtime, command):
            await _check(runtime, limits, line, command.user_id)
        present = partial(_record_of, line)
        ticket = runtime.supervisor.submit(session_id, command, present)
        line.tickets.add(ticket)
        return await ticket


async def _was_done(runtime: Runtime, command: CreateSession) -> bool:
    """Whether it repeats a call under its idempotency key, which makes no session."""
    claim = command.claim
    if claim is None:
        return False
    return await runtime.storage.find_claim(claim.scope, claim.method, claim.key) is not None


async def _check(runtime: Runtime, limits: Limits, line: _Line, user_id: str) -> None:
    most = limits.max_sessions_per_user
    # Taken before those in the storage are counted: one that is decided meanwhile counts twice,
    # which refuses one too many at worst.
    count = sum(ticket.state in _UNSETTLED for ticket in line.tickets)
    key: int | None = None
    while count < most:
        query = SessionQuery(user_id=user_id, limit=limits.page_size, before_key=key)
        page = await runtime.storage.list_sessions(query)
        count += len(page.records)
        key = page.next_key
        if key is None:
            break
    if count >= most:
        raise CapacityError(
            f"the user has {most} sessions (limit max_sessions_per_user), archived ones included; "
            "delete one of them first"
        )


def _record_of(_: _Line, state: StoredSession) -> SessionRecord:
    """The ticket keeps the line by this."""
    return state.record
