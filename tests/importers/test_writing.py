"""Old sessions are written into a storage: all of them, as they were, once however often it is."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from langswarm.core.session import SessionManager, SQLiteSessionStorage, create_session_manager
from langswarm.core.session.actors.model import MessageRecord, Role
from langswarm.core.session.actors.past import AppendPast
from langswarm.core.session.errors import (
    ConfigurationError,
    InvalidMessageError,
    SessionArchivedError,
    SessionNotFoundError,
)
from langswarm.core.session.migration import (
    ImportReport,
    SessionReport,
    import_sessions,
    migrate_session,
    open_source,
)
from langswarm.v1.session import V1SessionManager

from .old_files import AGENTS, message, row_of, session, write_script, write_v1

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = Path(__file__).parents[1] / "data"
PROVIDERS = {"gpt": "openai", "claude": "anthropic", "test": "mock", "none": "mock"}
ROLES = {"tool": "assistant", "function": "assistant"}
STATUSES = {"inactive": "archived", "expired": "archived"}


async def write(manager: SessionManager, path: Path, **keywords: Any) -> ImportReport:
    zone = keywords.pop("zone", "UTC")
    with open_source(path, source_timezone=zone) as source:
        return await import_sessions(manager, source, **keywords)


def outcomes(report: ImportReport) -> dict[str, tuple[str, int]]:
    return {each.source_id: (each.outcome, each.messages) for each in report.sessions}


def utc(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


async def check_session(manager: SessionManager, old: Mapping[str, Any], zone: str) -> int:
    """One session of the list, read back through the public API; how many messages it has."""
    found = await manager.get_session(old["session_id"], user_id=old["user_id"])
    assert (found.model, found.user_id) == (old["model"], old["user_id"])
    assert found.provider == PROVIDERS.get(old["provider"], old["provider"])
    assert found.status == STATUSES.get(old["status"], old["status"])
    assert found.created_at == utc(old["created_at"], zone)
    assert found.last_activity == utc(old["updated_at"], zone)
    context = (await found.get_context())["v1"]
    assert context["status"] == old["status"]
    for name in ("tags", "custom_metadata", "provider_thread_id", "session_control"):
        assert context[name] == old["metadata"][name]
    config = await found.get_config()
    assert config["metadata"]["imported_from"] == "v1"
    assert config.get("tags", []) == list(dict.fromkeys(old["metadata"]["tags"]))
    messages = await found.get_messages()
    assert found.message_count == len(messages)
    for seq, (new, of_old) in enumerate(
        zip(messages, old["history"]["messages"], strict=True), start=1
    ):
        assert (new.seq, new.content) == (seq, of_old["content"])
        assert new.role == ROLES.get(of_old["role"], of_old["role"])
        assert new.timestamp == utc(of_old["timestamp"], zone)
        metadata = {**new.metadata}
        assert metadata.pop("imported_message_id") == of_old["id"]
        assert metadata.pop("imported_role", new.role) == of_old["role"]
        for name in ("tool_calls", "tool_call_id"):
            assert metadata.pop(f"imported_{name}", None) == of_old[name]
        assert metadata == of_old["metadata"]
        assert new.provider_message_id == of_old["provider_message_id"]
    return len(messages)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"])
async def test_the_file_of_v1_is_in_sqlite_exactly_as_it_is_listed(
    zone: str, tmp_path: Path
) -> None:
    """Twenty sessions and two hundred messages, after a restart; a second run changes nothing."""
    expected = json.loads((DATA / "v1_expected.json").read_text(encoding="utf-8"))["sessions"]
    for run in range(2):
        async with create_session_manager(SQLiteSessionStorage(tmp_path / "new.db")) as manager:
            report = await write(manager, DATA / "v1_sessions.db", zone=zone)
            assert report.count("imported" if run == 0 else "present") == len(expected) == 20
            assert (report.ok, report.messages) == (True, 200 if run == 0 else 0)
    async with create_session_manager(SQLiteSessionStorage(tmp_path / "new.db")) as manager:
        assert sum([await check_session(manager, old, zone) for old in expected]) == 200
        alice = await manager.get_user_sessions("alice")
        assert len(alice) == sum(old["user_id"] == "alice" for old in expected)
        verified = await manager.verify_storage()
        assert verified.ok, verified.problems


async def test_an_imported_session_is_gone_on_with(tmp_path: Path) -> None:
    """Its history is in the next prompt, in the order of the list."""
    messages = [message("one"), message("two", role="assistant")]
    path = write_v1(tmp_path / "old.db", [row_of(session(*messages, provider="test"))])
    async with create_session_manager() as manager:
        await write(manager, path)
        found = await manager.get_session("s")
        answer = await found.send_message("three")
        assert (answer.seq, answer.content) == (4, "Mock response to: three")


async def test_a_second_run_adds_what_is_new_and_nothing_twice(tmp_path: Path) -> None:
    """New sessions, and new messages behind a history that is as it was."""
    old = session(message("one"), session_id="a")
    first = write_v1(tmp_path / "1.db", [row_of(old)])
    longer = session(message("one"), message("two"), message("three"), session_id="a")
    other = session(message("new"), session_id="b")
    second = write_v1(tmp_path / "2.db", [row_of(longer), row_of(other)])
    async with create_session_manager() as manager:
        assert outcomes(await write(manager, first)) == {"a": ("imported", 1)}
        assert outcomes(await write(manager, first)) == {"a": ("present", 0)}
        assert outcomes(await write(manager, second)) == {
            "a": ("extended", 2),
            "b": ("imported", 1),
        }
        assert outcomes(await write(manager, second)) == {"a": ("present", 0), "b": ("present", 0)}
        found = await manager.get_session("a")
        assert [each.content for each in await found.get_messages()] == ["one", "two", "three"]
        assert (await found.get_metrics()).user_messages == 3


@pytest.mark.parametrize("change", ["send", "add", "clear", "rewind", "archive", "delete"])
async def test_what_was_done_here_is_left_alone(change: str, tmp_path: Path) -> None:
    """A session that was gone on with keeps its history, whatever the file says now."""
    old = [message("one"), message("two")]
    first = write_v1(tmp_path / "1.db", [row_of(session(*old, provider="test"))])
    longer = session(*old, message("three"), provider="test")
    second = write_v1(tmp_path / "2.db", [row_of(longer)])
    async with create_session_manager() as manager:
        await write(manager, first)
        found = await manager.get_session("s")
        calls: dict[str, Any] = {
            "send": lambda: found.send_message("here"),
            "add": lambda: found.add_message("user", "here"),
            "clear": found.clear_messages,
            "rewind": lambda: found.rewind(1),
            "archive": found.archive,
            "delete": found.delete,
        }
        await calls[change]()
        before = None if change == "delete" else await found.get_messages()
        [report] = (await write(manager, second)).sessions
        assert (report.outcome, report.messages) == ("present", 0)
        assert report.reason
        if before is not None:
            assert await found.get_messages() == before


async def test_a_file_without_times_is_extended_too(tmp_path: Path) -> None:
    """Its messages have the time of the file, which is another one each time it is written."""
    path, talk = tmp_path / "talk.json", [{"role": "user", "content": "one"}]
    async with create_session_manager() as manager:
        for run, outcome in enumerate(("imported", "extended", "extended")):
            path.write_text(json.dumps(talk), encoding="utf-8")
            os.utime(path, (1_700_000_000 + run, 1_700_000_000 + run))
            found = outcomes(await write(manager, path, user_id="ada"))
            assert found == {"talk": (outcome, 1)}
            talk.append({"role": "user", "content": f"more {run}"})


async def test_nothing_is_added_to_a_session_that_goes_on_meanwhile(tmp_path: Path) -> None:
    """Between the look at its history and the addition it may have been written to."""
    old, new = (
        MessageRecord(seq=seq, role=Role.USER, content=f"{seq}", created_us=0) for seq in (1, 2)
    )
    command = AppendPast(after_seq=1, messages=(new,))
    path = write_v1(tmp_path / "old.db", [row_of(session(message(old.content)))])
    async with create_session_manager() as manager:
        await write(manager, path)
        found = await manager.get_session("s")
        await found.add_message("user", "here")
        supervisor = manager._anchor.host.runtime().supervisor
        assert await supervisor.submit("s", command, lambda state: state) is None
        assert [each.content for each in await found.get_messages()] == ["1", "here"]
        await found.archive()
        with pytest.raises(SessionArchivedError):
            await supervisor.submit("s", command, lambda state: state)


async def test_an_id_that_belongs_to_another_session_is_not_touched(tmp_path: Path) -> None:
    """Nor to the same id of another user."""
    path = write_v1(tmp_path / "old.db", [row_of(session(message()))])
    theirs = write_v1(tmp_path / "bob.db", [row_of(session(message("bob's"), user_id="bob"))])
    async with create_session_manager() as manager:
        mine = await manager.create_session("alice", "mock", "m", session_id="s")
        [report] = (await write(manager, path)).sessions
        assert (report.outcome, report.session_id) == ("skipped", None)
        assert report.reason is not None
        assert "another session" in report.reason
        assert mine.message_count == 0
    async with create_session_manager() as manager:
        await write(manager, path)
        assert outcomes(await write(manager, theirs)) == {"s": ("skipped", 0)}
        assert (await manager.get_session("s")).user_id == "alice"


async def test_what_cannot_be_stored_is_skipped_and_all_others_arrive(tmp_path: Path) -> None:
    """Each with its reason, told as it happens."""
    rows = [
        row_of(session(message("ok"), session_id="a")),
        row_of(session(message("x" * 1001), session_id="b")),
        row_of(session(message(), session_id="c"), history="{"),
        row_of(session(message(metadata={"a": "x" * 1001}), session_id="d")),
        row_of(session(session_id="e", tags=["x" * 500, "y" * 600])),
        row_of(session(user_id="\ud800", session_id="f"), user_id="u" * 501),
        row_of(session(message("ok"), session_id="g")),
    ]
    told: list[SessionReport] = []
    async with create_session_manager(
        max_message_bytes=1000, max_metadata_bytes=1000, max_context_bytes=1000
    ) as manager:
        path = write_v1(tmp_path / "old.db", rows)
        report = await write(manager, path, on_session=told.append)
        assert {each.source_id: each.outcome for each in told} == {
            name: "imported" if name in "ag" else "skipped" for name in "abcdefg"
        }
        assert tuple(told) == report.sessions
        assert not report.ok
        reasons = {each.source_id: each.reason or "" for each in told}
        assert "message 1 has more than 1000 bytes" in reasons["b"]
        assert "cut off" in reasons["c"]
        assert "the metadata of message 1" in reasons["d"]
        assert "its context" in reasons["e"]
        assert "its user_id" in reasons["f"]
        assert len(await manager.search_sessions()) == 2
        assert json.loads(json.dumps(report.as_dict()))["skipped"] == 5


async def test_odd_values_are_kept_as_far_as_they_can_be_and_noted(tmp_path: Path) -> None:
    """Halves of characters, NaN, deep values, ids that are none: nothing is lost without a word."""
    deep: Any = "end"
    for _ in range(100):
        deep = [deep]
    odd = [
        message("half \ud83d", metadata={"nan": math.nan, "deep": deep, "k\ud83d": 1}),
        message("nul \0", role="tool", tool_call_id="t"),
        message(""),
    ]
    rows = [row_of(session(*odd)), row_of(session(message(), session_id=""))]
    async with create_session_manager() as manager:
        report = await write(manager, write_v1(tmp_path / "old.db", rows))
        assert report.ok
        empty, found = sorted(report.sessions, key=lambda each: each.source_id)
        assert empty.session_id is not None
        assert empty.session_id.startswith("v1-")
        messages = await (await manager.get_session("s")).get_messages()
        assert [each.content for each in messages] == ["half ?", "nul \0", ""]
        assert messages[0].metadata["nan"] is None
        assert "end" in json.dumps(messages[0].metadata["deep"])
        assert messages[0].metadata["k?"] == 1
        assert messages[1].metadata["imported_tool_call_id"] == "t"
        config = await (await manager.get_session("s")).get_config()
        assert config["metadata"]["import_notes"] == list(found.notes)
        assert len(found.notes) == 4
        again = await write(manager, tmp_path / "old.db")
        assert again.count("present") == 2


async def test_sessions_without_users_need_to_be_given_one(tmp_path: Path) -> None:
    """openai-agents knows no users; provider and model can be given, too."""
    path = write_script(
        tmp_path / "agents.db",
        AGENTS
        + "INSERT INTO agent_sessions (session_id) VALUES ('talk');"
        + "INSERT INTO agent_messages (session_id, message_data) VALUES"
        + """ ('talk', '{"role": "user", "content": "hello"}');""",
    )
    async with create_session_manager() as manager:
        [report] = (await write(manager, path)).sessions
        assert report.outcome == "skipped"
        assert "user_id" in (report.reason or "")
        given = {"user_id": "ada", "provider": "mock", "model": "mock-model"}
        assert (await write(manager, path, **given)).count("imported") == 1
        found = await manager.get_session("talk", user_id="ada")
        assert (found.provider, found.model) == ("mock", "mock-model")
        assert (await found.send_message("and now?")).seq == 3


# ---------------------------------------------------------------- one by one


class OldRole(Enum):
    USER = "user"
    ASSISTANT = "assistant"


def an_object(**changes: Any) -> Any:
    said = [
        SimpleNamespace(role=OldRole.USER, content="one", timestamp=datetime(2025, 1, 1, 9)),  # noqa: DTZ001
        SimpleNamespace(role="assistant", content="two", timestamp="2025-01-01T09:00:01"),
    ]
    facts = {"session_id": "old", "user_id": "ada", "provider": "claude", "model": "m"}
    return SimpleNamespace(**{**facts, "get_messages": lambda: said, **changes})


async def test_any_object_with_v1s_attributes_is_migrated() -> None:
    """Enums, naive times of a zone, V1's names of providers."""
    async with create_session_manager() as manager:
        found = await migrate_session(manager, an_object(), source_timezone="Asia/Kolkata")
        assert (found.session_id, found.user_id, found.provider) == ("old", "ada", "anthropic")
        messages = await found.get_messages()
        assert [(each.role.value, each.content) for each in messages] == [
            ("user", "one"),
            ("assistant", "two"),
        ]
        assert messages[0].timestamp == datetime(2025, 1, 1, 3, 30, tzinfo=UTC)
        assert messages[1].timestamp - messages[0].timestamp == timedelta(seconds=1)
        again = await migrate_session(manager, an_object(), source_timezone="Asia/Kolkata")
        assert again.session_id == "old"
        assert again.message_count == 2


