"""Users apart: whatever one does through `for_user`, nothing of another is told or changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
from langswarm.core.session.actors.errors import (
    IdempotencyConflictError,
    SessionError,
    SessionNotFoundError,
)

from .running import BrokenPromiseError
from .serving import PROVIDERS, require

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.interfaces import BatchResult, UserSessions

    from .serving import Place

ONE, OTHER = "ann", "bob"
SECRET = "wvusecret"
_CONFIG = {"tags": ["t", SECRET], "metadata": {"k": SECRET}}
_CHANGES = {"tags": ["taken"]}
_VERBS = (
    "get", "get", "list", "search", "archive", "update", "delete", "import", "analytics", "create",
    "use", "erase",
)  # fmt: skip


class Households:
    """A user who does anything, and one who wants to be left alone."""

    def __init__(self, source: random.Random, manager: SessionManager) -> None:
        self._source = source
        self._manager = manager
        self._view: UserSessions = manager.for_user(ONE)
        self._own: list[str] = []
        self.others: list[str] = []
        self._export: dict[str, Any] = {}

    async def begin(self) -> None:
        """Sessions of both; those of the other hold the secret."""
        other = self._manager.for_user(OTHER)
        for number in range(self._source.choice((1, 3))):
            session = await other.create_session(
                self._source.choice(PROVIDERS),
                "m",
                session_config=_CONFIG,
                idempotency_key=f"key {number}",
            )
            await session.send_message(f"hello {SECRET}")
            self.others.append(session.session_id)
            self._export = await session.export_conversation()
            if self._source.random() < 0.2:
                await session.archive()
        for _ in range(2):
            self._own.append((await self._view.create_session("p", "m")).session_id)

    async def everything(self) -> list[str]:
        """All that the other one has."""
        found: list[str] = []
        for session_id in self.others:
            session = await self._manager.get_session(session_id)
            found.append(json.dumps(await session.export_conversation()))
        for status in (None, "deleted"):
            sessions = await self._manager.get_user_sessions(OTHER, status=status)
            found.append(repr([session.session_id for session in sessions]))
        found.append(repr(await self._manager.get_analytics(user_id=OTHER)))
        words = await self._manager.search_sessions(user_id=OTHER, text=SECRET)
        return [*found, repr([session.session_id for session in words])]

    async def act(self) -> None:
        """One call of anything, on anything."""
        verb = self._source.choice(_VERBS)
        calls: dict[str, Callable[[], Any]] = {
            "get": self._get,
            "list": lambda: self._view.get_user_sessions(limit=self._source.choice((1, 2, None))),
            "search": self._search,
            "archive": lambda: self._batch(self._view.archive_sessions),
            "delete": lambda: self._batch(self._view.delete_sessions),
            "update": lambda: self._batch(lambda ids: self._view.update_sessions(ids, _CHANGES)),
            "import": self._import,
            "analytics": self._view.get_analytics,
            "create": self._create,
            "use": self._use,
            "erase": self._view.erase_user,
        }
        try:
            told = await calls[verb]()
        except SessionError as error:
            told = error
        several: list[Any] = [*told] if isinstance(told, list) else [told]
        for each in several:
            self._check(verb, each)

    def _check(self, verb: str, told: Any) -> None:
        """What came of it is one's own."""
        owner = getattr(told, "user_id", ONE)
        require(owner == ONE, f"isolation: {verb} gives a session of {owner}")
        require(SECRET not in repr(told), f"isolation: {verb} tells {told!r}")
        figures = getattr(told, "active_users", 0)
        require(figures <= 1, f"isolation: {verb} counts {figures} users")

    def _ids(self) -> list[str]:
        known = [*self._own, *self.others, "nobody's"]
        return self._source.sample(known, self._source.randrange(1, len(known) + 1))

    async def _get(self) -> Session | None:
        """One of another, and one that never was, are the same."""
        name = self._source.choice([*self._own, *self.others, "nobody's"])
        try:
            return await self._view.get_session(name)
        except SessionNotFoundError as error:
            plain = str(SessionNotFoundError(name))
            require(str(error) == plain, f"isolation: it is told {error}, not {plain}")
            return None

    async def _search(self) -> list[Session]:
        query: dict[str, Any] = self._source.choice(
            ({"text": SECRET}, {"tags": ["t"]}, {"metadata": {"k": SECRET}}, {"model": "m"}, {})
        )
        found = await self._view.search_sessions(**query)
        if SECRET in repr(query):
            imported = [each for each in found if each.user_id == ONE]
            require(len(imported) == len(found), f"isolation: {query} finds others' sessions")
            return []
        return list(found)

    async def _batch(self, call: Callable[[list[str]], Any]) -> None:
        ids = self._ids()
        results: list[BatchResult] = await call(ids)
        for name, result in zip(ids, results, strict=True):
            foreign = name not in self._own
            hidden = isinstance(result.error, SessionNotFoundError)
            require(not foreign or hidden, f"isolation: {name} of another: {result}")

    async def _import(self) -> None:
        """What somebody was given becomes one's own, and is a new session."""
        session = await self._view.import_conversation(self._export)
        self._check("import", session)
        require(session.session_id not in self.others, "isolation: imported over another's")
        self._own.append(session.session_id)

    async def _create(self) -> Session:
        """Under a key that the other one has used, too."""
        try:
            session = await self._view.create_session("q", "m", idempotency_key="key 0")
        except IdempotencyConflictError as error:
            raise BrokenPromiseError(f"isolation: another's key is known: {error}") from error
        require(session.session_id not in self.others, "isolation: a key gives another's session")
        self._own.append(session.session_id)
        return session

    async def _use(self) -> object:
        session = await self._view.get_session(self._source.choice(self._own))
        return (await session.send_message("hello")).content


async def check_isolation(source: random.Random, place: Place) -> None:
    """After any calls of one user, what another has is as it was; and no event of it is heard."""
    async with place.manager() as manager:
        houses = Households(source, manager)
        await houses.begin()
        before = await houses.everything()
        events = manager.for_user(ONE).session_events()
        for _ in range(source.choice((5, 12))):
            await houses.act()
        after = await houses.everything()
        require(after == before, f"isolation: of the other there was {before}, now {after}")
        first = await manager.get_session(houses.others[0])
        await first.reopen()
        await first.send_message("heard by nobody")
        await _nothing_heard(manager, events)


async def _nothing_heard(manager: SessionManager, events: Any) -> None:
    own = await manager.for_user(ONE).create_session("p", "m")
    with anyio.fail_after(30):
        async for event in events:
            user = event.user_id
            require(user == ONE, f"isolation: an event of {user} was heard")
            if event.session_id == own.session_id:
                break
