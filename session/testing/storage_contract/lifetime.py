"""Opening, closing, looking after."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.actors.model import MessageQuery, SessionQuery, UsageQuery
from langswarm.core.session.actors.ports import KeyRotation, StorageHealth
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    ALL,
    change,
    commit,
    contents,
    create,
    message,
    new,
    open_turn,
    purge,
)
from langswarm.core.session.testing.storage_contract.cancelling import ways_to_cancel
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_closed,
    expect_committed,
    expect_equal,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langswarm.core.session.actors.ports import ISessionStorage
    from langswarm.core.session.testing.storage_contract.case import Make

part = Part()


@part.opened(promises.CLOSE_AGAIN)
async def close_and_open_keep_everything(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    await storage.close()
    await storage.open()
    expect_equal("the session", list(await storage.load(["s"])), [stored])
    expect_equal("the messages", await contents(storage, stored.record.key), ["text 1"])


@part.opened(promises.LIST)
async def keys_go_on_after_opening_again(storage: ISessionStorage) -> None:
    before = await create(storage, "a")
    await storage.close()
    await storage.open()
    after = await create(storage, "b")
    keys = (before.record.key, after.record.key)
    expect("the later session has the larger key", keys[1] > keys[0], keys)


@part.opened(promises.OPEN_AGAIN)
async def open_and_close_may_be_called_twice(storage: ISessionStorage) -> None:
    stored = await create(storage)
    await storage.open()
    expect_equal("the session", list(await storage.load(["s"])), [stored])
    await storage.close()
    await storage.close()


@part.unopened(promises.OPEN)
async def open_may_be_called_by_many_at_once(make: Make) -> None:
    storage = make()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(storage.open)
    await create(storage)


@part.unopened(promises.CLOSE_AGAIN)
async def close_may_be_called_without_open(make: Make) -> None:
    storage = make()
    await storage.close()
    await storage.open()
    await create(storage)


async def _refuses_every_call(storage: ISessionStorage) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "commit": lambda: storage.commit([new("s")]),
        "load": lambda: storage.load(["s"]),
        "read_back": lambda: storage.read_back(["s"]),
        "load_unfinished": lambda: storage.load_unfinished(1),
        "read_messages": lambda: storage.read_messages(1, ALL),
        "list_sessions": lambda: storage.list_sessions(SessionQuery(user_id="ann", limit=1)),
        "read_usage": lambda: storage.read_usage(UsageQuery(first_day=1, last_day=2)),
        "erase_user": lambda: storage.erase_user("ann"),
        "read_turn": lambda: storage.read_turn(1, 1),
        "find_claim": lambda: storage.find_claim("s", "send_message", "k"),
        "sweep_claims": lambda: storage.sweep_claims(1, 1),
        "load_purges": lambda: storage.load_purges(1, 1),
        "settle_purge": lambda: storage.settle_purge(purge(), retry_us=None, error=None),
    }
    for name, call in calls.items():
        await expect_closed(f"{name}()", call)


@part.unopened(promises.CLOSED)
async def every_call_to_a_storage_that_was_never_opened_says_so(make: Make) -> None:
    storage = make()
    await _refuses_every_call(storage)
    await storage.open()
    expect_equal("the session of a refused write", list(await storage.load(["s"])), [None])


@part.opened(promises.CLOSED)
async def every_call_to_a_closed_storage_says_so(storage: ISessionStorage) -> None:
    await storage.close()
    await _refuses_every_call(storage)
    await storage.open()
    expect_equal("the session of a refused write", list(await storage.load(["s"])), [None])


@part.opened(promises.CLOSE)
async def close_finishes_what_was_handed_over(storage: ISessionStorage) -> None:
    outcomes: list[object] = []

    async def write() -> None:
        outcomes.extend(await storage.commit([new(f"s{number}") for number in range(200)]))

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        await storage.close()
    expect("200 writes have 200 outcomes", len(outcomes) == 200, outcomes)
    for outcome in outcomes:
        expect_committed("a write that was handed over before close()", outcome)
    await storage.open()
    loaded = await storage.load(["s0", "s199"])
    expect("both sessions are there", None not in loaded, loaded)


@part.opened(promises.CANCELLING)
async def a_cancelled_close_can_be_followed_by_open(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    for cancelled in ways_to_cancel():
        for steps in range(5):
            await cancelled(steps, storage.close)
            await storage.open()
            newest = await contents(storage, stored.record.key, MessageQuery(limit=1))
            expect_equal("the messages", newest, ["text 1"])


@part.unopened(promises.CANCELLING)
async def a_cancelled_open_can_be_followed_by_open(make: Make) -> None:
    storage = make()
    for number, cancelled in enumerate(ways_to_cancel()):
        for steps in range(5):
            await cancelled(steps, storage.open)
            await storage.open()
            await create(storage, f"s{number}.{steps}")
            await storage.close()


@part.unopened(promises.CANCELLING)
async def a_cancelled_open_does_not_spoil_that_of_another_caller(make: Make) -> None:
    storage = make()
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(storage.open)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
            await storage.open()
    await create(storage)


# ---------------------------------------------------------------- what has an answer by default


@part.unopened(promises.HEALTH)
async def health_answers_at_any_time(make: Make) -> None:
    storage = make()
    healths: list[object] = [storage.health()]
    await storage.open()
    await create(storage)
    while_open = storage.health()
    await storage.close()
    healths += [while_open, storage.health()]
    for health in healths:
        expect("a StorageHealth", isinstance(health, StorageHealth), health)
    expect("is_open while it is open", while_open.is_open, while_open)
    expect("nothing stopped after good writes", not while_open.writes_stopped, while_open)


@part.opened(promises.OPTIMIZE)
async def optimize_changes_nothing_and_lets_commits_through(storage: ISessionStorage) -> None:
    kept = await commit(storage, open_turn(await create(storage, "kept")))
    for number in range(3):
        await create(storage, f"s{number}")
    async with anyio.create_task_group() as group:
        group.start_soon(storage.optimize)
        await create(storage, "meanwhile")
    expect_equal("the session", list(await storage.load(["kept"])), [kept])
    expect_equal("the messages", await contents(storage, kept.record.key), ["text 1"])


@part.opened(promises.VERIFY)
async def verify_finds_nothing_wrong_with_good_writes(storage: ISessionStorage) -> None:
    await commit(storage, open_turn(await create(storage)))
    found = await storage.verify()
    expect_equal("the problems", tuple(found.problems), ())


@part.opened(promises.BACKUP)
async def a_backup_is_a_new_file_or_refused(storage: ISessionStorage) -> None:
    await commit(storage, change(await create(storage), message(1)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backup"
        try:
            backup = await storage.backup(path)
        except ConfigurationError:
            expect("a refused backup leaves no file", not path.exists(), path)
            return
        made = Path(backup.path)
        expect("the file of the backup is there", made.exists(), backup)
        expect_equal("size_bytes", backup.size_bytes, made.stat().st_size)


@part.opened(promises.NO_BACKUP)
async def a_backup_never_overwrites_a_file(storage: ISessionStorage) -> None:
    await create(storage)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "taken"
        path.write_bytes(b"somebody's")
        try:
            found: object = await storage.backup(path)
        except ConfigurationError:
            found = ConfigurationError
        expect("ConfigurationError where a file is there", found is ConfigurationError, found)
        expect_equal("the file", path.read_bytes(), b"somebody's")


async def _rotates(storage: ISessionStorage, done: list[object]) -> None:
    """Whether it does, or has nothing to rotate; whatever else it raises comes out."""
    try:
        done.append(await storage.rotate_keys())
    except ConfigurationError:
        done.append(None)


@part.opened(promises.ROTATE)
async def rotating_keys_changes_nothing_and_lets_commits_through(
    storage: ISessionStorage,
) -> None:
    kept = await commit(storage, open_turn(await create(storage, "kept")))
    done: list[object] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_rotates, storage, done)
        await create(storage, "meanwhile")
    expect_equal("the session", list(await storage.load(["kept"])), [kept])
    expect_equal("the messages", await contents(storage, kept.record.key), ["text 1"])


@part.opened(promises.NO_ROTATION)
async def keys_are_rotated_or_that_is_refused(storage: ISessionStorage) -> None:
    await create(storage)
    done: list[object] = []
    await _rotates(storage, done)
    rotated = all(one is None or isinstance(one, KeyRotation) for one in done)
    expect("a KeyRotation, or ConfigurationError", rotated, done)
