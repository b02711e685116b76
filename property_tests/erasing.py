"""Erasure: of an erased user nothing is left anywhere, and of the others nothing is changed.

What the user wrote and is called holds a word that nobody else has. After the erasure, and a
restart, the word is in nothing that can be read, and, after optimize_storage(), in no table of a
file. An erasure that was
killed at some commit, and is made again, ends the same.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import anyio
from langswarm.core.session.actors.errors import ProviderError, SessionError, SessionNotFoundError
from langswarm.core.session.testing import SimulatedDisk, SimulatedStorage, simulate

from .running import BrokenPromiseError
from .serving import PROVIDERS, Place, make_manager, require

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from langswarm.core.session import SessionManager
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.testing import Backend

WORD = "zyxcanary"
USER = f"{WORD}@user"
OTHERS = ("ann", "bob")


async def live(source: random.Random, manager: SessionManager) -> dict[str, list[str]]:
    """Some sessions of each user, of every status, in which anything was said; their ids."""
    names: dict[str, list[str]] = {}
    for user_id in (USER, *OTHERS):
        word = WORD if user_id == USER else "common"
        names[user_id] = []
        for number in range(source.choice((1, 2, 4))):
            session = await manager.create_session(
                user_id,
                source.choice(PROVIDERS),
                "m",
                session_config={"tags": [word, "t"], "metadata": {word: word}},
                idempotency_key=f"{word} {number}",
            )
            names[user_id].append(session.session_id)
            await _talk(source, session, word)
            verb = source.choice(("", "", "archive", "delete"))
            if verb:
                await getattr(session, verb)()
    return names


async def _talk(source: random.Random, session: Any, word: str) -> None:
    for number in range(source.choice((1, 3))):
        question = source.choice((f"hello {word}", f"fail {word}", f"half {word}"))
        with contextlib.suppress(ProviderError):
            await session.send_message(question, idempotency_key=f"{word} {number}")
        verb = source.choice(("context", "say", "clear", "again", "fork", ""))
        with contextlib.suppress(ProviderError):
            if verb == "context":
                await session.update_context({word: word})
            elif verb == "say":
                key = source.choice((None, f"{word} said {number}"))
                await session.add_message(
                    "user", f"{word} said", metadata={"w": word}, idempotency_key=key
                )
            elif verb == "clear":
                await session.clear_messages()
            elif verb == "again" and not question.startswith("half"):
                await session.regenerate()
            elif verb == "fork":
                await session.fork()


async def check_erasure(source: random.Random, place: Place) -> None:
    """Whatever was there: nothing of the user is left, and the others do not notice."""
    async with place.manager() as manager:
        names = await live(source, manager)
        before = await _of_others(manager)
        if source.random() < 0.3:
            await manager.optimize_storage()  # what it made for later goes, too
        kept = await _conversations(manager)
        erased = await manager.erase_user(USER)
        require(erased >= len(names[USER]), f"erasure: {erased} of {names[USER]}")
        await nothing_left(manager, names[USER])
        require(await _of_others(manager) == before, "erasure: others were changed")
        storage = manager._anchor.host.runtime().storage
        queued = {each.provider_session_id for each in await storage.load_purges(2**62, 1000)}
        left = kept - queued - place.deleted
        require(not left, f"erasure: vendors keep {left}")
    async with place.manager() as manager:
        await nothing_left(manager, names[USER])
        require(await _of_others(manager) == before, "erasure: others were changed, by a restart")
        if place.kind == "sqlite":
            await (
                manager.optimize_storage()
            )  # from then on the index has no words that were deleted
    if place.kind == "sqlite":
        _check_tables(place)
    async with place.manager() as manager:
        for number in range(4):  # a key that was erased is a new one
            session = await manager.create_session(
                USER, "p", "m", idempotency_key=f"{WORD} {number}"
            )
            messages = await session.get_messages()
            require(not messages, f"erasure: a new session has {messages}")


async def _conversations(manager: SessionManager) -> set[str]:
    """What vendors keep of the user."""
    sessions = await manager.get_user_sessions(USER)
    sessions += await manager.get_user_sessions(USER, status="deleted")
    names = {session._record.provider_session_id for session in sessions}
    return {name for name in names if name is not None}


async def nothing_left(manager: SessionManager, names: Iterable[str]) -> None:
    """No read, list, search, export, and no figure has anything of the user."""
    for name in names:
        for user_id in (None, USER):
            with contextlib.suppress(SessionNotFoundError):
                await manager.get_session(name, user_id=user_id)
                require(condition=False, text=f"erasure: {name!r} can be read")
    queries: tuple[dict[str, Any], ...] = (
        {"user_id": USER},
        {"user_id": USER, "status": "deleted"},
        {"text": WORD},
        {"tags": [WORD]},
        {"metadata": {WORD: WORD}},
    )
    for query in queries:
        found = await manager.search_sessions(**query)
        require(not found, f"erasure: {query} finds {[each.session_id for each in found]}")
    figures = await manager.get_analytics(user_id=USER)
    require(not figures.total_sessions + figures.total_messages, f"erasure: {figures}")
    everybody = await manager.get_analytics()
    require(everybody.active_users <= len(OTHERS), f"erasure: {everybody.active_users} users")
    storage = manager._anchor.host.runtime().storage
    left = [each for each in await _claims(storage) if WORD in each]
    require(not left, f"erasure: keys are left: {left}")


async def _claims(storage: Any) -> list[str]:
    """The keys that a storage in memory has; of files, all tables are looked at."""
    inner = getattr(storage, "_storage", None)
    claims: dict[Any, Any] = getattr(inner, "_claims", {})
    return [repr(each) for each in claims.items()]


async def _of_others(manager: SessionManager) -> list[object]:
    """All that can be read of them."""
    found: list[object] = []
    for user_id in OTHERS:
        for session in await manager.get_user_sessions(user_id):
            found.append(await session.export_conversation())
            found.append((await session.get_metrics()).total_messages)
        deleted = await manager.get_user_sessions(user_id, status="deleted")
        found.append([session.session_id for session in deleted])
        found.append(await manager.get_analytics(user_id=user_id))
        searched = await manager.search_sessions(user_id=user_id, text="common")
        found.append([session.session_id for session in searched])
    return found


def _check_tables(place: Place) -> None:
    """Every value of every table, those of the index of words too."""
    with contextlib.closing(sqlite3.connect(f"file:{place.path}?mode=ro", uri=True)) as file:
        # A virtual table cannot be scanned; what it is made of can.
        tables = [
            name
            for name, sql in file.execute("SELECT name, sql FROM sqlite_master WHERE type='table'")
            if not sql.startswith("CREATE VIRTUAL")
        ]
        for table in tables:
            for row in file.execute(f'SELECT * FROM "{table}"'):
                shown = [_text(value) for value in row]
                require(not any(WORD in text for text in shown), f"erasure: {table} has {shown}")


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


# ---------------------------------------------------------------- killed on the way


class MortalStorage(SimulatedStorage):
    """The process ends at the n-th write, before it or after it."""

    def __init__(self, disk: SimulatedDisk) -> None:
        super().__init__(disk)
        self.left = -1
        self.died = anyio.Event()

    async def _write(self, writes: Sequence[SessionWrite]) -> list[WriteOutcome]:
        self.left -= 1
        if self.left == 0:
            self.die()
            self.died.set()
        return await super()._write(writes)


def check_killed_erasure(source: random.Random, backend: Backend) -> None:
    """Killed at any commit and made again, it ends with nothing left."""
    disk = SimulatedDisk()

    async def killed() -> list[str]:
        storage = MortalStorage(disk)
        manager = make_manager(storage)
        names = await live(source, manager)
        storage.left = source.randrange(1, 8)
        async with anyio.create_task_group() as group:

            async def erase() -> None:
                with contextlib.suppress(SessionError):
                    await manager.erase_user(USER)
                storage.died.set()

            group.start_soon(erase)
            await storage.died.wait()
            group.cancel_scope.cancel()
        storage.die()
        await manager.aclose(drain_seconds=0)
        return names[USER]

    async def main() -> None:
        names = await killed()
        async with make_manager(SimulatedStorage(disk)) as manager:
            before = await _of_others(manager)
            await manager.erase_user(USER)
            await nothing_left(manager, names)
            require(await _of_others(manager) == before, "erasure: others were changed")
        if disk.violations:
            raise BrokenPromiseError(str(disk.violations))

    simulate(main, backend=backend, seed=source.randrange(2**32))
