"""Retention: sessions are archived, deleted and erased by age, and users erased for good.

Everything goes through the slots of the sessions, as a user's own call would: a session that is
busy is in use and left alone, one that is used in between is seen to be so by its own decision.
Sessions are taken page by page and a few at a time, and leave memory again if they were not in it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
import attrs

from ..actors.erasure import HideSession, RetireSession, steps_of_erasure
from ..actors.errors import (
    CapacityError,
    OverloadError,
    RuntimeBugError,
    SessionError,
    SessionNotFoundError,
    SessionQuarantinedError,
    StorageError,
)
from ..actors.model import SessionQuery, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..actors.decisions import OwnDecision
    from ..actors.erasure import RetentionRule
    from ..actors.mailbox import Ticket
    from ..actors.model import SessionRecord
    from .host import Runtime

logger = logging.getLogger("langswarm.core.session")

AT_ONCE = 16
"""How many sessions are worked on at the same time."""
_PAGE = 500
_HOOKS_AT_ONCE = 256
_PAUSE_SECONDS = 0.02
_ROUNDS = 5
"""How often an erasure looks again for sessions that it could not erase."""


@attrs.define
class _Work:
    """What is done to one session, command by command."""

    record: SessionRecord
    steps: Iterator[OwnDecision]
    was_live: bool = False


class Retention:
    """Applies rules to the sessions of one runtime; each method is one pass over them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._supervisor = runtime.supervisor
        self._skipped = 0
        self._last_skip: SessionError | None = None

    # -------------------------------------------------------- passes

    async def retire(self, rule: RetentionRule, *, dry_run: bool = False) -> int:
        """Archive or delete what the rule applies to; how many it were, or would be."""
        by_age_alone = rule.now_us is None and rule.most_messages is None
        query = SessionQuery(
            limit=_PAGE,
            status=rule.of,
            idle_since_us=rule.idle_before_us if by_age_alone else None,
        )

        def steps(record: SessionRecord) -> Iterator[OwnDecision]:
            yield RetireSession(key=record.key, rule=rule)

        return await self._over(query, rule.applies, None if dry_run else steps)

    async def purge(self, before_us: int, *, dry_run: bool = False) -> int:
        """Erase the sessions that were deleted before; how many it were, or would be."""
        query = SessionQuery(limit=_PAGE, status=SessionStatus.DELETED, idle_since_us=before_us)
        return await self._over(query, lambda _: True, None if dry_run else self._steps_of_erasure)

    async def erase_user(self, user_id: str) -> int:
        """Everything of a user's; how many sessions it were. Raises what kept it from the end."""
        erased = 0
        for _ in range(_ROUNDS):
            self._last_skip = None
            found = done = 0
            for status in (None, SessionStatus.DELETED):
                query: SessionQuery | None
                query = SessionQuery(limit=_PAGE, user_id=user_id, status=status)
                while query is not None:
                    records, query = await self._page(query)
                    found += len(records)
                    for few in _chunks(records):
                        done += await self._erase(few)
            erased += done
            await self._runtime.storage.erase_user(user_id)
            if not found:
                return erased
        raise self._last_skip or CapacityError(
            f"sessions of the user {user_id!r} come faster than they are erased; refuse the "
            "user's requests first, then call erase_user() again"
        )

    async def _erase(self, records: Sequence[SessionRecord]) -> int:
        for record in records:
            self._supervisor.make_way(record.session_id, record.key)

        def steps(record: SessionRecord) -> Iterator[OwnDecision]:
            if record.status is not SessionStatus.DELETED:
                yield HideSession(key=record.key)
            yield from self._steps_of_erasure(record)

        works = [self._work(record, steps) for record in records]
        return await self._do(works, timeout_seconds=None)

    # -------------------------------------------------------- many sessions

    async def _over(
        self,
        first: SessionQuery,
        wanted: Callable[[SessionRecord], bool],
        steps: Callable[[SessionRecord], Iterator[OwnDecision]] | None,
    ) -> int:
        """Do the steps to all that are wanted; None: count them."""
        count = 0
        query: SessionQuery | None = first
        while query is not None:
            records, query = await self._page(query)
            found = [each for each in records if wanted(each) and self._is_at_rest(each)]
            if steps is None:
                count += len(found)
                continue
            for few in _chunks(found):
                works = [self._work(each, steps) for each in few if self._is_at_rest(each)]
                seconds = self._supervisor.limits.queue_timeout_seconds
                count += await self._do(works, timeout_seconds=seconds)
        if self._skipped:
            logger.warning(
                "%d sessions were passed over by a clean-up, the next one comes back to them; "
                "the last one because: %s",
                self._skipped,
                self._last_skip,
            )
        return count

    async def _page(
        self, query: SessionQuery
    ) -> tuple[tuple[SessionRecord, ...], SessionQuery | None]:
        """A page, and what asks for the next one."""
        page = await self._runtime.storage.list_sessions(query)
        if page.next_key is None:
            return page.records, None
        return page.records, attrs.evolve(query, before_key=page.next_key)

    def _is_at_rest(self, record: SessionRecord) -> bool:
        """What has something to do is in use."""
        actor = self._supervisor.actor_of(record.session_id)
        return not record.open_turn_no and (actor is None or not actor.is_busy)

    def _work(
        self, record: SessionRecord, steps: Callable[[SessionRecord], Iterator[OwnDecision]]
    ) -> _Work:
        live = self._supervisor.actor_of(record.session_id) is not None
        return _Work(record, steps(record), was_live=live)

    def _steps_of_erasure(self, record: SessionRecord) -> Iterator[OwnDecision]:
        # Of a provider that this manager does not have nothing is known: another one may delete it.
        provider = self._supervisor.providers.get(record.provider)
        return steps_of_erasure(record, keeps=provider is None or provider.keeps_conversations)

    # -------------------------------------------------------- a few at a time

    async def _do(self, works: Sequence[_Work], *, timeout_seconds: float | None) -> int:
        """Take all through their steps, side by side; how many came to the end."""
        done = 0
        going = list(works)
        while going:
            tickets: list[tuple[_Work, Ticket[bool]]] = []
            try:
                for work in going:
                    command = next(work.steps, None)
                    if command is None:
                        done += 1
                    elif ticket := self._submit(work, command, timeout_seconds):
                        tickets.append((work, ticket))
                going = [work for work, ticket in tickets if await self._ended(work, ticket)]
            finally:
                for _, ticket in tickets:
                    ticket.withdraw()  # those that are left where one failed or all was cancelled
        for work in works:
            if not work.was_live:
                self._supervisor.evict(work.record.session_id)
        await self._let_hooks_catch_up()
        return done

    async def _let_hooks_catch_up(self) -> None:
        """So that what waits for slow hooks is bounded; one that hangs is cancelled meanwhile."""
        limits = self._supervisor.limits
        with anyio.move_on_after(limits.hook_timeout_seconds + limits.cancel_grace_seconds):
            while self._supervisor.guests.backlog > _HOOKS_AT_ONCE:  # noqa: ASYNC110 - no event: rare
                await anyio.sleep(_PAUSE_SECONDS)

    def _submit(
        self, work: _Work, command: OwnDecision, seconds: float | None
    ) -> Ticket[bool] | None:
        try:
            return self._supervisor.submit(
                work.record.session_id, command, _was_done, timeout_seconds=seconds
            )
        except SessionError as error:
            self._pass_over(work, error)
            return None

    async def _ended(self, work: _Work, ticket: Ticket[bool]) -> bool:
        """Whether it was done, so that the next step can follow."""
        try:
            return await ticket
        except SessionNotFoundError:
            return False  # not an error, because somebody else has erased it
        except SessionError as error:
            self._pass_over(work, error)
            return False

    def _pass_over(self, work: _Work, error: SessionError) -> None:
        """Go on with the others if the fault is this one's. Raises the error if it is not."""
        one = isinstance(error, (OverloadError, SessionQuarantinedError, RuntimeBugError))
        if not one and not (isinstance(error, StorageError) and error.code in _OF_ONE):
            raise error
        self._skipped += 1
        self._last_skip = error
        session_id = work.record.session_id
        logger.debug(
            "clean-up passes over session %s: %s",
            session_id,
            error,
            extra={"session_id": session_id},
        )


_OF_ONE = frozenset(("corrupt", "invalid"))


def _was_done(state: object) -> bool:
    return state is not None


def _chunks(records: Sequence[SessionRecord]) -> Iterator[Sequence[SessionRecord]]:
    for first in range(0, len(records), AT_ONCE):
        yield records[first : first + AT_ONCE]
