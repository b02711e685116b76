"""LangSwarm 0.1.0, openai-agents and JSON."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session.adapters.importers import (
    ImportedSession,
    Skipped,
    SourceFormat,
    open_source,
)
from langswarm.core.session.errors import ConfigurationError, StorageError

from .old_files import AGENTS, LANGSWARM_0_1, message, row_of, session, write_script, write_v1

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, **options: Any) -> list[ImportedSession | Skipped]:
    with open_source(path, **{"source_timezone": "UTC", **options}) as source:
        return list(source.sessions())


def read_one(path: Path, **options: Any) -> ImportedSession:
    (found,) = read(path, **options)
    assert isinstance(found, ImportedSession), found
    return found


ROWS_0_1 = """
INSERT INTO sessions VALUES ('s', 'alice', 'claude', 'm', 'sqlite', '{"likes": "tea"}',
 '2025-01-01T10:00:00', '2025-01-01 11:00:00');
INSERT INTO sessions VALUES ('t', 'bob', 'openai', 'm', NULL, '{cut', '2025-01-01', '2025-01-01');
INSERT INTO session_messages VALUES (2, 's', 'm2', 'assistant', 'two', '2025-01-01T10:00:00',
 '{"a": 1}', 'msg_1', 7, 'stop');
INSERT INTO session_messages VALUES (1, 's', 'm1', 'user', 'one', '2025-01-01T10:30:00', NULL,
 NULL, NULL, NULL);
INSERT INTO session_messages VALUES (3, 'gone', 'm3', 'user', 'lost', '2025', NULL, NULL, 0, NULL);
"""


def test_langswarm_0_1_is_ordered_by_number_and_its_times_are_utc(tmp_path: Path) -> None:
    path = write_script(tmp_path / "langswarm_sessions.db", LANGSWARM_0_1 + ROWS_0_1)
    found = read(path, source_timezone="Asia/Kolkata")
    new, other, orphans = found
    assert isinstance(new, ImportedSession)
    assert [one.content for one in new.messages] == ["one", "two"]
    assert new.created == datetime(2025, 1, 1, 10, tzinfo=UTC)
    assert new.messages[0].timestamp == datetime(2025, 1, 1, 10, 30, tzinfo=UTC)
    assert (new.provider, new.context["likes"]) == ("anthropic", "tea")
    two = new.messages[1]
    assert (two.id, two.provider_message_id, two.token_count) == ("m2", "msg_1", 7)
    assert (two.finish_reason, two.metadata) == ("stop", {"a": 1})
    assert isinstance(other, ImportedSession)
    assert "context" in other.notes[0]
    assert isinstance(orphans, Skipped)
    assert orphans.id == "gone"
    assert orphans.reason.startswith("1 messages of a session that was deleted")


def test_orphans_of_every_kind_are_reported_once_each(tmp_path: Path) -> None:
    path = write_script(tmp_path / "old.db", LANGSWARM_0_1)
    ids = [None, b"blob", *(str(number) for number in range(1100))]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO session_messages (session_id, role, content) VALUES (?, 'user', '')",
            [(one,) for one in ids],
        )
    assert len(read(path)) == len(ids)


def test_items_of_openai_agents_become_messages_and_the_rest_is_noted(tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "image"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hello"}],
        },
    ]
    path = write_script(tmp_path / "agents.db", AGENTS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO agent_sessions VALUES ('s', '2025-01-01 10:00:00', '?')")
        connection.executemany(
            "INSERT INTO agent_messages (session_id, message_data, created_at) VALUES (?, ?, ?)",
            [("s", json.dumps(item), "2025-01-01 10:00:00") for item in items],
        )
    new = read_one(path, source_timezone="Asia/Kolkata")
    told = [(one.role.value, one.content) for one in new.messages]
    assert told == [("system", "be brief"), ("user", "hi"), ("assistant", "hello")]
    assert new.messages[0].original_role == "developer"
    assert new.messages[2].id == "msg_1"
    assert new.created == new.updated == datetime(2025, 1, 1, 10, tzinfo=UTC)
    assert (new.user_id, new.provider, new.model) == (None, None, None)
    assert any("'function_call'" in note for note in new.notes)
    assert any("'image'" in note for note in new.notes)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (1_000_000, 1_000_000))
    return path


PAIR = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
LISTS = {
    "one line": json.dumps(PAIR),
    "indented": json.dumps(PAIR, indent=2),
    "lines": "\n".join(map(json.dumps, PAIR)) + "\n\n",
    "with a byte order mark": "\ufeff" + json.dumps(PAIR),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_messages_is_one_session_named_as_its_file(kind: str, tmp_path: Path) -> None:
    new = read_one(write(tmp_path / "chat.one.json", LISTS[kind]))
    assert new.id == "chat.one"
    assert [(one.role.value, one.content) for one in new.messages] == [
        ("user", "hi"),
        ("assistant", "hello"),
    ]
    assert new.created == new.updated == datetime.fromtimestamp(1_000_000, UTC)


def test_messages_may_have_times_ids_and_metadata(tmp_path: Path) -> None:
    full = message(metadata={"a": 1}, name="bob")
    new = read_one(write(tmp_path / "chat.json", json.dumps([full])), source_timezone="Asia/Tokyo")
    (one,) = new.messages
    assert one.timestamp == datetime(2024, 12, 31, 15, tzinfo=UTC)
    assert (one.id, one.metadata, one.extras) == ("m", {"a": 1}, {"name": "bob"})


def test_a_line_that_is_cut_off_spoils_that_conversation_only(tmp_path: Path) -> None:
    lines = [json.dumps(session(message(), session_id=name)) for name in "ab"]
    found = read(write(tmp_path / "old.jsonl", f"{lines[0]}\n{lines[1][:-5]}\n{lines[1]}\n"))
    assert [one.id for one in found] == ["a", "line 2", "b"]
    assert isinstance(found[1], Skipped)
    (chat,) = read(write(tmp_path / "chat.jsonl", '{"role": "user", "content": ""}\n{"role": '))
    assert isinstance(chat, Skipped)
    assert "line 2" in chat.reason


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("many", [False, True])
def test_sessions_of_v1_as_json(indent: int | None, many: bool, tmp_path: Path) -> None:
    one = session(message("kept"))
    text = json.dumps([one, session(session_id="t")] if many else one, indent=indent)
    path = write(tmp_path / "old.json", text)
    found = read(path)
    assert [new.id for new in found] == ["s", "t"][: len(found)]
    assert len(found) == 1 + many
    with open_source(path) as source:
        assert source.format is SourceFormat.V1_JSON
        assert source.find("s") is not None
        assert source.find("nobody") is None


def test_formats_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    v1 = write_v1(tmp_path / "a.db", [row_of(session())])
    v2 = write_script(tmp_path / "b.db", LANGSWARM_0_1)
    agents = write_script(tmp_path / "c.db", AGENTS)
    for path, wanted in ((v1, "v1"), (v2, "langswarm-0.1"), (agents, "openai-agents")):
        with open_source(path) as source:
            assert source.format == wanted
        with open_source(path, format=wanted) as source:
            assert source.format == wanted
        with pytest.raises(StorageError, match="not of messages") as caught:
            open_source(path, format="messages")
        assert caught.value.code == "foreign"


def test_a_file_of_two_formats_needs_to_be_told_which(tmp_path: Path) -> None:
    path = write_v1(write_script(tmp_path / "both.db", AGENTS), [row_of(session())])
    with pytest.raises(ConfigurationError, match='format="v1" or format="openai-agents"'):
        open_source(path)
    assert read(path, format="openai-agents") == []
    assert len(read(path, format="v1")) == 1