async def test_coroutines_lists_and_mappings_do_as_well() -> None:
    """`get_messages` may be awaited; `messages` may be a list of mappings."""

    async def get_messages() -> list[dict[str, str]]:
        return [{"role": "user", "content": "one", "timestamp": "2025-01-01T00:00:00+00:00"}]

    facts = {"user_id": "ada", "provider": "gpt", "model": "m"}
    async with create_session_manager() as manager:
        first = await migrate_session(manager, an_object(get_messages=get_messages))
        second = await migrate_session(
            manager, {"session_id": "b", "messages": await get_messages(), **facts}
        )
        assert first.message_count == second.message_count == 1


async def test_a_session_of_the_v1_manager_is_migrated() -> None:
    """With everything that the file says."""
    old = V1SessionManager(DATA / "v1_sessions.db", source_timezone="UTC")
    async with create_session_manager() as manager:
        for name in old.list_sessions():
            found = await migrate_session(manager, old.get_session(name))
            assert found.message_count == len(old.get_session(name).get_messages())
        assert outcomes(await write(manager, DATA / "v1_sessions.db")) == dict.fromkeys(
            old.list_sessions(), ("present", 0)
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": None},
        {"user_id": None},
        {"get_messages": lambda: None},
        {"get_messages": lambda: "text"},
        {"get_messages": lambda: [SimpleNamespace(role="robot", content="x", timestamp=None)]},
        {"get_messages": lambda: [SimpleNamespace(role="user", content=3, timestamp=None)]},
    ],
)
async def test_an_object_that_cannot_be_migrated_says_why(changes: dict[str, Any]) -> None:
    """And nothing is stored."""
    async with create_session_manager() as manager:
        with pytest.raises(InvalidMessageError, match="cannot be migrated"):
            await migrate_session(manager, an_object(**changes))
        assert await manager.search_sessions() == []


async def test_a_migrated_session_that_was_deleted_is_not_found() -> None:
    """It does not come back."""
    async with create_session_manager() as manager:
        await (await migrate_session(manager, an_object())).delete()
        with pytest.raises(SessionNotFoundError):
            await migrate_session(manager, an_object())
        with pytest.raises(ConfigurationError, match="Mars"):
            await migrate_session(manager, an_object(), source_timezone="Mars/Base")
