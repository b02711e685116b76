"""Finding, listing and holding sessions: owners, headers, copies; reads that wait for nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    InvalidMessageError,
    SessionExistsError,
    SessionMessage,
    SessionNotFoundError,
)
from langswarm.core.session.errors import MessageNotFoundError

from .helpers import (
    PATIENCE_SECONDS,
    Echo,
    Store,
    assert_turns,
    new_session,
    outcome,
    supervisor_of,
)


async def test_a_foreign_session_and_an_unknown_one_look_the_same(store: Store) -> None:
    """No oracle: the error for another user's id is the one for an id that does not exist."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, "alice", session_id="hers")
        for evicted in (False, True):
            if evicted:
                assert supervisor_of(manager).evict("hers")
            with pytest.raises(SessionNotFoundError) as foreign:
                await manager.get_session("hers", user_id="bob")
            with pytest.raises(SessionNotFoundError) as unknown:
                await manager.get_session("nobody's", user_id="bob")
            assert str(foreign.value).replace("hers", "X") == str(unknown.value).replace(
                "nobody's", "X"
            ).replace('"', "'")
            assert isinstance(foreign.value, LookupError)
            mine = await manager.get_session("hers", user_id="alice")
            assert mine.user_id == "alice"
        del session


async def test_an_id_in_use_is_refused_whoever_asks_and_changes_nothing(store: Store) -> None:
    """A second create never takes over or resets a session: live, evicted or after a restart."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, "alice", session_id="taken")
        await session.send_message("one")
        for user in ("alice", "bob"):
            for evict in (False, True):
                if evict:
                    supervisor_of(manager).evict("taken")
                with pytest.raises(SessionExistsError):
                    await new_session(manager, user, session_id="taken")
        assert (session.user_id, session.message_count) == ("alice", 2)
        await session.delete()
        with pytest.raises(SessionExistsError):
            await new_session(manager, "alice", session_id="taken")
    async with store.manager(Echo()) as manager:
        with pytest.raises(SessionExistsError):
            await new_session(manager, "bob", session_id="taken")


async def test_of_many_concurrent_creates_of_one_id_one_wins(store: Store) -> None:
    """The id belongs to whoever took the first ticket; the others are told."""
    async with store.manager(Echo()) as manager:
        won: list[str] = []
        lost: list[str] = []

        async def create(user: str) -> None:
            try:
                session = await new_session(manager, user, session_id="one")
            except SessionExistsError:
                lost.append(user)
            else:
                won.append(session.user_id)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(create, f"user {number}")
        assert (len(won), len(lost)) == (1, 9)
        [session] = await manager.get_user_sessions(won[0])
        await session.send_message("mine")
        assert_turns(await session.get_messages(), ["mine"])


async def test_a_users_sessions_are_listed_newest_first_and_nobody_elses(store: Store) -> None:
    """get_user_sessions: scoped to the user, filtered by status, time and number."""
    async with store.manager(Echo()) as manager:
        sessions = [await new_session(manager, "alice", session_id=f"a{n}") for n in range(4)]
        await new_session(manager, "bob", session_id="b")
        await sessions[1].archive()
        await sessions[2].delete()

        async def listed(**keywords: object) -> list[str]:
            found = await manager.get_user_sessions("alice", **keywords)  # type: ignore[arg-type]
            return [session.session_id for session in found]

        assert await listed() == ["a3", "a1", "a0"]
        assert await listed(status="active") == ["a3", "a0"]
        assert await listed(status="archived") == ["a1"]
        assert await listed(status="deleted") == ["a2"]
        assert await listed(limit=1) == ["a3"]
        assert await listed(limit=0) == []
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert await listed(since=later) == []
        assert await listed(since=datetime.now() - timedelta(hours=1)) == ["a3", "a1", "a0"]  # noqa: DTZ005 - naive means local
        await sessions[0].send_message("one")
        assert await listed(since=sessions[0].last_activity) == ["a0"]
        assert await manager.get_user_sessions("nobody") == []
        with pytest.raises(InvalidMessageError, match="no status"):
            await listed(status="gone")
        with pytest.raises(InvalidMessageError, match="limit"):
            await listed(limit=-1)


async def test_all_handles_of_a_session_show_the_same_facts(store: Store) -> None:
    """Handles share one header: what one commits, the others show at once, evicted or not."""
    async with store.manager(Echo(), idle_seconds=0.0) as manager:
        session = await new_session(manager)
        other = await manager.get_session(session.session_id)
        [third] = await manager.get_user_sessions("user")
        await session.send_message("one")
        assert [handle.message_count for handle in (session, other, third)] == [2, 2, 2]
        assert other.last_activity == session.last_activity > session.created_at
        await other.archive()
        assert [handle.status for handle in (session, third)] == ["archived", "archived"]
        await third.reopen()
        assert f"{session.status}" == "active"
        assert session.status.value == "active"
        await session.refresh()
        assert session.created_at.tzinfo is not None
        assert (session.provider, session.model) == ("openai", "gpt-4")
        assert "messages=2" in repr(session)


async def test_provider_settings_survive_eviction_and_restart(store: Store) -> None:
    """What `provider_session` sets holds from the next turn on and is stored with it."""
    async with store.manager(idle_seconds=0.0) as manager:
        session = await manager.create_session("user", "mock", "mock")
        session.provider_session.set_response_pattern("custom: {input}")
        assert supervisor_of(manager).live_state(session.session_id) is None
        assert (await session.send_message("one")).content == "custom: one"
        other = await manager.get_session(session.session_id)
        other.provider_session.set_chunk_size(1)
        assert (await session.send_message("two")).content == "custom: two"
        session_id = session.session_id
    async with store.manager() as manager:
        session = await manager.get_session(session_id)
        assert (await session.send_message("three")).content == "custom: three"
        session.provider_session.set_response_pattern("changed: {input}")
        with pytest.raises(ConfigurationError):
            session.provider_session.set_response_pattern("x" * 2_000_000)
        assert (await session.send_message("four")).content == "changed: four"


async def test_provider_settings_over_their_bound_spoil_no_turn_but_the_next(store: Store) -> None:
    """G11: settings too large to be stored are refused, not kept to fail every later turn."""
    async with store.manager() as manager:
        session = await manager.create_session("user", "mock", "mock")
        try:
            session.provider_session.set_response_pattern("x" * 100_000)
        except ConfigurationError:
            pass
        else:
            assert isinstance(await outcome(session.submit("one")), ConfigurationError)
        assert (await session.send_message("two")).content == "Mock response to: two"
        assert supervisor_of(manager).statistics().restarts == 0


async def test_what_is_handed_out_is_a_copy(store: Store) -> None:
    """Changing returned messages, metadata, contexts and configs changes nothing stored."""
    metadata = {"list": [1], "map": {"x": 1}}
    async with store.manager(Echo()) as manager:
        session = await new_session(manager, session_config={"tags": ["a"]})
        ticket = session.submit("one", metadata=metadata)
        metadata["list"] = []
        answer = await ticket
        before = await session.get_messages()
        assert before[0].metadata == {"list": [1], "map": {"x": 1}}
        for message in [answer, *await session.get_messages()]:
            message.content = "spoiled"
            message.metadata["list"] = "spoiled"
            message.metadata = {"spoiled": True}
            message.seq = 99
            message.timestamp = datetime(2000, 1, 1, tzinfo=UTC)
        (await session.get_config())["tags"].append("spoiled")
        (await session.get_messages()).clear()
        assert await session.get_messages() == before
        assert await session.get_config() == {"tags": ["a"]}
        await session.send_message("two")
        assert_turns(await session.get_messages(), ["one", "two"])


async def test_reads_do_not_wait_behind_a_hanging_turn(store: Store) -> None:
    """Reads answer from committed state while a turn talks to its provider."""
    provider = Echo()
    gate = provider.hold("hang")
    async with store.manager(provider) as manager:
        session = await new_session(manager, session_config={"name": "x"})
        await session.send_message("one")
        ticket = session.submit("hang")
        _ = session.submit("behind")
        await gate.reached()
        with anyio.fail_after(PATIENCE_SECONDS):
            texts = [message.content for message in await session.get_messages()]
            assert texts == ["one", "answer to one", "hang"]
            assert (await session.get_message(f"{session.session_id}/2")).content == texts[1]
            assert dict(await session.get_context()) == {}
            assert await session.get_config() == {"name": "x"}
            assert (await session.get_metrics()).user_messages == 2
            assert (await manager.get_session(session.session_id)).message_count == 3
            assert len(await manager.get_user_sessions("user")) == 1
            await session.refresh()
        gate.open()
        await outcome(ticket)


async def test_messages_are_filtered_by_role_time_and_place(store: Store) -> None:
    """get_messages: the newest that match, in chronological order."""
    async with store.manager(Echo()) as manager:
        session = await new_session(manager)
        await session.send_system_message("rule")
        for text in ("one", "two", "three"):
            await session.send_message(text)

        async def seqs(*args: int, **keywords: object) -> list[int]:
            found = await session.get_messages(*args, **keywords)  # type: ignore[arg-type]
            return [message.seq for message in found]

        assert await seqs() == [1, 2, 3, 4, 5, 6, 7]
        assert await seqs(3) == await seqs(limit=3) == [5, 6, 7]
        assert await seqs(limit=0) == []
        assert await seqs(role="user") == [2, 4, 6]
        assert await seqs(role="assistant", limit=2) == [5, 7]
        assert await seqs(role="system") == [1]
        assert await seqs(after=5) == [6, 7]
        assert await seqs(before=3) == [1, 2]
        assert await seqs(after=2, before=6, limit=2) == [4, 5]
        messages = await session.get_messages()
        moment = messages[3].timestamp
        expected = [message.seq for message in messages if message.timestamp >= moment]
        assert await seqs(start_time=moment) == await seqs(since=moment) == expected
        expected = [message.seq for message in messages if message.timestamp < moment]
        assert await seqs(end_time=moment) == expected
        naive = moment.astimezone().replace(tzinfo=None)
        assert await seqs(since=naive) == await seqs(since=moment)
        with pytest.raises(InvalidMessageError, match="no role"):
            await seqs(role="robot")
        with pytest.raises(InvalidMessageError, match="limit"):
            await seqs(limit=-1)


async def test_a_message_is_found_by_its_id_in_its_own_session_only(store: Store) -> None:
    """get_message: other sessions' ids, cleared ones and nonsense are MessageNotFoundError."""
    async with store.manager(Echo()) as manager:
        session, other = await new_session(manager), await new_session(manager)
        answer = await session.send_message("one")
        assert await session.get_message(answer.message_id) == answer
        nonsense = ["/", "x", f"{session.session_id}/", f"{session.session_id}/3"]
        nonsense += [f"{session.session_id}/02", f"{session.session_id}/{10**30}"]
        nonsense += [f"{session.session_id}/²", f"{session.session_id}/-1"]
        for message_id in nonsense:
            with pytest.raises(MessageNotFoundError):
                await session.get_message(message_id)
        with pytest.raises(LookupError):
            await other.get_message(answer.message_id)
        await session.clear_messages()
        with pytest.raises(MessageNotFoundError):
            await session.get_message(answer.message_id)


