"""V1's sessions arrive as they are, whatever is odd about them."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langswarm.core.session.adapters.importers import (
    ImportedSession,
    Skipped,
    SourceFormat,
    open_source,
)

from .old_files import message, row_of, session, write_v1

DATA = Path(__file__).parents[1] / "data"
PROVIDERS = {"gpt": "openai", "claude": "anthropic", "test": "mock", "none": "mock"}
ROLES = {"tool": "assistant", "function": "assistant"}
STATUSES = {"inactive": "archived", "expired": "archived"}
ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")


def read(path: Path, zone: str = "UTC") -> dict[str, ImportedSession | Skipped]:
    with open_source(path, source_timezone=zone) as source:
        return {found.id: found for found in source.sessions()}


def read_one(path: Path, zone: str = "UTC") -> ImportedSession:
    (found,) = read(path, zone).values()
    assert isinstance(found, ImportedSession), found
    return found


def utc(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def check_message(found: Any, old: dict[str, Any], zone: str) -> None:
    assert (found.id, found.content) == (old["id"], old["content"])
    assert found.role == ROLES.get(old["role"], old["role"])
    assert (found.original_role or found.role) == old["role"]
    assert found.timestamp == utc(old["timestamp"], zone)
    assert found.timestamp.tzinfo is UTC
    assert found.metadata == old["metadata"]
    assert found.provider_message_id == old["provider_message_id"]
    extras = {name: old[name] for name in ("tool_calls", "tool_call_id") if old[name] is not None}
    assert found.extras == extras


@pytest.mark.parametrize("zone", ZONES)
def test_a_file_of_v1_arrives_exactly_as_it_is_listed(zone: str) -> None:
    expected = json.loads((DATA / "v1_expected.json").read_text(encoding="utf-8"))["sessions"]
    found = read(DATA / "v1_sessions.db", zone)
    assert sorted(found) == sorted(old["session_id"] for old in expected)
    assert len(expected) == 20
    for old in expected:
        new = found[old["session_id"]]
        assert isinstance(new, ImportedSession)
        assert (new.user_id, new.model) == (old["user_id"], old["model"])
        assert new.provider == PROVIDERS.get(old["provider"], old["provider"])
        assert new.status == STATUSES.get(old["status"], old["status"])
        assert new.created == utc(old["created_at"], zone)
        assert new.updated == utc(old["updated_at"], zone)
        context = new.context["v1"]
        assert context["status"] == old["status"]
        assert context["provider"] == old["provider"]
        for name in ("tags", "custom_metadata", "provider_thread_id", "session_control"):
            assert context[name] == old["metadata"][name]
        assert context["summary"] == old["history"]["summary"]
        for one, of_old in zip(new.messages, old["history"]["messages"], strict=True):
            check_message(one, of_old, zone)
    assert sum(len(cast("ImportedSession", new).messages) for new in found.values()) == 200


def test_what_is_legal_is_kept(tmp_path: Path) -> None:
    odd = [
        message("\ud83d", id="openai_unknown", metadata={"a": math.nan, "b": -math.inf}),
        message("nul \0 nul", id="openai_unknown", role="assistant"),
        message("", timestamp="2024-01-01T00:00:00"),
        message("x" * 1_000_000),
    ]
    new = read_one(write_v1(tmp_path / "old.db", [row_of(session(*odd))]))
    assert [found.content for found in new.messages] == [old["content"] for old in odd]
    assert [found.id for found in new.messages[:2]] == ["openai_unknown"] * 2
    assert math.isnan(new.messages[0].metadata["a"])
    assert new.messages[0].metadata["b"] == -math.inf
    assert new.messages[2].timestamp < new.messages[1].timestamp == new.messages[0].timestamp
    assert new.notes == ()


def test_nine_hundred_messages_keep_their_order_and_the_stale_count_is_ignored(
    tmp_path: Path,
) -> None:
    many = [message(str(number)) for number in range(900)]
    old = session(*many, message_count=3)
    new = read_one(write_v1(tmp_path / "old.db", [row_of(old)]))
    assert [found.content for found in new.messages] == [str(number) for number in range(900)]


BAD = {
    "cut off": (row_of(session(message()))["history"][:-9], "cut off"),
    "an unknown role": (row_of(session(message(), message(role="robot")))["history"], "message 2"),
    "no list": ('{"messages": 3}', "no list"),
    "no object": ("[]", "no JSON object"),
    "a message that is none": ('{"messages": [1]}', "message 1"),
    "no content": ('{"messages": [{"role": "user"}]}', "no content"),
    "nested deeply": ('{"messages": ' + "[" * 100_000, "nested"),
    "a huge integer": ('{"messages": [' + "9" * 5000 + "]}", "cannot be read"),
    "bytes that are no text": (b'{"messages": ["\xff"]}', "no text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_row_that_cannot_be_read_is_reported_and_all_others_arrive(
    kind: str, tmp_path: Path
) -> None:
    history, reason = BAD[kind]
    rows = [
        row_of(session(message(), session_id="a")),
        row_of(session(message(), session_id="b"), history=history),
        row_of(session(message(), session_id="c")),
    ]
    found = read(write_v1(tmp_path / "old.db", rows))
    assert list(found) == ["a", "b", "c"]
    assert isinstance(found["a"], ImportedSession)
    assert isinstance(found["c"], ImportedSession)
    bad = found["b"]
    assert isinstance(bad, Skipped)
    assert reason in bad.reason


def test_a_history_without_its_session_id_is_recovered_from_its_row(tmp_path: Path) -> None:
    row = row_of(session(message("kept")), history=json.dumps({"messages": [message("kept")]}))
    new = read_one(write_v1(tmp_path / "old.db", [row]))
    assert (new.id, new.messages[0].content, new.notes) == ("s", "kept", ())


def test_metadata_that_is_cut_off_costs_no_conversation(tmp_path: Path) -> None:
    row = row_of(session(message("kept")), metadata='{"tags": [')
    new = read_one(write_v1(tmp_path / "old.db", [row]))
    assert new.messages[0].content == "kept"
    assert "metadata" in new.notes[0]


def test_a_row_decides_whose_session_it_is(tmp_path: Path) -> None:
    new = read_one(write_v1(tmp_path / "old.db", [row_of(session(), user_id="bob")]))
    assert new.user_id == "bob"
    assert "user_id" in new.notes[0]


def test_times_that_cannot_be_read_are_replaced_and_noted(tmp_path: Path) -> None:
    messages = [message(timestamp="2025-01-01T00:00:01"), message(timestamp="yesterday")]
    row = row_of(session(*messages, created_at="?", updated_at="0001-01-01T00:00:00"))
    new = read_one(write_v1(tmp_path / "old.db", [row]), "Asia/Kolkata")
    assert new.messages[1].timestamp == new.messages[0].timestamp == new.created
    assert len(new.notes) == 3


def test_unknown_providers_and_statuses(tmp_path: Path) -> None:
    new = read_one(
        write_v1(tmp_path / "old.db", [row_of(session(provider="own", status="paused"))])
    )
    assert new.provider == "own"
    assert new.status == "archived"
    assert new.context["v1"]["status"] == "paused"


def test_ids_of_every_kind_are_read_once_over_many_pages(tmp_path: Path) -> None:
    ids = ["", *(f"id-{number}" for number in range(1200)), "åäö", "a\0b"]
    path = write_v1(tmp_path / "old.db", [row_of(session(session_id=name)) for name in ids])
    with closing(sqlite3.connect(path)) as connection, connection:
        for odd in (None, b"blob"):
            connection.execute("UPDATE sessions SET session_id = ? WHERE session_id = ?",
                               (odd, f"id-{7 if odd else 8}"))  # fmt: skip
    with open_source(path, source_timezone="UTC") as source:
        found = list(source.sessions())
    kept = [one.id for one in found if isinstance(one, ImportedSession)]
    assert sorted(kept) == sorted(set(ids) - {"id-7", "id-8"})
    skipped = [one.id for one in found if isinstance(one, Skipped)]
    assert skipped == ["row 9", "row 10"]


texts = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates too
moments = st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1)).map(datetime.isoformat)  # noqa: DTZ001
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
messages = st.fixed_dictionaries(
    {
        "id": texts,
        "role": st.sampled_from(["user", "assistant", "system", "tool", "function"]),
        "content": texts,
        "timestamp": moments,
        "metadata": st.dictionaries(texts, values, max_size=3),
        "tool_calls": st.none() | st.lists(values, max_size=2),
        "tool_call_id": st.none() | texts,
        "provider_message_id": st.none() | texts,
    }
)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), zone=st.sampled_from(ZONES))
def test_whatever_v1_can_write_is_read_back(
    data: st.DataObject, zone: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    names = data.draw(st.lists(plain, unique=True, max_size=4))
    old = {
        name: session(*data.draw(st.lists(messages, max_size=5)), session_id=name) for name in names
    }
    path = tmp_path_factory.mktemp("v1") / "old.db"
    write_v1(path, [row_of(document) for document in old.values()])
    lines = path.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps(one) + "\n" for one in old.values()), encoding="utf-8")
    found = read(path, zone)
    assert sorted(found) == sorted(old)
    for name, new in found.items():
        assert isinstance(new, ImportedSession)
        wanted = old[name]["history"]["messages"]
        for one, of_old in zip(new.messages, wanted, strict=True):
            assert (one.id, one.content) == (of_old["id"], of_old["content"])
            assert one.metadata == of_old["metadata"]
            assert (one.original_role or one.role) == of_old["role"]
    if old:
        assert read(lines, zone) == found


def test_a_column_that_v1_never_lacks_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE sessions (session_id TEXT, metadata TEXT, history TEXT)")
        row = row_of(session(message()))
        connection.execute("INSERT INTO sessions VALUES ('s', ?, ?)",
                           (row["metadata"], row["history"]))  # fmt: skip
    assert read_one(path).user_id == "alice"


async def test_a_stream_gives_what_sessions_gives() -> None:
    with open_source(DATA / "v1_sessions.db", source_timezone="UTC") as source:
        assert source.format is SourceFormat.V1
        streamed = [found async for found in source.stream()]
        assert streamed == list(source.sessions())
