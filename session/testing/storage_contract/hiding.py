"""Messages that a write hides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.actors.model import MessageQuery
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    ALL,
    change,
    commit,
    contents,
    create,
    message,
)
from langswarm.core.session.testing.storage_contract.case import Part, expect_equal, expect_failed

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


async def _hidden_by(storage: ISessionStorage, key: int) -> list[int]:
    return [one.hidden_by for one in await storage.read_messages(key, ALL)]


@part.opened(promises.HIDES)
async def a_write_hides_a_range_with_both_of_its_ends(storage: ISessionStorage) -> None:
    five = [message(seq, str(seq)) for seq in range(1, 6)]
    stored = await commit(storage, change(await create(storage), *five))
    await commit(storage, change(stored, hides=((2, 4, 7),)))
    key = stored.record.key
    expect_equal("hidden_by", await _hidden_by(storage, key), [0, 7, 7, 7, 0])
    expect_equal("what is shown", await contents(storage, key, MessageQuery()), ["1", "5"])


@part.opened(promises.HIDES)
async def a_write_leaves_what_is_hidden_already_as_it_is(storage: ISessionStorage) -> None:
    four = [message(seq) for seq in range(1, 5)]
    stored = await commit(storage, change(await create(storage), *four))
    stored = await commit(storage, change(stored, hides=((2, 2, 5),)))
    await commit(storage, change(stored, hides=((1, 3, 6), (3, 4, 7))))
    found = await _hidden_by(storage, stored.record.key)
    expect_equal("hidden_by", found, [6, 5, 6, 7])


@part.opened(promises.HIDES)
async def a_write_hides_messages_of_its_session_only_however_far_it_reaches(
    storage: ISessionStorage,
) -> None:
    keys: list[int] = []
    for name in ("a", "b", "c", "d"):
        stored = await commit(storage, change(await create(storage, name), message(1)))
        keys.append(stored.record.key)
    [stored] = [one for one in await storage.load(["b"]) if one is not None]
    far = 2**32
    beyond = ((far, 3 * far, 6), (far + 1, far + 1, 6), (-5, 0, 6), (3, 2, 6))
    stored = await commit(storage, change(stored, hides=beyond))
    found = [await _hidden_by(storage, key) for key in keys]
    expect_equal("hidden_by, when no message is in the range", found, [[0], [0], [0], [0]])
    await commit(storage, change(stored, hides=((-1, 2 * far, 7),)))
    found = [await _hidden_by(storage, key) for key in keys]
    expect_equal("hidden_by", found, [[0], [7], [0], [0]])


@part.opened(promises.WRITE_ORDER)
async def a_write_hides_before_it_inserts(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    await commit(storage, change(stored, message(2), hides=((1, 2, 7),)))
    expect_equal("hidden_by", await _hidden_by(storage, stored.record.key), [7, 0])


@part.opened(promises.CLEAR)
async def a_write_clears_hidden_messages_too(storage: ISessionStorage) -> None:
    three = [message(seq, str(seq)) for seq in (1, 2, 3)]
    stored = await commit(storage, change(await create(storage), *three))
    stored = await commit(storage, change(stored, hides=((1, 3, 7),)))
    await commit(storage, change(stored, clear_through_seq=2))
    expect_equal("what is left", await contents(storage, stored.record.key), ["3"])


@part.opened(promises.FAILS_ALONE)
async def a_failed_write_hides_nothing(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    bad = change(stored, message(1, "seq 1 is taken"), hides=((1, 1, 7),))
    [outcome] = await storage.commit([bad])
    expect_failed("a message whose seq is taken", outcome)
    expect_equal("hidden_by", await _hidden_by(storage, stored.record.key), [0])
