"""What every storage promises of opening and closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import Committed, MessageQuery, SessionQuery

from .builders import ALL, change, commit, contents, create, message, new

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage


async def test_close_and_open_keep_everything(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    await storage.close()
    await storage.open()
    assert await storage.load(["s"]) == [stored]
    assert await contents(storage, stored.record.key) == ["text 1"]


async def test_keys_go_on_after_reopening(storage: ISessionStorage) -> None:
    before = await create(storage, "a")
    await storage.close()
    await storage.open()
    after = await create(storage, "b")
    assert after.record.key > before.record.key


async def test_open_and_close_may_be_called_twice(storage: ISessionStorage) -> None:
    await storage.open()
    await create(storage)
    await storage.close()
    await storage.close()


async def test_open_may_be_called_by_many_at_once(unopened: ISessionStorage) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(unopened.open)
    await create(unopened)
    await unopened.close()


async def test_close_may_be_called_without_open(unopened: ISessionStorage) -> None:
    await unopened.close()


@pytest.mark.parametrize("opened_before", [True, False])
async def test_every_call_to_a_closed_storage_says_so(
    unopened: ISessionStorage, opened_before: bool
) -> None:
    if opened_before:
        await unopened.open()
        await unopened.close()
    for call in (
        lambda: unopened.commit([new("s")]),
        lambda: unopened.load(["s"]),
        lambda: unopened.read_back(["s"]),
        lambda: unopened.load_unfinished(1),
        lambda: unopened.read_messages(1, ALL),
        lambda: unopened.list_sessions(SessionQuery(user_id="ann", limit=1)),
    ):
        with pytest.raises(StorageError) as caught:
            await call()
        assert caught.value.code == "closed"
        assert caught.value.outcome == "failed"


async def test_close_finishes_what_was_handed_over(storage: ISessionStorage) -> None:
    outcomes: list[object] = []

    async def write() -> None:
        outcomes.extend(await storage.commit([new(f"s{number}") for number in range(200)]))

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        await storage.close()
    assert [type(outcome) for outcome in outcomes] == [Committed] * 200
    await storage.open()
    assert None not in await storage.load(["s0", "s199"])


async def test_a_cancelled_close_can_be_followed_by_open(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await storage.close()
    await storage.open()
    assert await contents(storage, stored.record.key, MessageQuery(limit=1)) == ["text 1"]


async def test_a_cancelled_open_can_be_followed_by_open(unopened: ISessionStorage) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await unopened.open()
    await unopened.open()
    await create(unopened)
    await unopened.close()


async def test_a_cancelled_open_does_not_spoil_that_of_another_caller(
    unopened: ISessionStorage,
) -> None:
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(unopened.open)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
            await unopened.open()
    await create(unopened)
    await unopened.close()
