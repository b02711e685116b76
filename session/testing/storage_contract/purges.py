"""The queue of conversations that are to be deleted where a provider keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    commit,
    create,
    message,
    purge,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect_equal,
    expect_failed,
)
from langswarm.core.session.testing.storage_contract.values import TEXTS

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import Purge, StoredSession
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()

_LATER_US = START_US + 1_000


async def _queue(storage: ISessionStorage, *purges: Purge) -> StoredSession:
    return await commit(storage, change(await create(storage), purges=purges))


async def _due(storage: ISessionStorage, now_us: int = _LATER_US, limit: int = 99) -> list[Purge]:
    return list(await storage.load_purges(now_us, limit))


@part.opened(promises.PURGES)
async def a_write_queues_purges_with_every_field(storage: ISessionStorage) -> None:
    full = purge("full", due_us=START_US + 1, attempts=2, last_error="gone \0 away")
    plain = purge("plain")
    await _queue(storage, full, plain)
    expect_equal("the purges", await _due(storage), [plain, full])


@part.opened(promises.PURGES)
async def a_purge_that_is_queued_already_stays_as_it_is(storage: ISessionStorage) -> None:
    first = purge(attempts=3, last_error="why", due_us=START_US + 1)
    stored = await _queue(storage, first)
    again = (purge(), purge(queued_us=START_US + 9), purge("other"))
    await commit(storage, change(stored, purges=again))
    expect_equal("the purges", await _due(storage), [purge("other"), first])


@part.opened(promises.PURGES)
async def a_purge_is_known_by_provider_and_conversation(storage: ISessionStorage) -> None:
    three = (purge("a"), purge("A", due_us=START_US + 1), purge("a", provider="other"))
    await _queue(storage, *three)
    found = {(one.provider, one.provider_session_id) for one in await _due(storage)}
    expect_equal("the purges", found, {("mock", "a"), ("mock", "A"), ("other", "a")})


@part.opened(promises.AS_GIVEN)
async def every_text_of_a_purge_comes_back(storage: ISessionStorage) -> None:
    queued = [
        purge(text, provider=text, last_error=text, due_us=START_US + number)
        for number, text in enumerate(TEXTS)
    ]
    await _queue(storage, *queued)
    expect_equal("the purges", await _due(storage), queued)
    for one in queued:
        await storage.settle_purge(one, retry_us=None, error=None)
    expect_equal("the purges when all are done", await _due(storage), [])


@part.opened(promises.FAILS_ALONE)
async def a_failed_write_queues_no_purge(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    bad = change(stored, message(1, "seq 1 is taken"), purges=(purge(),))
    [outcome] = await storage.commit([bad])
    expect_failed("a message whose seq is taken", outcome)
    expect_equal("the purges", await _due(storage), [])


@part.opened(promises.LOAD_PURGES)
async def purges_come_when_they_are_due_the_oldest_first(storage: ISessionStorage) -> None:
    queued = [purge(str(number), due_us=START_US + number) for number in (3, 1, 4, 2)]
    await _queue(storage, *queued)
    for now_us, limit, expected in (
        (START_US, 9, ""),
        (START_US + 1, 9, "1"),
        (START_US + 3, 9, "1 2 3"),
        (START_US + 9, 3, "1 2 3"),
        (START_US + 9, 0, ""),
    ):
        found = " ".join(one.provider_session_id for one in await _due(storage, now_us, limit))
        expect_equal(f"at most {limit} that are due at {now_us}", found, expected)


@part.opened(promises.SETTLE)
async def a_purge_that_is_done_is_gone_and_may_be_queued_anew(storage: ISessionStorage) -> None:
    done, other = purge("done"), purge("other")
    stored = await _queue(storage, done, other)
    await storage.settle_purge(done, retry_us=None, error=None)
    expect_equal("the purges", await _due(storage), [other])
    anew = purge("done", due_us=START_US + 1)
    await commit(storage, change(stored, purges=(anew,)))
    expect_equal("the purges", await _due(storage), [other, anew])


@part.opened(promises.SETTLE)
async def a_purge_that_failed_is_due_again_at_the_time_given(storage: ISessionStorage) -> None:
    failed, other = purge("failed"), purge("other")
    await _queue(storage, failed, other)
    await storage.settle_purge(failed, retry_us=START_US + 5, error="why")
    expect_equal("what is due before", await _due(storage, START_US + 4), [other])
    found = [one.provider_session_id for one in await _due(storage, START_US + 5)]
    expect_equal("what is due then", found, ["other", "failed"])


@part.opened(promises.RETRY)
async def each_failure_counts_and_leaves_its_error(storage: ISessionStorage) -> None:
    queued = purge()
    await _queue(storage, queued)
    for attempts, error in ((1, "first"), (2, "second"), (3, None)):
        await storage.settle_purge(queued, retry_us=START_US + attempts, error=error)
        expected = purge(due_us=START_US + attempts, attempts=attempts, last_error=error)
        expect_equal("the purges", await _due(storage), [expected])


@part.opened(promises.NOT_QUEUED)
async def settling_a_purge_that_is_not_queued_changes_nothing(storage: ISessionStorage) -> None:
    queued = purge("queued")
    await _queue(storage, queued)
    for retry_us in (None, START_US + 5):
        for ghost in (purge("ghost"), purge("queued", provider="other")):
            await storage.settle_purge(ghost, retry_us=retry_us, error="why")
    expect_equal("the purges", await _due(storage), [queued])
