"""Analytics over days: sums of what happened, by day and user, against sums in plain Python."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING

from langswarm.core.session.actors.errors import (
    ProviderError,
    SessionArchivedError,
    TurnNotFoundError,
    TurnStateError,
)

from .serving import PROVIDERS, TOKENS, require

if TYPE_CHECKING:
    import random

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.interfaces import UsageFigures

    from .serving import Place

FIRST = date(2027, 1, 1)
DAYS = 5
USERS = ("ann", "bob", "eve")
_DAY_US = 24 * 3600 * 1_000_000
_FIGURES = (
    "total_sessions",
    "user_messages",
    "assistant_messages",
    "system_messages",
    "completed_turns",
    "failed_turns",
    "input_tokens",
    "output_tokens",
)


class Ledger:
    """What was done, by day and user; and the clock."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self.day = 0
        self.counts: dict[tuple[int, str], Counter[str]] = {}
        self.turns: dict[tuple[int, str], Counter[str]] = {}
        """By provider."""
        self.sessions: list[Session] = []

    def wall_clock_us(self) -> int:
        """Some time of the day."""
        days = (FIRST - date(1970, 1, 1)).days + self.day
        return days * _DAY_US + 1_000_000

    def count(self, session: Session, **counts: int) -> None:
        """So much happened today."""
        self.counts.setdefault((self.day, session.user_id), Counter()).update(counts)
        turns = counts.get("completed_turns", 0) + counts.get("failed_turns", 0)
        by_provider = self.turns.setdefault((self.day, session.user_id), Counter())
        by_provider[session.provider] += turns

    async def act(self, manager: SessionManager) -> None:
        """Anything that is counted, or that changes what was."""
        source = self._source
        verb = source.choice(("create", "send", "send", "fail", "say", "fork", "change", "again"))
        if verb == "create" or not self.sessions:
            user_id = source.choice(USERS)
            session = await manager.create_session(user_id, source.choice(PROVIDERS), "m")
            self.sessions.append(session)
            return self.count(session, total_sessions=1)
        session = source.choice(self.sessions)
        if verb == "fork":
            self.sessions.append(await session.fork())
            return self.count(session, total_sessions=1)
        with contextlib.suppress(SessionArchivedError, TurnStateError, TurnNotFoundError):
            await self._use(session, verb)
        return None

    async def _use(self, session: Session, verb: str) -> None:
        source = self._source
        if verb == "say":
            role = source.choice(("user", "assistant", "system"))
            await session.add_message(role, "hello")
            return self.count(session, **{f"{role}_messages": 1})
        if verb == "change":
            name = source.choice(("archive", "reopen", "clear_messages"))
            await getattr(session, name)()
            return None
        question = source.choice(("fail", "half")) if verb == "fail" else "hello"
        try:
            await (session.regenerate() if verb == "again" else session.send_message(question))
        except ProviderError:
            return self.count(session, user_messages=1, failed_turns=1)
        read, said = TOKENS
        return self.count(
            session,
            user_messages=1,
            assistant_messages=1,
            completed_turns=1,
            input_tokens=read,
            output_tokens=said,
        )

    async def erase(self, manager: SessionManager, user_id: str) -> None:
        """Nothing of the user's is counted any more, of any day."""
        await manager.erase_user(user_id)
        for facts in (self.counts, self.turns):
            for day, user in [*facts]:
                if user == user_id:
                    del facts[day, user]
        self.sessions = [each for each in self.sessions if each.user_id != user_id]

    def sum(self, days: range, user_id: str | None) -> Counter[str]:
        """Of these days and this user, or all."""
        return _sum(self.counts, days, user_id)

    def users(self, days: range, user_id: str | None) -> int:
        """Of whom something was counted."""
        named = {user for day, user in self.counts if day in days}
        return len(named & {user_id} if user_id else named)


def _sum(
    facts: dict[tuple[int, str], Counter[str]], days: range, user_id: str | None
) -> Counter[str]:
    total = Counter[str]()
    for (day, user), counts in facts.items():
        if day in days and user_id in {None, user}:
            total.update(counts)
    return total


async def check_figures(source: random.Random, place: Place) -> None:
    """Every range of days has the sums of what happened in it, in all and day by day."""
    ledger = Ledger(source)
    for _ in range(source.choice((1, 2))):
        async with place.manager(ledger.wall_clock_us) as manager:
            ledger.sessions = [await manager.get_session(each) for each in _ids(ledger)]
            for _ in range(source.choice((5, 15))):
                await ledger.act(manager)
                ledger.day = min(DAYS - 1, ledger.day + source.choice((0, 0, 1)))
                if source.random() < 0.05:
                    await ledger.erase(manager, source.choice(USERS))
            for _ in range(4):
                await _compare(source, manager, ledger)


def _ids(ledger: Ledger) -> list[str]:
    return [session.session_id for session in ledger.sessions]


async def _compare(source: random.Random, manager: SessionManager, ledger: Ledger) -> None:
    first, last = sorted((source.randrange(DAYS), source.randrange(DAYS)))
    user_id = source.choice((None, *USERS))
    found = await manager.get_analytics(_date(first), _date(last), user_id=user_id)
    days = range(first, last + 1)
    what = f"of {user_id or 'all'}, days {first} to {last}"
    _same(found, ledger.sum(days, user_id), ledger.users(days, user_id), what)
    require(len(found.daily) == len(days), f"figures {what}: {len(found.daily)} days")
    for day, daily in zip(days, found.daily, strict=True):
        one = range(day, day + 1)
        _same(daily, ledger.sum(one, user_id), ledger.users(one, user_id), f"{what}: day {day}")
    turns = {name: count for name, count in _sum(ledger.turns, days, user_id).items() if count}
    require(
        dict(found.provider_usage) == turns,
        f"figures {what}: turns by provider are {found.provider_usage}, not {turns}",
    )


def _same(found: UsageFigures, counts: Counter[str], users: int, what: str) -> None:
    told = {name: getattr(found, name) for name in _FIGURES}
    expected = {name: counts[name] for name in _FIGURES}
    require(told == expected, f"figures {what}: {told}, not {expected}")
    require(found.active_users == users, f"figures {what}: {found.active_users} users, not {users}")


def _date(day: int) -> date:
    return FIRST + timedelta(days=day)
