"""What is remembered of idempotency keys, and how it is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    claim,
    commit,
    create,
    load_one,
    message,
    new,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_equal,
    expect_failed,
)
from langswarm.core.session.testing.storage_contract.values import TEXTS

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import Claim, StoredSession
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


async def _put(storage: ISessionStorage, stored: StoredSession, *claims: Claim) -> StoredSession:
    for one in claims:
        stored = await commit(storage, change(stored, claim=one))
    return stored


async def _found(storage: ISessionStorage, *keys: str) -> list[str]:
    """Those of the keys that have a claim."""
    found = [await storage.find_claim("s", "send_message", key) for key in keys]
    return [one.key for one in found if one is not None]


@part.opened(promises.CLAIM)
async def a_claim_is_found_with_every_field(storage: ISessionStorage) -> None:
    put = claim(
        scope="user:ann",
        method="create_session",
        payload_hash=bytes(range(256)),
        session_id="made",
        result=2**63 - 1,
    )
    await _put(storage, await create(storage), put)
    expect_equal("the claim", await storage.find_claim("user:ann", "create_session", "k"), put)


@part.opened(promises.CLAIM)
async def a_later_claim_of_the_same_name_replaces_the_one_before(
    storage: ISessionStorage,
) -> None:
    a, b = await create(storage, "a"), await create(storage, "b")
    a = await _put(storage, a, claim(result=1))
    b = await _put(storage, b, claim(result=2, session_id="b", created_us=START_US - 5))
    expected = claim(result=2, session_id="b", created_us=START_US - 5)
    expect_equal("the claim", await storage.find_claim("s", "send_message", "k"), expected)
    writes = [change(a, claim=claim(result=3)), change(b, claim=claim(result=4))]
    await storage.commit(writes)
    last = await storage.find_claim("s", "send_message", "k")
    expect_equal("the last claim of a batch", last, claim(result=4))


@part.opened(promises.FIND_CLAIM)
async def a_claim_is_found_by_scope_method_and_key_together(storage: ISessionStorage) -> None:
    await _put(storage, await create(storage), claim())
    for name in (
        ("S", "send_message", "k"),
        ("s", "send_messages", "k"),
        ("s", "send_message", "K"),
        ("s", "send_message", "k "),
        ("s", "send_message", ""),
        ("k", "send_message", "s"),
        ("s", "send_message", "\ud800"),
    ):
        expect_equal(f"the claim of {name}", await storage.find_claim(*name), None)


@part.opened(promises.AS_GIVEN)
async def every_text_of_a_claim_comes_back(storage: ISessionStorage) -> None:
    puts = [claim(text, scope=text, method=text, session_id=text) for text in TEXTS]
    await _put(storage, await create(storage), *puts)
    for text, put in zip(TEXTS, puts, strict=True):
        expect_equal("the claim", await storage.find_claim(text, text, text), put)


@part.opened(promises.FAILS_ALONE)
async def a_failed_write_leaves_no_claim_and_a_good_one_beside_it_does(
    storage: ISessionStorage,
) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    good = await create(storage, "good")
    bad = change(stored, message(1, "seq 1 is taken"), claim=claim("bad"))
    stale = change(stored, claim=claim("stale"), record={"epoch": 9})
    [first, second] = await storage.commit([bad, change(good, claim=claim("good"))])
    expect_failed("a message whose seq is taken", first)
    await storage.commit([stale])
    found = await _found(storage, "bad", "good", "stale")
    expect_equal(f"the claims, the outcome of the good one being {second}", found, ["good"])


@part.opened(promises.SWEEP)
async def sweeping_deletes_the_claims_made_before_a_time(storage: ISessionStorage) -> None:
    claims = [claim(str(number), created_us=START_US + number) for number in range(5)]
    stored = await _put(storage, await create(storage), *reversed(claims))
    swept = await storage.sweep_claims(START_US + 3, 100)
    expect_equal("the number of claims swept", swept, 3)
    expect_equal("what is left", await _found(storage, *"01234"), ["3", "4"])
    swept = await storage.sweep_claims(START_US + 3, 100)
    expect_equal("the number of claims swept again", swept, 0)
    expect_equal("the session", await load_one(storage, "s"), stored)


@part.opened(promises.SWEEP)
async def sweeping_deletes_no_more_than_its_limit(storage: ISessionStorage) -> None:
    names = [f"s{number}" for number in range(300)]
    await storage.commit([new(name) for name in names])
    loaded = [one for one in await storage.load(names) if one is not None]
    await storage.commit([change(one, claim=claim(one.record.session_id)) for one in loaded])
    swept = [await storage.sweep_claims(START_US + 1, limit) for limit in (0, 1, 250, 250, 250)]
    expect_equal("the numbers of claims swept", swept, [0, 1, 250, 49, 0])
    expect_equal("what is left", await _found(storage, *names), [])


@part.opened(promises.SWEEP)
async def sweeping_spares_a_claim_that_was_made_anew(storage: ISessionStorage) -> None:
    young = claim(created_us=START_US + 9)
    await _put(storage, await create(storage), claim(), young)
    expect_equal("the claims swept", await storage.sweep_claims(START_US + 9, 9), 0)
    expect_equal("the claim", await storage.find_claim("s", "send_message", "k"), young)


@part.opened(promises.SWEEP_IN_STEPS)
async def commits_go_on_while_claims_are_swept(storage: ISessionStorage) -> None:
    names = [f"s{number}" for number in range(300)]
    await storage.commit([new(name) for name in names])
    loaded = [one for one in await storage.load(names) if one is not None]
    await storage.commit([change(one, claim=claim(one.record.session_id)) for one in loaded])
    swept: list[int] = []

    async def sweep() -> None:
        swept.append(await storage.sweep_claims(START_US + 1, 300))

    stored = await create(storage, "meanwhile")
    async with anyio.create_task_group() as group:
        group.start_soon(sweep)
        for number in range(5):
            young = claim(f"young{number}", created_us=START_US + 1)
            stored = await _put(storage, stored, young)
    expect("all old claims are swept", swept == [300], swept)
    young_ones = [f"young{number}" for number in range(5)]
    expect_equal("what is left", await _found(storage, *names, *young_ones), young_ones)
