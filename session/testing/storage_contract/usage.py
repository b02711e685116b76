"""The figures of days: what writes add, and what is summed up of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.model import (
    LATENCY_BOUNDS_MS,
    SessionStatus,
    UsageQuery,
    UsageRecord,
    UsageReport,
)
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    claim,
    commit,
    create,
    days_of,
    load_one,
    message,
    new,
    usage,
    use,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect_committed,
    expect_equal,
    expect_failed,
)
from langswarm.core.session.testing.storage_contract.values import TEXTS

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import Claim
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()

_CLASSES = len(LATENCY_BOUNDS_MS) + 1
_EVERY = UsageQuery(first_day=-1000, last_day=100_000)


def _full(factor: int) -> UsageRecord:
    """With a value of its own in every field."""
    return usage(
        sessions=factor,
        user_messages=2 * factor,
        assistant_messages=3 * factor,
        system_messages=4 * factor,
        completed_turns=5 * factor,
        failed_turns=6 * factor,
        interrupted_turns=7 * factor,
        input_tokens=8 * factor,
        output_tokens=9 * factor,
        response_us=10 * factor,
        latencies=tuple((11 + place) * factor for place in range(_CLASSES)),
    )


def _summed(record: UsageRecord) -> UsageRecord:
    return attrs.evolve(record, user_id="")


@part.opened(promises.USAGE)
async def usage_of_several_writes_adds_up_in_every_field(storage: ISessionStorage) -> None:
    for number, factors in enumerate(((1, 10), (100,), (1000, 10_000, 100_000)), 1):
        await use(storage, f"s{number}", *map(_full, factors))
    expect_equal("the days", await days_of(storage), [_summed(_full(111_111))])
    expect_equal("those of Ann", await days_of(storage, user_id="ann"), [_summed(_full(111_111))])


@part.opened(promises.USAGE)
async def usage_of_one_batch_adds_up(storage: ISessionStorage) -> None:
    creations = [
        attrs.evolve(new(f"s{number}"), usage=usage(sessions=1, user_id=("ann", "bob")[number % 2]))
        for number in range(40)
    ]
    for outcome in await storage.commit(creations):
        expect_committed("a creation with usage", outcome)
    expect_equal("the days", await days_of(storage), [_summed(usage(sessions=40))])
    expect_equal("Bob's", await days_of(storage, user_id="bob"), [_summed(usage(sessions=20))])


@part.opened(promises.DAYS)
async def usage_is_told_by_day_provider_and_model_in_this_order(
    storage: ISessionStorage,
) -> None:
    names = [
        (101, "a", "a"),
        (99, "b", "a"),
        (100, "b", "B"),
        (100, "b", "a"),
        (100, "a", "b"),
        (100, "a", ""),
        (-1, "z", "z"),
        (20_000, "a", "a"),
    ]
    used = [
        usage(day=day, provider=provider, model=model, user_id=user_id, input_tokens=tokens)
        for tokens, (day, provider, model) in enumerate(names, 1)
        for user_id in ("ann", "bob")
    ]
    await use(storage, "s", *used)
    found = [(one.day, one.provider, one.model) for one in await days_of(storage)]
    expect_equal("the days", found, sorted(names))
    by_name = {(one.day, one.provider, one.model): one for one in await days_of(storage)}
    for tokens, name in enumerate(names, 1):
        expect_equal(f"the tokens of {name}", by_name[name].input_tokens, 2 * tokens)
        expect_equal(f"the user of {name}", by_name[name].user_id, "")


@part.opened(promises.BOTH_DAYS)
async def usage_is_summed_up_from_the_first_day_to_the_last(storage: ISessionStorage) -> None:
    await use(storage, "s", *(usage(day=day, sessions=1) for day in (7, 8, 9, 10, 12)))
    for first, last, expected in (
        (8, 10, [8, 9, 10]),
        (7, 7, [7]),
        (10, 12, [10, 12]),
        (11, 11, []),
        (13, 99, []),
        (0, 6, []),
        (10, 8, []),
        (-(10**6), 10**6, [7, 8, 9, 10, 12]),
    ):
        found = [one.day for one in await days_of(storage, first_day=first, last_day=last)]
        expect_equal(f"the days from {first} to {last}", found, expected)


@part.opened(promises.ACTIVE_USERS)
async def active_users_are_counted_once_over_all_days(storage: ISessionStorage) -> None:
    for day, user_ids in ((1, "ann bob"), (2, "bob Bob"), (3, "bob"), (9, "eve")):
        for user_id in user_ids.split():
            for model in ("a", "b"):
                one = usage(day=day, user_id=user_id, model=model, user_messages=1)
                await use(storage, f"{day}{user_id}{model}", one)
    periods: list[tuple[int, int, str | None, int]] = [
        (1, 9, None, 4),
        (1, 3, None, 3),
        (2, 2, None, 2),
        (3, 3, None, 1),
        (4, 8, None, 0),
        (1, 9, "bob", 1),
        (1, 9, "eve", 1),
        (1, 3, "eve", 0),
    ]
    for first, last, whose, expected in periods:
        query = UsageQuery(first_day=first, last_day=last, user_id=whose)
        report = await storage.read_usage(query)
        expect_equal(f"active_users for {query}", report.active_users, expected)


@part.opened(promises.ACTIVE_BY_DAY)
async def active_users_are_counted_for_each_day(storage: ISessionStorage) -> None:
    for day, user_ids in ((3, "bob"), (1, "ann bob"), (2, "bob Bob eve")):
        for user_id in user_ids.split():
            for model in ("a", "b"):
                one = usage(day=day, user_id=user_id, model=model, user_messages=1)
                await use(storage, f"{day}{user_id}{model}", one)
    report = await storage.read_usage(_EVERY)
    expect_equal("users by day", report.active_users_by_day, ((1, 2), (2, 3), (3, 1)))
    report = await storage.read_usage(attrs.evolve(_EVERY, first_day=2, user_id="ann"))
    expect_equal("Ann's days from the second on", report.active_users_by_day, ())
    report = await storage.read_usage(attrs.evolve(_EVERY, user_id="ann"))
    expect_equal("Ann's days", report.active_users_by_day, ((1, 1),))


@part.opened(promises.ONE_USER)
async def usage_of_one_user_is_nobody_elses(storage: ISessionStorage) -> None:
    names = ("ann", "Ann", "ann ", "an", "a_n", "%", "anna", "user:ann", "'", "ann\0")
    for number, user_id in enumerate(names, 1):
        await use(storage, f"s{number}", usage(user_id=user_id, input_tokens=number))
    for number, user_id in enumerate(names, 1):
        found = [one.input_tokens for one in await days_of(storage, user_id=user_id)]
        expect_equal(f"the tokens of {user_id!r}", found, [number])
    for stranger in ("nobody", "a%", "*", "anN"):
        report = await storage.read_usage(attrs.evolve(_EVERY, user_id=stranger))
        expect_equal(f"the usage of {stranger!r}", report, UsageReport())
    total = [one.input_tokens for one in await days_of(storage)]
    expect_equal("the tokens of all", total, [sum(range(1, len(names) + 1))])


@part.opened(promises.FAILS_ALONE)
async def a_failed_write_adds_no_usage_and_a_good_one_beside_it_does(
    storage: ISessionStorage,
) -> None:
    stored = await commit(storage, change(await create(storage, "bad"), message(1)))
    good = await create(storage, "good")
    bad = change(stored, message(1, "seq 1 is taken"), usage=usage(sessions=1))
    batch = [bad, change(good, usage=usage(sessions=10)), new("plain")]
    [first, second, _] = await storage.commit(batch)
    expect_failed("a message whose seq is taken", first)
    expect_committed("the good write", second)
    taken = attrs.evolve(new("good"), usage=usage(sessions=100))
    stale = change(stored, usage=usage(sessions=1000), record={"epoch": 9})
    await storage.commit([stale, taken])
    expect_equal("the days", await days_of(storage), [_summed(usage(sessions=10))])
    report = await storage.read_usage(_EVERY)
    expect_equal("active users", report.active_users, 1)


@part.opened(promises.AS_GIVEN)
async def usage_is_kept_under_every_text_and_with_large_numbers(storage: ISessionStorage) -> None:
    for number, text in enumerate(TEXTS):
        await use(storage, f"s{number}", usage(provider=text, model=text, sessions=number + 1))
    found = {(one.provider, one.model): one.sessions for one in await days_of(storage)}
    counts = {(text, text): number for number, text in enumerate(TEXTS, 1)}
    expect_equal("the sessions of each", found, counts)
    large = usage(day=7, input_tokens=2**63 - 2, response_us=2**62)
    await use(storage, "large", large, usage(day=7, input_tokens=1, response_us=2**61))
    expected = [usage(day=7, user_id="", input_tokens=2**63 - 1, response_us=2**62 + 2**61)]
    expect_equal("the day", await days_of(storage, first_day=7, last_day=7), expected)


@part.opened(promises.USAGE_SUMS)
async def usage_is_summed_up_over_many_days_and_users(storage: ISessionStorage) -> None:
    creations = [
        attrs.evolve(
            new(f"s{number}"),
            usage=usage(
                day=number % 30,
                user_id=f"u{number % 20}",
                model=f"m{number % 2}",
                output_tokens=number,
                latencies=tuple(int(place == number % _CLASSES) for place in range(_CLASSES)),
            ),
        )
        for number in range(600)
    ]
    await storage.commit(creations)
    report = await storage.read_usage(_EVERY)
    expect_equal("active users", report.active_users, 20)
    expect_equal("the days", [one.day for one in report.days], list(range(30)))
    for one in report.days:
        numbers = range(one.day, 600, 30)
        expect_equal(f"the tokens of day {one.day}", one.output_tokens, sum(numbers))
        counts = [0] * _CLASSES
        for number in numbers:
            counts[number % _CLASSES] += 1
        expect_equal(f"the latencies of day {one.day}", list(one.latencies), counts)


@part.opened(promises.USAGE_SUMS)
async def usage_stays_when_its_session_changes_or_goes(storage: ISessionStorage) -> None:
    stored = await use(storage, "s", usage(sessions=1))
    stored = await commit(storage, change(stored, record={"status": SessionStatus.DELETED}))
    [outcome] = await storage.commit([change(stored, usage=usage(sessions=2), erases=True)])
    expect_committed("an erasure with usage", outcome)
    expect_equal("the days", await days_of(storage), [_summed(usage(sessions=3))])
    await storage.close()
    await storage.open()
    expect_equal("the days, opened again", await days_of(storage), [_summed(usage(sessions=3))])


@part.opened(promises.USAGE_SUMS)
async def a_storage_without_usage_reports_none(storage: ISessionStorage) -> None:
    await create(storage)
    expect_equal("the report", await storage.read_usage(_EVERY), UsageReport())


# ---------------------------------------------------------------- erasing a user


def _creation_claim(user_id: str, **changes: str) -> Claim:
    return claim(scope=f"user:{user_id}", **{"method": "create_session", **changes})


@part.opened(promises.ERASED_FROM_SUMS)
async def erasing_a_user_takes_their_usage_out_of_the_sums(storage: ISessionStorage) -> None:
    await use(storage, "a", _full(1), usage(day=101, sessions=1), usage(model="own", sessions=1))
    await use(
        storage, "b", *(attrs.evolve(_full(10), user_id="bob"), usage(day=102, user_id="bob"))
    )
    await use(storage, "c", *(attrs.evolve(_full(100), user_id=name) for name in ("an", "anna")))
    await storage.erase_user("ann")
    expected = [_summed(_full(210)), usage(day=102, user_id="")]
    expect_equal("the days", await days_of(storage), expected)
    report = await storage.read_usage(_EVERY)
    expect_equal("active users", report.active_users, 3)
    expect_equal("active users by day", report.active_users_by_day, ((100, 3), (102, 1)))
    expect_equal("Ann's days", await days_of(storage, user_id="ann"), [])
    expect_equal("Bob's days", len(await days_of(storage, user_id="bob")), 2)
    await use(storage, "again", usage(sessions=5))
    found = await days_of(storage, user_id="ann")
    expect_equal("Ann's days when she is back", found, [_summed(usage(sessions=5))])


@part.opened(promises.ERASE_USER)
async def erasing_a_user_deletes_the_claims_of_their_creations(storage: ISessionStorage) -> None:
    claims = [
        _creation_claim("ann"),
        _creation_claim("ann", key="other"),
        _creation_claim("ann", method="import_conversation"),
        _creation_claim("an"),
        _creation_claim("anna"),
        _creation_claim("Ann"),
        claim(scope="ann"),
        claim(scope="s"),
    ]
    stored = await create(storage)
    for one in claims:
        stored = await commit(storage, change(stored, claim=one))
    await storage.erase_user("ann")
    kept = [one for one in claims if await storage.find_claim(one.scope, one.method, one.key)]
    expect_equal("the claims that are left", kept, claims[3:])


@part.opened(promises.ERASE_USER)
async def erasing_a_user_leaves_sessions_and_others_alone(storage: ISessionStorage) -> None:
    stored = await use(storage, "s", usage(sessions=1, user_id="a_n"))
    await use(storage, "t", usage(sessions=1, user_id="bob"))
    before = await storage.read_usage(_EVERY)
    for user_id in ("nobody", "%", "a%", "ann", "", "A_N", "user:bob"):
        await storage.erase_user(user_id)
    expect_equal("the usage", await storage.read_usage(_EVERY), before)
    expect_equal("the session", await load_one(storage, "s"), stored)
    await storage.erase_user("bob")
    await storage.erase_user("bob")
    expect_equal("the users that are left", (await storage.read_usage(_EVERY)).active_users, 1)


@part.opened(promises.ERASED_FROM_SUMS)
async def erasing_a_user_takes_out_many_days(storage: ISessionStorage) -> None:
    creations = [
        attrs.evolve(
            new(f"s{number}"),
            usage=usage(day=number // 2, user_id=("ann", "bob")[number % 2], input_tokens=number),
        )
        for number in range(400)
    ]
    await storage.commit(creations)
    await storage.erase_user("ann")
    found = [(one.day, one.input_tokens) for one in await days_of(storage)]
    expect_equal("the days", found, [(day, 2 * day + 1) for day in range(200)])


@part.opened(promises.ERASED_FROM_SUMS)
async def erasing_a_user_holds_after_opening_again(storage: ISessionStorage) -> None:
    stored = await use(storage, "s", usage(sessions=1), usage(sessions=2, user_id="bob"))
    await commit(storage, change(stored, claim=_creation_claim("ann")))
    await storage.erase_user("ann")
    await storage.close()
    await storage.open()
    expect_equal("the days", await days_of(storage), [_summed(usage(sessions=2))])
    found = await storage.find_claim("user:ann", "create_session", "k")
    expect_equal("the claim", found, None)
