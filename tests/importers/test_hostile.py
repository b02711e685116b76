"""Files that are wrong give errors that say what to do, and never a traceback of another kind."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langswarm.core.session import create_session_manager
from langswarm.core.session.adapters.importers import (
    ImportedSession,
    Skipped,
    database,
    documents,
    open_source,
)
from langswarm.core.session.errors import ConfigurationError, StorageError

from .old_files import LANGSWARM_0_1, message, row_of, session, write_script, write_v1

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data" / "v1_sessions.db"


def refused(path: Path, code: str, text: str) -> None:
    with pytest.raises(StorageError, match=text) as caught:
        open_source(path)
    assert caught.value.code == code
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 4096,
        b"SQLite format 2\0" + b"\0" * 1000,
        b"SQLite form",
        b"hello",
        b"<html>",
        b"\xff\xfe[\0",
        b"[1, 2]",
        b"[]",
        b"{}",
        b'{"role": ',
        b'[{"role": "user"',
        b"[" * 100_000,
        b"{\n" + b"\xff" * 100,
    ],
    ids=str,
)
def test_a_file_of_another_kind_is_foreign(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    path.write_bytes(content)
    refused(path, "foreign", "nothing was written")
    assert path.read_bytes() == content


def test_an_empty_file_is_foreign(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    path.touch()
    refused(path, "foreign", "is empty")


def test_a_database_of_another_program_is_foreign(tmp_path: Path) -> None:
    other = write_script(tmp_path / "other.db", "CREATE TABLE sessions (id, data)")
    refused(other, "foreign", "another program")
    half = write_script(tmp_path / "half.db", LANGSWARM_0_1 + "DROP TABLE session_messages")
    refused(half, "foreign", "another program")
    view = write_script(
        tmp_path / "view.db", "CREATE VIEW sessions AS SELECT 1 session_id, 2 history, 3 metadata"
    )
    refused(view, "foreign", "another program")


def test_damage_that_sqlite_cannot_put_into_words_is_damage(tmp_path: Path) -> None:
    path = write_v1(tmp_path / "old.db", [])
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"CREATE TABLE sessions", b"CREATE \xbe\xbe\xbe\xbe\xbe sessions")
    )
    refused(path, "corrupt", "damaged or cut off")


def test_texts_in_utf_16_are_foreign(tmp_path: Path) -> None:
    path = write_v1(tmp_path / "old.db", [row_of(session())], encoding="UTF-16le")
    refused(path, "foreign", "UTF-16")


def test_tables_without_row_numbers_are_foreign(tmp_path: Path) -> None:
    path = write_script(
        tmp_path / "odd.db",
        "CREATE TABLE sessions (session_id TEXT PRIMARY KEY, history, metadata) WITHOUT ROWID",
    )
    with open_source(path) as source, pytest.raises(StorageError, match="look like") as caught:
        list(source.sessions())
    assert caught.value.code == "foreign"


async def test_a_file_of_this_runtime_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    config = {"db_path": str(path)}
    async with create_session_manager("sqlite", storage_config=config) as manager:
        await manager.create_session("alice", "mock", "mock-model")
    refused(path, "foreign", "db_path")


def test_what_is_no_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        open_source(tmp_path / "none.db")
    with pytest.raises(ConfigurationError, match="is a folder"):
        open_source(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="no regular file"):
        open_source(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_source("nul\0")


def test_a_file_without_permission_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_v1(tmp_path / "old.db", [])

    def forbidden(*_: object) -> None:  # root may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(database, "open", forbidden, raising=False)
    with pytest.raises(ConfigurationError, match="permissions"):
        open_source(path)


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'openai-agents'"):
        open_source(DATA, format="openai-agent")
    with pytest.raises(ConfigurationError, match="use one of v1, "):
        open_source(DATA, format="?")
    with pytest.raises(ConfigurationError, match="source_timezone"):
        open_source(DATA, source_timezone="Nowhere/Town")


def test_a_database_is_not_taken_for_json_nor_the_other_way_round(tmp_path: Path) -> None:
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([message()]))
    with pytest.raises(StorageError, match="no SQLite database"):
        open_source(chat, format="v1")
    with pytest.raises(StorageError, match="of the format messages"):
        open_source(chat, format="v1-json")


def seen(path: Path) -> Iterator[ImportedSession | Skipped]:
    with open_source(path, source_timezone="UTC") as source:
        yield from source.sessions()


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, DATA.stat().st_size))
def test_a_truncated_file_gives_what_is_whole_or_an_error_of_ours(
    length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = {found.id: found for found in seen(DATA)}
    path = tmp_path_factory.mktemp("cut") / "cut.db"
    path.write_bytes(DATA.read_bytes()[:length])
    try:
        for found in seen(path):
            assert isinstance(found, Skipped) or found == whole[found.id]
    except StorageError as error:
        assert error.code in {"corrupt", "foreign"}  # noqa: PT017 - a file may be refused or not
    assert [one.name for one in path.parent.iterdir()] == ["cut.db"]


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, DATA.stat().st_size - 64), st.binary(min_size=1, max_size=64)),
        min_size=1,
        max_size=8,
    )
)
def test_a_damaged_file_gives_sessions_or_an_error_of_ours(
    changes: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(DATA.read_bytes())
    for place, written in changes:
        damaged[place : place + len(written)] = written
    path = tmp_path_factory.mktemp("bad") / "bad.db"
    path.write_bytes(damaged)
    try:
        assert len(list(seen(path))) < 1000
    except StorageError as error:
        assert error.code in {"corrupt", "foreign", "io", "busy"}  # noqa: PT017 - as above
    assert [one.name for one in path.parent.iterdir()] == ["bad.db"]
    assert path.read_bytes() == damaged


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200).map(lambda tail: b"[{" + tail) | st.text().map(str.encode))
def test_any_text_gives_sessions_or_an_error_of_ours(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("text") / "text.json"
    path.write_bytes(content)
    try:
        assert len(list(seen(path))) <= len(content)
    except StorageError as error:
        assert error.code == "foreign"  # noqa: PT017 - as above


def test_values_of_too_many_bytes_are_skipped_and_the_others_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MAX_VALUE_BYTES", 10_000)
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 10_000)
    huge = session(message("x" * 20_000), session_id="huge")
    path = write_v1(tmp_path / "old.db", [row_of(session()), row_of(huge)])
    bad, good = seen(path)
    assert isinstance(bad, Skipped)
    assert "more than 10000 bytes" in bad.reason
    assert isinstance(good, ImportedSession)
    for name, indent in (("old.jsonl", None), ("old.json", 2)):
        path = tmp_path / name
        path.write_text(json.dumps(huge, indent=indent))
        refused(path, "foreign", "more than 10000 bytes")


def test_a_session_in_a_damaged_part_of_the_file_is_its_own_loss(tmp_path: Path) -> None:
    rows = [row_of(session(message(name * 20_000), session_id=name)) for name in "abc"]
    path = write_v1(tmp_path / "old.db", rows)
    content = path.read_bytes()
    start = content.index(b"b" * 4000) // 4096 * 4096
    page = start + 4096  # of the second overflow page on, the number of the next page is wrong
    path.write_bytes(content[:page] + b"\xff\xff\xff\xff" + content[page + 4 :])
    found = {one.id: one for one in seen(path)}
    assert isinstance(found["a"], ImportedSession)
    assert isinstance(found["b"], Skipped)
    assert isinstance(found["c"], ImportedSession)
    assert "damaged" in found["b"].reason


def test_a_source_may_be_closed_twice_and_a_file_replaced_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(DATA, path)
    source = open_source(path)
    source.close()
    source.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM sessions")
        connection.commit()
    assert list(seen(path)) == []
