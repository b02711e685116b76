"""`import`: old files and exports into a file of sessions, as often as one likes."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import SQLiteSessionStorage, create_session_manager
from langswarm.core.session.cli import main
from langswarm.core.session.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

Output = pytest.CaptureFixture[str]
V1 = Path(__file__).parents[1] / "data" / "v1_sessions.db"


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: Output, *arguments: str) -> tuple[int, str, str]:
    code = main(["import", *arguments, "--into", "new.db"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def read(session_id: str) -> list[tuple[str, str]]:
    async def messages() -> list[tuple[str, str]]:
        async with create_session_manager(SQLiteSessionStorage("new.db")) as manager:
            session = await manager.get_session(session_id)
            return [(each.role.value, each.content) for each in await session.get_messages()]

    return anyio.run(messages)


def test_a_file_of_v1_is_imported_once(capsys: Output) -> None:
    """The report says what became of each session, as text, as JSON and in a file."""
    before = V1.read_bytes()
    code, out, _ = run(
        capsys, "v1", str(V1), "--source-timezone", "Asia/Kolkata", "--report", "report.json"
    )
    assert code == 0
    last = out.splitlines()[-1]
    assert last == "sessions: 20 imported, 0 extended, 0 present, 0 skipped; messages: 200"
    report = json.loads(Path("report.json").read_text(encoding="ascii"))
    assert (report["imported"], len(report["sessions"])) == (20, 20)
    code, out, _ = run(capsys, "v1", str(V1), "--source-timezone", "Asia/Kolkata", "--json")
    assert (code, json.loads(out)["present"], json.loads(out)["messages"]) == (0, 20, 0)
    assert V1.read_bytes() == before


def test_what_is_skipped_is_said_and_is_exit_code_1(capsys: Output) -> None:
    """Control characters of a file steer no terminal."""
    documents: list[dict[str, Any]] = []
    for name, role in (("good", "user"), ("bad\x1b[2J", "robot")):
        facts = {"session_id": name, "user_id": "ada", "provider": "gpt", "model": "m"}
        times = {"created_at": "2025-01-01T00:00:00", "updated_at": "2025-01-01T00:00:00"}
        message = {"id": "1", "role": role, "content": "hello", "timestamp": "2025-01-01T00:00:00"}
        documents.append(
            {
                "metadata": {**facts, **times, "status": "active"},
                "history": {"session_id": name, "messages": [message]},
            }
        )
    Path("old.json").write_text(json.dumps(documents), encoding="utf-8")
    code, out, _ = run(capsys, "v1", "old.json")
    assert code == 1
    assert "bad\\x1b[2J: skipped: message 1 has the role 'robot'" in out
    assert "\x1b" not in out
    assert read("good") == [("user", "hello")]


def test_a_list_of_messages_needs_a_user(capsys: Output) -> None:
    """It is named as its file."""
    Path("talk.json").write_text(json.dumps([{"role": "user", "content": "hi"}]), encoding="utf-8")
    assert run(capsys, "messages", "talk.json")[0] == 1
    given = ("--user", "ada", "--provider", "mock", "--model", "m")
    assert run(capsys, "messages", "talk.json", *given)[0] == 0
    assert read("talk") == [("user", "hi")]


@pytest.mark.parametrize("form", ["dict", "jsonl"])
def test_an_exported_conversation_is_imported_once(form: str, capsys: Output) -> None:
    """Under its own id; another user may be named."""

    async def export() -> str:
        async with create_session_manager() as manager:
            session = await manager.create_session("ada", "mock", "m", session_id="s")
            await session.send_message("hello")
            if form == "jsonl":
                return await session.export_conversation("jsonl")
            return json.dumps(await session.export_conversation())

    Path("old.json").write_text(anyio.run(export), encoding="utf-8")
    code, out, _ = run(capsys, "conversation", "old.json", "--user", "bob")
    assert (code, "1 imported" in out, "messages: 2" in out) == (0, True, True)
    assert read("s") == [("user", "hello"), ("assistant", "Mock response to: hello")]
    code, out, _ = run(capsys, "conversation", "old.json", "--user", "bob")
    assert (code, "1 present" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("v1", "nowhere.db"), "nowhere.db"),
        (("conversation", "nowhere.json"), "nowhere.json"),
        (("v1", str(V1), "--source-timezone", "Mars/Base"), "Mars/Base"),
        (("langswarm", str(V1)), "langswarm-0.1"),
        (("messages", str(V1)), "messages"),
        (("v1", str(V1), "--report", "there.json"), "there.json"),
        (("conversation", "there.json"), "format"),
    ],
)
def test_wrong_usage_is_said_in_one_line_and_makes_no_file(
    arguments: tuple[str, ...], says: str, capsys: Output
) -> None:
    """Nothing is created for what cannot be imported."""
    Path("there.json").write_text("{}", encoding="utf-8")
    code, out, error = run(capsys, *arguments)
    assert code in {1, 2}
    assert (out, error.count("\n")) == ("", 1)
    assert says in error
    assert arguments[0] == "conversation" or not Path("new.db").exists()


def test_a_file_that_is_in_use_is_left_alone(capsys: Output) -> None:
    """One process writes a file."""

    async def hold(call: Callable[[], tuple[int, str, str]]) -> tuple[int, str, str]:
        async with create_session_manager(SQLiteSessionStorage("new.db")) as manager:
            await manager.create_session("ada", "mock", "m")
            return await anyio.to_thread.run_sync(call)

    code, out, error = anyio.run(hold, lambda: run(capsys, "v1", str(V1)))
    assert (code, out) == (1, "")
    assert "new.db" in error


def test_a_file_with_a_key_is_imported_into_encrypted(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key of the environment; contents are in the clear nowhere."""
    key = base64.b64encode(bytes(range(32))).decode()
    monkeypatch.setenv("LANGSWARM_SESSION_STORAGE_CONFIG_ENCRYPTION_KEY", key)
    secret = "nobody else reads this"
    Path("talk.json").write_text(json.dumps([{"role": "user", "content": secret}]))
    assert run(capsys, "messages", "talk.json", "--user", "ada")[0] == 0
    files = [each.read_bytes() for each in Path().iterdir() if each.name.startswith("new.db")]
    assert not any(secret.encode() in content for content in files)
    assert main(["show", "talk", "--db", "new.db"]) == 0
    assert secret in capsys.readouterr().out


