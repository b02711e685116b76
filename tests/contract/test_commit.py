"""What every storage promises of `commit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import attrs
import pytest
from langswarm.core.session.actors.errors import StorageError
from langswarm.core.session.actors.model import (
    Committed,
    Conflict,
    Counters,
    MessageQuery,
    SessionDocuments,
    SessionStatus,
    TurnState,
)

from .builders import (
    ALL,
    START_US,
    change,
    close_turn,
    commit,
    contents,
    create,
    message,
    new,
    open_turn,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage


class TestAWrite:
    async def test_is_there_with_every_field_once_it_is_committed(
        self, storage: ISessionStorage
    ) -> None:
        counters = Counters(
            user_messages=1,
            assistant_messages=2,
            system_messages=3,
            completed_turns=4,
            failed_turns=5,
            interrupted_turns=6,
            input_tokens=7,
            output_tokens=8,
            response_us=9,
        )
        stored = await create(
            storage,
            "every-field",
            status=SessionStatus.ERROR,
            epoch=3,
            last_seq=11,
            last_turn_no=12,
            visible_messages=13,
            provider_session_id="conv_1",
            synced_seq=14,
            dirty=True,
            counters=counters,
            updated_us=START_US + 15,
        )
        expected = new("every-field").after.record
        assert stored.record == attrs.evolve(
            expected,
            key=stored.record.key,
            status=SessionStatus.ERROR,
            epoch=3,
            last_seq=11,
            last_turn_no=12,
            visible_messages=13,
            provider_session_id="conv_1",
            synced_seq=14,
            dirty=True,
            counters=counters,
            updated_us=START_US + 15,
        )
        assert stored.documents == SessionDocuments(config='{"a": 1}')
        assert stored.record.key > 0

    async def test_keeps_every_field_of_a_message(self, storage: ISessionStorage) -> None:
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
        assert await storage.read_messages(stored.record.key, ALL) == [full, plain]

    async def test_keeps_every_field_of_an_open_turn(self, storage: ISessionStorage) -> None:
        write = open_turn(
            await create(storage),
            replaces=1,
            partial_text="so far",
            idempotency_key="key",
            payload_hash=b"\0\xff",
        )
        stored = await commit(storage, write)
        assert stored.open_turn == write.turn
        assert stored.record.open_turn_no == 1

    async def test_changes_documents_only_when_it_says_so(self, storage: ISessionStorage) -> None:
        stored = await create(storage)
        other = SessionDocuments(context='{"b": 2}', context_version=1)
        silent = await commit(storage, change(stored, documents=other))
        assert silent.documents == stored.documents
        loud = await commit(storage, change(silent, documents=other, documents_changed=True))
        assert loud.documents == other

    async def test_closes_the_turn_it_opened(self, storage: ISessionStorage) -> None:
        opened = await commit(storage, open_turn(await create(storage)))
        closed = await commit(storage, close_turn(opened))
        assert closed.open_turn is None
        assert await contents(storage, closed.record.key) == ["text 1", "text 2"]

    async def test_can_save_the_text_so_far_of_an_open_turn(self, storage: ISessionStorage) -> None:
        opened = await commit(storage, open_turn(await create(storage)))
        assert opened.open_turn is not None
        turn = attrs.evolve(opened.open_turn, partial_text="half an ans")
        later = await commit(storage, change(opened, open_turn=turn, turn=turn))
        assert later.open_turn == turn

    async def test_marks_stored_messages(self, storage: ISessionStorage) -> None:
        stored = await commit(storage, change(await create(storage), message(1), message(2)))
        await commit(storage, change(stored, marks=((1, "failed"),)))
        found = await storage.read_messages(stored.record.key, ALL)
        assert [message.finish_reason for message in found] == ["failed", None]

    async def test_marks_a_message_that_it_inserts(self, storage: ISessionStorage) -> None:
        stored = await create(storage)
        await commit(storage, change(stored, message(1), marks=((1, "failed"),)))
        [found] = await storage.read_messages(stored.record.key, ALL)
        assert found.finish_reason == "failed"

    async def test_clears_up_to_and_including_a_seq_of_its_session_only(
        self, storage: ISessionStorage
    ) -> None:
        three = [message(seq) for seq in (1, 2, 3)]
        neighbour = await commit(storage, change(await create(storage, "before"), *three))
        stored = await commit(storage, change(await create(storage, "cleared"), *three))
        await commit(storage, change(stored, clear_through_seq=2))
        assert await contents(storage, stored.record.key) == ["text 3"]
        assert len(await contents(storage, neighbour.record.key)) == 3

    async def test_clears_before_it_inserts(self, storage: ISessionStorage) -> None:
        stored = await commit(storage, change(await create(storage), message(1)))
        await commit(storage, change(stored, message(2, "kept"), clear_through_seq=1))
        assert await contents(storage, stored.record.key) == ["kept"]

    async def test_may_ask_to_mark_what_was_cleared(self, storage: ISessionStorage) -> None:
        stored = await commit(storage, change(await create(storage), message(1), message(2)))
        await commit(storage, change(stored, clear_through_seq=1, marks=((1, "failed"),)))
        assert await contents(storage, stored.record.key) == ["text 2"]


class TestAConflict:
    async def test_names_the_stored_revision_and_epoch(self, storage: ISessionStorage) -> None:
        stored = await create(storage, epoch=7)
        await commit(storage, change(stored, message(1)))
        assert await storage.commit([change(stored, message(1, "other"))]) == [Conflict(2, 7)]
        assert await contents(storage, stored.record.key) == ["text 1"]

    async def test_is_what_a_second_creation_gets(self, storage: ISessionStorage) -> None:
        await create(storage)
        assert await storage.commit([new("s", user_id="bob")]) == [Conflict(1, 1)]
        [stored] = await storage.load(["s"])
        assert stored is not None
        assert stored.record.user_id == "ann"

    async def test_is_what_a_write_to_no_session_gets(self, storage: ISessionStorage) -> None:
        stored = await create(storage)
        ghost = attrs.evolve(stored, record=attrs.evolve(stored.record, session_id="no", key=99))
        assert await storage.commit([change(ghost)]) == [Conflict(0, 0)]

    async def test_is_what_a_writer_of_another_epoch_gets(self, storage: ISessionStorage) -> None:
        stored = await create(storage, epoch=2)
        stale = change(stored, message(1), record={"epoch": 1})
        assert await storage.commit([stale]) == [Conflict(1, 2)]
        assert await contents(storage, stored.record.key) == []


class TestABatch:
    async def test_has_its_outcomes_in_the_order_of_its_writes(
        self, storage: ISessionStorage
    ) -> None:
        outcomes = await storage.commit([new(f"s{number}") for number in range(300)])
        loaded = await storage.load([f"s{number}" for number in range(300)])
        keys = [stored.record.key for stored in loaded if stored is not None]
        assert outcomes == [Committed(key) for key in keys]
        assert len(set(keys)) == 300

    async def test_of_several_hundred_appends_stores_each_where_it_belongs(
        self, storage: ISessionStorage
    ) -> None:
        names = [f"s{number}" for number in range(300)]
        await storage.commit([new(name) for name in names])
        loaded = [stored for stored in await storage.load(names) if stored is not None]
        writes = [change(stored, message(1, stored.record.session_id)) for stored in loaded]
        outcomes = await storage.commit(writes)
        assert outcomes == [Committed(stored.record.key) for stored in loaded]
        for stored in loaded:
            assert await contents(storage, stored.record.key) == [stored.record.session_id]

    @pytest.mark.parametrize("bad_first", [True, False])
    async def test_loses_only_the_write_that_cannot_be_stored(
        self, storage: ISessionStorage, bad_first: bool
    ) -> None:
        first = await commit(storage, change(await create(storage, "a"), message(1)))
        second = await create(storage, "b")
        bad = change(first, message(2), message(1, "seq 1 is taken"))
        good = change(second, message(1, "good"))
        batch = [bad, good, new("c")] if bad_first else [new("c"), good, bad]
        outcomes = list(await storage.commit(batch))
        if not bad_first:
            outcomes.reverse()
        assert isinstance(outcomes[0], StorageError)
        assert outcomes[0].outcome == "failed"
        assert outcomes[1] == Committed(second.record.key)
        assert isinstance(outcomes[2], Committed)
        assert await contents(storage, first.record.key) == ["text 1"]
        assert await contents(storage, second.record.key) == ["good"]
        assert await storage.load(["a"]) == [first]

    async def test_reports_conflicts_beside_what_it_commits(self, storage: ISessionStorage) -> None:
        stored = await create(storage, "a")
        stale = change(stored)
        await commit(storage, change(stored))
        outcomes = await storage.commit([stale, new("b"), new("a")])
        assert outcomes[0] == Conflict(2, 1)
        assert isinstance(outcomes[1], Committed)
        assert outcomes[2] == Conflict(2, 1)

    async def test_of_nothing_has_no_outcome(self, storage: ISessionStorage) -> None:
        assert list(await storage.commit([])) == []


class TestATurn:
    async def test_of_a_number_that_is_taken_fails_alone(self, storage: ISessionStorage) -> None:
        stored = await commit(storage, open_turn(await create(storage)))
        closed = await commit(storage, close_turn(stored))
        [outcome] = await storage.commit([open_turn(closed, turn_no=1)])
        assert isinstance(outcome, StorageError)
        assert await storage.load(["s"]) == [closed]

    async def test_that_is_not_stored_cannot_be_closed(self, storage: ISessionStorage) -> None:
        opened = await commit(storage, open_turn(await create(storage)))
        assert opened.open_turn is not None
        turn = attrs.evolve(opened.open_turn, turn_no=9, state=TurnState.FAILED)
        [outcome] = await storage.commit([change(opened, turn=turn)])
        assert isinstance(outcome, StorageError)
        assert await storage.load(["s"]) == [opened]


async def test_a_cancelled_commit_is_never_half_there(storage: ISessionStorage) -> None:
    """Whenever its caller goes away: revision, messages and turn agree."""
    for number in range(20):
        stored = await create(storage, f"s{number}")
        write = attrs.evolve(open_turn(stored), messages=(message(1), message(2)))
        with anyio.move_on_after(0.0002 * (number % 5)):
            await storage.commit([write])
        [after] = await storage.read_back([f"s{number}"])
        assert after is not None
        count = len(await storage.read_messages(after.record.key, MessageQuery()))
        there = after.record.revision == 2
        assert (count, after.open_turn) == ((2, write.turn) if there else (0, None))
