"""`V1SessionManager` serves the migration that the guide shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from langswarm.core.session.errors import ConfigurationError, SessionNotFoundError, StorageError
from langswarm.v1.session import V1SessionManager

from .old_files import message, row_of, session, write_v1

DATA = Path(__file__).parents[1] / "data" / "v1_sessions.db"


def test_a_session_of_v1_has_what_a_migration_asks_for() -> None:
    found = V1SessionManager(DATA, source_timezone="UTC").get_session("custom-session-18")
    assert (found.session_id, found.user_id) == ("custom-session-18", "üser-åke")
    assert (found.provider, found.model) == ("anthropic", "claude-3-sonnet-20240229")
    assert found.status == "active"
    first = found.get_messages()[0]
    assert (first.role, first.content) == ("system", "tab\tand\r\nCRLF")
    assert first.timestamp.isoformat() == "2025-07-26T09:00:18+00:00"
    found.get_messages().clear()
    assert found.get_messages()
    assert repr(found) == f"<V1Session 'custom-session-18': {len(found.get_messages())} messages>"


@pytest.mark.parametrize("name", ["nobody", "", "\ud800", "a\0b", "' OR 1"])
def test_an_unknown_id_is_not_found(name: str) -> None:
    with pytest.raises(SessionNotFoundError):
        V1SessionManager(DATA).get_session(name)


def test_sessions_are_listed_of_all_and_of_one_user() -> None:
    manager = V1SessionManager(DATA)
    assert len(manager.list_sessions()) == 20
    assert len(manager.list_sessions("alice")) == 4
    assert manager.list_sessions("nobody") == []


def test_the_default_file_is_v1s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"langswarm_sessions\.db"):
        V1SessionManager().list_sessions()
    shutil.copy(DATA, tmp_path / "langswarm_sessions.db")
    assert len(V1SessionManager().list_sessions()) == 20


def test_a_session_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    rows = [row_of(session()), row_of(session(message(), session_id="t"), history="{")]
    manager = V1SessionManager(write_v1(tmp_path / "old.db", rows))
    assert manager.list_sessions() == ["s"]
    with pytest.raises(StorageError, match="cut off") as caught:
        manager.get_session("t")
    assert caught.value.code == "corrupt"