def test_the_error_about_an_old_file_names_this_command(tmp_path: Path) -> None:
    """Who opens a file of V1 as a database is told how to import it."""
    shutil.copy(V1, tmp_path / "old.db")

    async def open_it() -> None:
        await SQLiteSessionStorage(tmp_path / "old.db").open()

    with pytest.raises(StorageError, match="langswarm-session import v1") as raised:
        anyio.run(open_it)
    assert raised.value.code == "foreign"


def test_a_pipe_is_not_read_for_ever(capsys: Output) -> None:
    """Nor a folder, nor a device."""
    os.mkfifo("pipe")
    for kind in ("conversation", "v1", "messages"):
        code, _, err = run(capsys, kind, "pipe")
        assert (code, err.count("\n")) == (2, 1)
    assert not Path("new.db").exists()


def test_a_report_of_an_import_that_failed_is_not_left_behind(capsys: Output) -> None:
    """The same command can be given again; what is left is read by its owner only."""
    Path("broken.json").write_text("{", encoding="ascii")
    code, _, _ = run(capsys, "conversation", "broken.json", "--report", "report.json")
    assert code != 0
    assert not Path("report.json").exists()
    code, _, _ = run(capsys, "v1", str(V1), "--report", "report.json")
    assert code == 0
    assert Path("report.json").stat().st_mode & 0o777 == 0o600
