"""What one write changes, and when it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.model import (
    Conflict,
    Counters,
    SessionDocuments,
    SessionStatus,
    TurnRecord,
    TurnState,
)
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    ALL,
    START_US,
    change,
    claim,
    close_turn,
    commit,
    contents,
    create,
    days_of,
    listed,
    load_one,
    message,
    new,
    open_turn,
    purge,
    usage,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_equal,
    expect_failed,
    present,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


@part.opened(promises.COMMIT)
async def a_write_is_there_with_every_field_once_it_is_committed(storage: ISessionStorage) -> None:
    fields: dict[str, Any] = {
        "status": SessionStatus.ERROR,
        "epoch": 3,
        "last_seq": 11,
        "last_turn_no": 12,
        "visible_messages": 13,
        "provider_session_id": "conv_1",
        "synced_seq": 14,
        "dirty": True,
        "auto_archive_seconds": 16,
        "latencies": "0 1 2",
        "counters": Counters(
            user_messages=1,
            assistant_messages=2,
            system_messages=3,
            completed_turns=4,
            failed_turns=5,
            interrupted_turns=6,
            input_tokens=7,
            output_tokens=8,
            response_us=9,
        ),
        "updated_us": START_US + 15,
    }
    stored = await create(storage, "every-field", **fields)
    expect("the key of a stored session is above 0", stored.record.key > 0, stored.record.key)
    expected = attrs.evolve(new("every-field").after.record, key=stored.record.key, **fields)
    expect_equal("the record", stored.record, expected)
    expect_equal("the documents", stored.documents, SessionDocuments(config='{"a": 1}'))


@part.opened(promises.COMMIT)
async def a_write_changes_every_field_that_may_change(storage: ISessionStorage) -> None:
    stored = await create(storage)
    fields: dict[str, Any] = {
        "status": SessionStatus.ARCHIVED,
        "visible_messages": 13,
        "provider_session_id": "conv_2",
        "synced_seq": 14,
        "dirty": True,
        "auto_archive_seconds": 2**40,
        "latencies": "3 4",
        "counters": Counters(user_messages=1, response_us=9),
        "updated_us": START_US + 15,
    }
    after = await commit(storage, change(stored, record=fields))
    expect_equal("the record", after.record, attrs.evolve(stored.record, revision=2, **fields))


@part.opened(promises.COMMIT)
async def a_write_keeps_every_field_of_a_message(storage: ISessionStorage) -> None:
    stored = await create(storage)
    full = message(
        1,
        "emoji \N{OWL}, NUL \0, line\nend",
        turn_no=2,
        message_id="m1",
        metadata='{"k": "\\u0000"}',
        provider_message_id="p1",
        provider_metadata='{"p": [1]}',
        token_count=3,
        finish_reason="stop",
        hidden_by=4,
    )
    plain = message(2, " ")
    await commit(storage, change(stored, full, plain))
    found = list(await storage.read_messages(stored.record.key, ALL))
    expect_equal("the messages", found, [full, plain])


@part.opened(promises.TURN)
async def a_write_keeps_every_field_of_an_open_turn(storage: ISessionStorage) -> None:
    write = open_turn(
        await create(storage),
        replaces=1,
        partial_text="so far",
        idempotency_key="key",
        payload_hash=b"\0\xff",
    )
    stored = await commit(storage, write)
    expect_equal("the open turn", stored.open_turn, write.turn)
    expect_equal("the number of the open turn", stored.record.open_turn_no, 1)


@part.opened(promises.COMMIT)
async def a_write_changes_documents_only_when_it_says_so(storage: ISessionStorage) -> None:
    stored = await create(storage)
    other = SessionDocuments(
        config='{"c": 1}',
        provider_config='{"d": 2}',
        provider_settings='{"e": 3}',
        context='{"b": 2}',
        context_version=1,
    )
    silent = await commit(storage, change(stored, documents=other))
    expect_equal("documents_changed=False keeps them", silent.documents, stored.documents)
    loud = await commit(storage, change(silent, documents=other, documents_changed=True))
    expect_equal("documents_changed=True stores them", loud.documents, other)


@part.opened(promises.TURN)
async def a_write_closes_the_turn_that_another_opened(storage: ISessionStorage) -> None:
    opened = await commit(storage, open_turn(await create(storage)))
    closed = await commit(storage, close_turn(opened))
    expect_equal("the open turn after it was closed", closed.open_turn, None)
    found = await contents(storage, closed.record.key)
    expect_equal("question and answer", found, ["text 1", "text 2"])


@part.opened(promises.TURN)
async def a_write_can_save_the_text_so_far_of_an_open_turn(storage: ISessionStorage) -> None:
    opened = await commit(storage, open_turn(await create(storage)))
    open_now = present("the open turn", opened.open_turn)
    turn = attrs.evolve(open_now, partial_text="half an ans")
    later = await commit(storage, change(opened, open_turn=turn, turn=turn))
    expect_equal("the open turn", later.open_turn, turn)


@part.opened(promises.MARKS)
async def a_write_marks_stored_messages(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1), message(2)))
    await commit(storage, change(stored, marks=((1, "failed"),)))
    found = await storage.read_messages(stored.record.key, ALL)
    reasons = [message.finish_reason for message in found]
    expect_equal("the finish reasons", reasons, ["failed", None])


@part.opened(promises.MARKS)
async def a_write_marks_hidden_messages_too(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1, hidden_by=7)))
    await commit(storage, change(stored, marks=((1, "failed"),)))
    found = await storage.read_messages(stored.record.key, ALL)
    expect_equal("the finish reasons", [one.finish_reason for one in found], ["failed"])


@part.opened(promises.WRITE_ORDER)
async def a_write_marks_a_message_that_it_inserts(storage: ISessionStorage) -> None:
    stored = await create(storage)
    await commit(storage, change(stored, message(1), marks=((1, "failed"),)))
    found = await storage.read_messages(stored.record.key, ALL)
    expect_equal("the finish reasons", [one.finish_reason for one in found], ["failed"])


@part.opened(promises.CLEAR)
async def a_write_clears_up_to_and_including_a_seq_of_its_session_only(
    storage: ISessionStorage,
) -> None:
    three = [message(seq) for seq in (1, 2, 3)]
    before = await commit(storage, change(await create(storage, "before"), *three))
    stored = await commit(storage, change(await create(storage, "cleared"), *three))
    behind = await commit(storage, change(await create(storage, "behind"), *three))
    await commit(storage, change(stored, clear_through_seq=2))
    expect_equal("what is left", await contents(storage, stored.record.key), ["text 3"])
    for neighbour in (before, behind):
        count = len(await contents(storage, neighbour.record.key))
        expect_equal(f"messages of {neighbour.record.session_id!r}", count, 3)


@part.opened(promises.CLEAR)
async def a_session_goes_on_after_all_of_it_was_cleared(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1), message(2)))
    cleared = await commit(storage, change(stored, clear_through_seq=2))
    expect_equal("last_seq after a clear", cleared.record.last_seq, 2)
    await commit(storage, change(cleared, message(3)))
    expect_equal("the messages", await contents(storage, stored.record.key), ["text 3"])


@part.opened(promises.WRITE_ORDER)
async def a_write_clears_before_it_inserts(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1)))
    await commit(storage, change(stored, message(2, "kept"), clear_through_seq=1))
    expect_equal("the messages", await contents(storage, stored.record.key), ["kept"])


@part.opened(promises.WRITE_ORDER)
async def a_write_may_ask_to_mark_what_was_cleared(storage: ISessionStorage) -> None:
    stored = await commit(storage, change(await create(storage), message(1), message(2)))
    await commit(storage, change(stored, clear_through_seq=1, marks=((1, "failed"),)))
    expect_equal("the messages", await contents(storage, stored.record.key), ["text 2"])


@part.opened(promises.COMMIT)
async def sessions_share_numbers_and_ids_of_messages_and_turns(storage: ISessionStorage) -> None:
    """Seq, message ids, turn numbers and idempotency keys count within a session."""
    for name in ("a", "b"):
        write = open_turn(await create(storage, name), idempotency_key="k", payload_hash=b"h")
        text = message(1, f"of {name}", message_id="m", turn_no=1)
        await commit(storage, attrs.evolve(write, messages=(text,)))
    for name in ("a", "b"):
        stored = await load_one(storage, name)
        found = await contents(storage, stored.record.key)
        expect_equal(f"the messages of {name!r}", found, [f"of {name}"])


@part.opened(promises.CONFLICT)
async def a_conflict_names_the_stored_revision_and_epoch(storage: ISessionStorage) -> None:
    stored = await create(storage, epoch=7)
    await commit(storage, change(stored, message(1)))
    outcomes = list(await storage.commit([change(stored, message(1, "other"))]))
    expect_equal("the outcome of a write on revision 1", outcomes, [Conflict(2, 7)])
    expect_equal("the messages", await contents(storage, stored.record.key), ["text 1"])


@part.opened(promises.CONFLICT)
async def a_second_creation_is_a_conflict(storage: ISessionStorage) -> None:
    await create(storage)
    outcomes = list(await storage.commit([new("s", user_id="bob")]))
    expect_equal("the outcome of the second creation", outcomes, [Conflict(1, 1)])
    stored = await load_one(storage, "s")
    expect_equal("the user of the session", stored.record.user_id, "ann")


@part.opened(promises.CONFLICT)
async def the_id_of_a_deleted_session_is_taken(storage: ISessionStorage) -> None:
    stored = await create(storage)
    deleted = change(stored, message(1), record={"status": SessionStatus.DELETED})
    stored = await commit(storage, deleted)
    outcomes = list(await storage.commit([new("s", user_id="bob")]))
    expect_equal("the outcome of the second creation", outcomes, [Conflict(2, 1)])
    expect_equal("the session", await load_one(storage, "s"), stored)
    expect_equal("the messages", await contents(storage, stored.record.key), ["text 1"])


@part.opened(promises.CONFLICT)
async def a_conflict_changes_nothing(storage: ISessionStorage) -> None:
    """Of all that the refused write asked for."""
    first = await commit(storage, change(await create(storage), message(1), message(2)))
    stored = await commit(storage, change(first))
    stale = attrs.evolve(
        open_turn(first),
        documents_changed=True,
        marks=((1, "failed"),),
        hides=((1, 2, 7),),
        clear_through_seq=1,
        claim=claim(),
        purges=(purge(),),
        past_turns=(TurnRecord(turn_no=8, state=TurnState.FAILED, user_seq=1, opened_us=1),),
        tags=("stale",),
        usage=usage(sessions=1),
    )
    outcomes = list(await storage.commit([stale]))
    expect_equal("the outcome of a stale write", outcomes, [Conflict(3, 1)])
    found = list(await storage.read_messages(stored.record.key, ALL))
    expect_equal("the messages", found, [message(1), message(2)])
    expect_equal("the session", await load_one(storage, "s"), stored)
    expect_equal("the turn", await storage.read_turn(stored.record.key, 1), None)
    expect_equal("the claim", await storage.find_claim("s", "send_message", "k"), None)
    expect_equal("the purges", list(await storage.load_purges(START_US, 9)), [])
    expect_equal("a past turn", await storage.read_turn(stored.record.key, 8), None)
    expect_equal("the list by tag", await listed(storage, tags=("stale",)), [])
    expect_equal("the usage", await days_of(storage), [])


@part.opened(promises.COMMIT)
async def a_write_creates_a_session_with_all_that_it_holds(storage: ISessionStorage) -> None:
    creation = new("s", last_seq=2, last_turn_no=1, open_turn_no=1)
    turn = TurnRecord(turn_no=1, state=TurnState.OPEN, user_seq=1, opened_us=START_US)
    write = attrs.evolve(
        creation,
        after=attrs.evolve(creation.after, open_turn=turn),
        messages=(message(1), message(2)),
        turn=turn,
        opens_turn=True,
        claim=claim(),
        purges=(purge(),),
        tags=("fresh",),
        usage=usage(sessions=1),
    )
    stored = await commit(storage, write)
    expect_equal("the open turn", stored.open_turn, turn)
    found = await contents(storage, stored.record.key)
    expect_equal("the messages", found, ["text 1", "text 2"])
    expect_equal("the claim", await storage.find_claim("s", "send_message", "k"), claim())
    expect_equal("the purges", list(await storage.load_purges(START_US, 9)), [purge()])
    expect_equal("the list by tag", await listed(storage, tags=("fresh",)), ["s"])
    expect_equal("the usage", await days_of(storage), [usage(user_id="", sessions=1)])


@part.opened(promises.CONFLICT)
async def a_write_to_no_session_is_a_conflict(storage: ISessionStorage) -> None:
    stored = await create(storage)
    ghost = attrs.evolve(stored, record=attrs.evolve(stored.record, session_id="no", key=99))
    outcomes = list(await storage.commit([change(ghost)]))
    expect_equal("the outcome of a write to no session", outcomes, [Conflict(0, 0)])
    expect_equal("the session", list(await storage.load(["no"])), [None])


@part.opened(promises.CONFLICT)
async def a_writer_of_another_epoch_gets_a_conflict(storage: ISessionStorage) -> None:
    stored = await create(storage, epoch=2)
    for epoch in (1, 3):
        write = change(stored, message(1), record={"epoch": epoch})
        outcomes = list(await storage.commit([write]))
        expect_equal(f"the outcome of a write of epoch {epoch}", outcomes, [Conflict(1, 2)])
    expect_equal("the messages", await contents(storage, stored.record.key), [])


@part.opened(promises.TURN)
async def a_turn_of_a_number_that_is_taken_fails_alone(storage: ISessionStorage) -> None:
    stored = await commit(storage, open_turn(await create(storage)))
    closed = await commit(storage, close_turn(stored))
    [outcome] = await storage.commit([open_turn(closed, turn_no=1)])
    expect_failed("a second turn 1", outcome)
    expect_equal("the session", list(await storage.load(["s"])), [closed])


@part.opened(promises.TURN)
async def a_turn_that_is_not_stored_cannot_be_closed(storage: ISessionStorage) -> None:
    opened = await commit(storage, open_turn(await create(storage)))
    open_now = present("the open turn", opened.open_turn)
    turn = attrs.evolve(open_now, turn_no=9, state=TurnState.FAILED)
    [outcome] = await storage.commit([change(opened, turn=turn)])
    expect_failed("closing turn 9", outcome)
    expect_equal("the session", list(await storage.load(["s"])), [opened])
