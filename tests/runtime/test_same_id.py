"""A session that has the id of an erased one is never taken for it, whoever reads meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import SessionNotFoundError, create_session_manager

from .faults import Faulty
from .helpers import Echo, Gate, Store, new_session, outcome, supervisor_of, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session import Session, SessionManager
    from langswarm.core.session.actors.model import StoredSession

ID = "chat"


class SlowReads(Faulty):
    """The next load is late: it reads before or after the gate."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.storage())
        self.before: Gate | None = None
        self.behind: Gate | None = None

    async def load(self, session_ids: Sequence[str]) -> Sequence[StoredSession | None]:
        before, self.before = self.before, None
        behind, self.behind = self.behind, None
        if before is not None:
            await before.passed()
        found = await super().load(session_ids)
        if behind is not None:
            await behind.passed()
        return found


def manager_on(storage: SlowReads) -> SessionManager:
    return create_session_manager(storage=storage, providers={"openai": Echo()})


async def make_anew(manager: SessionManager) -> Session:
    """Erase the session; somebody else gets its id."""
    assert await manager.erase_user("ada") == 1
    eves = await new_session(manager, "eve", session_id=ID)
    await eves.update_context(secret="eve's")
    await eves.send_message("of eve")
    return eves


async def out_of_memory(manager: SessionManager) -> Session:
    session = await new_session(manager, "ada", session_id=ID)
    await session.send_message("of ada")
    assert supervisor_of(manager).evict(ID)
    return session


READS: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "get_context": lambda session: session.get_context(),
    "get_config": lambda session: session.get_config(),
    "get_metrics": lambda session: session.get_metrics(),
    "refresh": lambda session: session.refresh(),
    "export_conversation": lambda session: session.export_conversation(),
    "fork": lambda session: session.fork(),
    "get_provider_metadata": lambda session: session.get_provider_metadata(),
}


@pytest.mark.parametrize("read", READS)
async def test_a_read_that_is_late_shows_nothing_of_the_new_one(store: Store, read: str) -> None:
    """Not found, as it is for every later read of that handle."""
    storage = SlowReads(store)
    async with manager_on(storage) as manager, anyio.create_task_group() as tasks:
        adas = await out_of_memory(manager)
        gate = storage.before = Gate()
        told: list[Any] = []

        async def late() -> None:
            told.append(await outcome(READS[read](adas)))

        tasks.start_soon(late)
        await gate.reached()
        await make_anew(manager)
        assert supervisor_of(manager).evict(ID)
        gate.open()
        await until(lambda: bool(told))
        assert isinstance(told[0], SessionNotFoundError)
        assert (adas.user_id, adas.status) == ("ada", "deleted")
        assert isinstance(await outcome(adas.get_messages()), SessionNotFoundError)


@pytest.mark.parametrize("reads", ["before", "behind"])
async def test_whoever_looks_it_up_meanwhile_turns_no_old_handle_into_a_new_one(
    store: Store, reads: str
) -> None:
    """And gets a handle that is one of the two, not a part of both."""
    storage = SlowReads(store)
    async with manager_on(storage) as manager, anyio.create_task_group() as tasks:
        adas = await out_of_memory(manager)
        await adas.archive()
        assert supervisor_of(manager).evict(ID)
        del adas
        gate = Gate()
        setattr(storage, "behind" if reads == "before" else "before", gate)
        found: list[Any] = []

        async def look_up() -> None:
            found.append(await outcome(manager.get_session(ID)))

        tasks.start_soon(look_up)
        await gate.reached()
        eves = await make_anew(manager)
        gate.open()
        await until(lambda: bool(found))
        assert found[0].user_id == "eve"
        await found[0].update_context(more=True)
        assert (await eves.get_context())["more"] is True


async def test_a_batch_changes_only_what_it_has_looked_at(store: Store) -> None:
    """The owner was checked of the old one."""
    storage = SlowReads(store)
    async with manager_on(storage) as manager, anyio.create_task_group() as tasks:
        await out_of_memory(manager)
        gate = storage.behind = Gate()
        results: list[Any] = []

        async def batch() -> None:
            results.extend(await manager.archive_sessions([ID], user_id="ada"))

        tasks.start_soon(batch)
        await gate.reached()
        eves = await make_anew(manager)
        gate.open()
        await until(lambda: bool(results))
        assert isinstance(results[0].error, SessionNotFoundError)
        assert eves.status == "active"


async def test_a_follower_of_the_erased_one_hears_nothing_of_the_new_one(store: Store) -> None:
    """Its handle finds no session, while a turn of the new one runs."""
    provider = Echo()
    gate = provider.hold("secret")
    async with store.manager(provider) as manager:
        adas = await out_of_memory(manager)
        eves = await make_anew(manager)
        ticket = eves.submit("secret")
        await gate.reached()
        turn_ids = (None, f"{ID}/1", f"{ID}/2")
        told = [await outcome(anext(adas.follow(turn_id))) for turn_id in turn_ids]
        gate.open()
        await ticket
        assert [type(each) for each in told] == [SessionNotFoundError] * 3
