"""Lists and searches, page by page, while sessions change: against sets in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.actors.model import SessionStatus

from .serving import PROVIDERS, require

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.interfaces import SessionList

    from .serving import Place

USERS = ("ann", "bob")
MODELS = ("x", "y")
TAGS = ("a", "b", "c")
WORDS = ("red", "green", "blue", "grey")
VALUES: tuple[object, ...] = (1, True, "1", None)
_MOST_PAGES = 100
_OTHERS = ({"user_id": "eve"}, {"model": "z"}, {"tags": ["z"]}, {"metadata": {"z": 1}})


@attrs.define
class Known:
    """What a session is, as far as lists can tell."""

    user_id: str
    provider: str
    model: str
    tags: set[str]
    metadata: dict[str, object]
    status: SessionStatus = SessionStatus.ACTIVE
    texts: list[set[str]] = attrs.field(factory=list[set[str]])

    def matches(self, query: dict[str, Any]) -> bool:
        """Whether it is in the list of this query."""
        status = query.get("status")
        is_listed = self.status is (status or self.status)
        words = set(query.get("text", "").split())
        return (
            (is_listed and (status is not None or self.status is not SessionStatus.DELETED))
            and all(getattr(self, name) == query[name] for name in _SAME if name in query)
            and set(query.get("tags", ())) <= self.tags
            and all(
                key in self.metadata and is_same(self.metadata[key], value)
                for key, value in query.get("metadata", {}).items()
            )
            and (not words or any(words <= text for text in self.texts))
        )


_SAME = ("user_id", "provider", "model")


def is_same(one: object, other: object) -> bool:
    """Equal as JSON: True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class Town:
    """Sessions that come and change, and what is known of them."""

    def __init__(self, source: random.Random, manager: SessionManager) -> None:
        self._source = source
        self.manager = manager
        self.known: dict[str, Known] = {}
        self._handles: dict[str, Session] = {}

    async def create(self) -> None:
        """One more session."""
        pick = self._source.choice
        known = Known(pick(USERS), pick(PROVIDERS), pick(MODELS), self._tags(), {"k": pick(VALUES)})
        config = {"tags": sorted(known.tags), "metadata": known.metadata}
        session = await self.manager.create_session(
            known.user_id, known.provider, known.model, session_config=config
        )
        self.known[session.session_id] = known
        self._handles[session.session_id] = session

    async def change(self) -> None:
        """Anything that lists depend on, to one session."""
        source = self._source
        name = source.choice([*self.known])
        known, session = self.known[name], self._handles[name]
        if known.status is SessionStatus.DELETED:
            return await self.create()
        verb = source.choice(("say", "say", "tag", "archive", "delete", "clear", "create"))
        if known.status is SessionStatus.ARCHIVED and verb in {"say", "tag", "clear"}:
            verb = "reopen"
        if verb == "say":
            words = source.choices(WORDS, k=2)
            await session.add_message("user", " ".join(words))
            known.texts.append(set(words))
        elif verb == "tag":
            known.tags = self._tags()
            await session.update_config({"tags": sorted(known.tags)})
        elif verb == "clear":
            await session.clear_messages()
            known.texts.clear()
        elif verb == "create":
            await self.create()
        else:
            await getattr(session, verb)()
            known.status = _BECOMES[verb]
        return None

    def query(self) -> dict[str, Any]:
        """Some conditions."""
        pick = self._source.choice
        conditions: dict[str, Any] = {
            "user_id": pick(USERS),
            "provider": pick(PROVIDERS),
            "model": pick(MODELS),
            "tags": sorted(self._tags()),
            "metadata": {"k": pick(VALUES)},
            "text": " ".join(self._source.sample(WORDS, pick((1, 1, 2)))),
            "status": pick((*SessionStatus,)),
        }
        names = self._source.sample([*conditions], pick((0, 1, 1, 2)))
        return {name: conditions[name] for name in names}

    def matching(self, query: dict[str, Any]) -> set[str]:
        """By what is known."""
        return {name for name, known in self.known.items() if known.matches(query)}

    def _tags(self) -> set[str]:
        return set(self._source.sample(TAGS, self._source.choice((0, 1, 1, 2))))


_BECOMES = {
    "archive": SessionStatus.ARCHIVED,
    "reopen": SessionStatus.ACTIVE,
    "delete": SessionStatus.DELETED,
}


async def check_lists(source: random.Random, place: Place) -> None:
    """What a list goes through, from cursor to cursor, is what matched all the time, once each."""
    async with place.manager(page_size=source.choice((2, 5, 100))) as manager:
        town = Town(source, manager)
        for _ in range(source.choice((3, 8, 16))):
            await town.create()
        for _ in range(source.choice((4, 12))):
            await town.change()
        for changing in (False, True):
            for _ in range(4):
                await _walk(source, town, town.query(), source.choice((0.0, 0.7)) * changing)


async def _walk(source: random.Random, town: Town, query: dict[str, Any], changing: float) -> None:
    ask = _asking(town.manager, query)
    there = [*town.known]
    always, ever = town.matching(query), town.matching(query)
    found: list[str] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        limit = source.choice((1, 2, 3, 50))
        page = await ask(limit=limit, cursor=cursor)
        require(len(page) <= limit, f"lists: {len(page)} sessions, the limit was {limit}")
        found += [session.session_id for session in page]
        cursor = page.next_cursor
        if cursor is None:
            break
        await _refuse_elsewhere(source, town.manager, query, cursor)
        while source.random() < changing:
            await town.change()
            now = town.matching(query)
            always, ever = always & now, ever | now
    told = f"{found} of {query}"
    require(cursor is None, f"lists: no end after {_MOST_PAGES} pages: {told}")
    require(len(set(found)) == len(found), f"lists: one is there twice: {told}")
    require(always <= set(found), f"lists: {always - set(found)} are missing: {told}")
    require(set(found) <= ever, f"lists: {set(found) - ever} never matched: {told}")
    order = [name for name in reversed(there) if name in set(found)]
    require(found == order, f"lists: newest first would be {order}: {told}")


def _asking(manager: SessionManager, query: dict[str, Any]) -> Callable[..., Any]:
    """The plainest call that takes this query."""
    if query.keys() <= {"user_id", "status"} and "user_id" in query:

        async def of_user(**page: Any) -> SessionList:
            return await manager.get_user_sessions(
                query["user_id"], status=query.get("status"), **page
            )

        return of_user

    async def search(**page: Any) -> SessionList:
        return await manager.search_sessions(**query, **page)

    return search


async def _refuse_elsewhere(
    source: random.Random, manager: SessionManager, query: dict[str, Any], cursor: str
) -> None:
    other: dict[str, Any] = {**query, **source.choice(_OTHERS)}
    try:
        await manager.search_sessions(**other, limit=1, cursor=cursor)
    except ConfigurationError:
        return
    require(other == query, f"lists: a cursor of {query} goes on in {other}")