async def test_metrics_count_a_lifetime(store: Store) -> None:
    """Clearing the history does not lower them; durations and means follow the commits."""
    provider = Echo()
    provider.failing = {"bad"}
    async with store.manager(provider) as manager:
        session = await new_session(manager)
        assert (await session.get_metrics()).avg_response_time_ms == 0.0
        await session.send_message("one")
        await outcome(session.submit("bad"))
        await session.send_system_message("rule")
        await session.clear_messages()
        metrics = await session.get_metrics()
        assert metrics.total_messages == 4
        assert (metrics.user_messages, metrics.assistant_messages) == (2, 1)
        assert (metrics.system_messages, metrics.failed_turns) == (1, 1)
        assert metrics.completed_turns == 1
        assert metrics.avg_response_time_ms > 0
        assert metrics.session_duration == session.last_activity - session.created_at
        assert session.message_count == 0


async def test_config_takes_known_keys_only(store: Store) -> None:
    """session_config and provider_config: checked key by key before anything is stored."""
    async with store.manager(Echo()) as manager:
        for config, match in (
            ({"nam": "x"}, "did you mean 'name'"),
            ({"name": 5}, "name"),
            ({"tags": "ml"}, "tags"),
            ({"max_messages": 0}, "max_messages"),
            ({"max_messages": True}, "max_messages"),
        ):
            with pytest.raises(ConfigurationError, match=match):
                await new_session(manager, session_config=config)
        with pytest.raises(ConfigurationError, match="keys"):
            await new_session(manager, provider_config={"api_key": "sk-made-up"})
        with pytest.raises(ConfigurationError, match="nonsuch"):
            await manager.create_session("user", "nonsuch", "gpt-4")
        assert await manager.get_user_sessions("user") == []
        session = await new_session(manager, session_config={"name": "a", "max_messages": 5})
        assert await session.update_config({"name": None, "tags": ["x"]}) == {
            "max_messages": 5,
            "tags": ["x"],
        }
        with pytest.raises(ConfigurationError, match="did you mean 'tags'"):
            await session.update_config({"tag": ["x"]})


def test_a_message_compares_by_value_and_shows_itself() -> None:
    """SessionMessage: the guide's fields, roles that compare to text."""
    message = SessionMessage("user", "hi", datetime(2026, 1, 1, tzinfo=UTC), "m1", {"a": 1})
    same = SessionMessage("user", "hi", datetime(2026, 1, 1, tzinfo=UTC), "m1", {"a": 1})
    assert message == same
    same.metadata["a"] = 2
    assert message != same
    assert message != "hi"
    assert (message.role, f"{message.role}") == ("user", "user")
    assert "hi" in repr(message)
    with pytest.raises(ValueError, match="robot"):
        SessionMessage("robot", "hi")
