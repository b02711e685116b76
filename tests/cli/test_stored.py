"""The commands that look at a file: they show what is committed, change nothing, hold nobody up."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread
from langswarm.core.session import SessionManager, StorageError, create_session_manager
from langswarm.core.session.actors.model import Purge, SessionQuery, SessionWrite, UsageQuery
from langswarm.core.session.adapters.storage.sqlite.schema import USER_VERSION
from langswarm.core.session.cli import main
from langswarm.core.session.cli.held import HeldFile, Keys, reading
from langswarm.core.session.cli.screen import Screen, safe_json, safe_line, safe_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

Output = pytest.CaptureFixture[str]

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
HOSTILE = (
    "".join(map(chr, range(0x20)))
    + "".join(map(chr, range(0x7F, 0xA0)))
    + "\x1b]0;title\x07 \x1b[2J \u202e\u2066\u2028 end"
)
COMMANDS = (
    ["sessions"],
    ["show", "first"],
    ["export", "first"],
    ["verify"],
    ["backup", "copy.db"],
    ["gc", "--dry-run"],
)


def manager_of(path: Path, **config: Any) -> SessionManager:
    return create_session_manager("sqlite", storage_config={"db_path": path, **config})


def filled(path: Path, fill: Callable[[SessionManager], Awaitable[object]]) -> Path:
    """A file that nobody has open."""

    async def run() -> None:
        async with manager_of(path) as manager:
            await fill(manager)

    anyio.run(run)
    return path


async def some(manager: SessionManager) -> None:
    first = await manager.create_session(
        "ada",
        "mock",
        "small",
        session_id="first",
        session_config={"name": "Gardens", "tags": ["green", "old"]},
    )
    await first.send_message("Which roses are hardy?")
    await first.update_context({"place": "Kew"})
    second = await manager.create_session(
        "ada", "mock", "large", session_id="second", session_config={"tags": ["green"]}
    )
    await second.send_message("Nothing about flowers")
    await second.archive()
    third = await manager.create_session("bob", "mock", "large", session_id="third")
    await third.delete()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("template") / "some.db", some)


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """A file that nobody has open, as the program that had it has left it."""
    path = tmp_path / "some.db"
    shutil.copy(template, path)
    path.with_name("some.db.lock").touch()
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("working")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LANGSWARM_SESSION_STORAGE_CONFIG_DB_PATH", raising=False)
    return folder


def asked(capsys: Output, *arguments: object) -> Any:
    """What a command answers as JSON."""
    assert main([*map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert not err
    return json.loads(out)


def ids(answer: Any) -> list[str]:
    return [row["session_id"] for row in answer["sessions"]]


def contents_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.iterdir()
        if not file.name.endswith("-shm")
    }


class TestSessions:
    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            ([], ["second", "first"]),
            (["--user", "ada"], ["second", "first"]),
            (["--user", "nobody"], []),
            (["--status", "archived"], ["second"]),
            (["--status", "deleted"], ["third"]),
            (["--tag", "green"], ["second", "first"]),
            (["--tag", "green", "--tag", "old"], ["first"]),
            (["--text", "HARDY roses"], ["first"]),
            (["--model", "large"], ["second"]),
            (["--provider", "openai"], []),
            (["--limit", "1"], ["second"]),
        ],
    )
    def test_lists_what_matches(
        self, path: Path, options: list[str], wanted: list[str], capsys: Output
    ) -> None:
        assert ids(asked(capsys, "sessions", "--db", path, *options)) == wanted

    def test_shows_one_line_a_session(self, path: Path, capsys: Output) -> None:
        assert main(["sessions", "--db", str(path)]) == 0
        head, second, first = capsys.readouterr().out.splitlines()
        assert head.split()[:3] == ["SESSION", "USER", "STATUS"]
        assert second.split()[:5] == ["second", "ada", "archived", "mock/large", "2"]
        assert first.endswith("Gardens")

    def test_looks_at_all_messages_of_all_sessions(self, tmp_path: Path, capsys: Output) -> None:
        async def fill(manager: SessionManager) -> None:
            for number in range(150):
                session = await manager.create_session("u", "mock", "m", session_id=f"n{number}")
                if number == 1:
                    await session.send_message("the needle")
                    await session.send_message("more hay")

        path = filled(tmp_path / "many.db", fill)
        answer = asked(capsys, "sessions", "--db", path, "--text", "needle", "--limit", "1")
        assert ids(answer) == ["n1"]
        assert not ids(asked(capsys, "sessions", "--db", path, "--text", "needle hay"))

    def test_goes_on_from_cursor_to_cursor(self, path: Path, capsys: Output) -> None:
        answer = asked(capsys, "sessions", "--db", path, "--limit", "1")
        found = ids(answer)
        while answer["next_cursor"] is not None:
            cursor = ["--cursor", answer["next_cursor"]]
            answer = asked(capsys, "sessions", "--db", path, "--limit", "1", *cursor)
            found += ids(answer)
        assert found == ["second", "first"]
        assert main(["sessions", "--db", str(path), "--limit", "1"]) == 0
        assert "more with --cursor s1-" in capsys.readouterr().out

    def test_cursor_of_another_list_is_wrong_usage(self, path: Path, capsys: Output) -> None:
        assert main(["sessions", "--db", str(path), "--cursor", "x"]) == 2
        assert "cursor" in capsys.readouterr().err

    def test_file_is_the_default_one_or_that_of_the_environment(
        self, path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        assert main(["sessions"]) == 2
        assert "langswarm-session.db" in capsys.readouterr().err
        monkeypatch.setenv("LANGSWARM_SESSION_STORAGE_CONFIG_DB_PATH", str(path))
        assert len(ids(asked(capsys, "sessions"))) == 2
        monkeypatch.delenv("LANGSWARM_SESSION_STORAGE_CONFIG_DB_PATH")
        shutil.copy(path, elsewhere / "langswarm-session.db")
        assert len(ids(asked(capsys, "sessions"))) == 2


class TestShow:
    def test_tells_all_of_a_session(self, path: Path, capsys: Output) -> None:
        answer = asked(capsys, "show", "first", "--db", path)
        assert (answer["user_id"], answer["name"]) == ("ada", "Gardens")
        assert answer["context"] == {"place": "Kew"}
        assert answer["metrics"]["completed_turns"] == 1
        assert [each["content"] for each in answer["history"]] == [
            "Which roses are hardy?",
            "Mock response to: Which roses are hardy?",
        ]
        assert main(["show", "first", "--db", str(path)]) == 0
        text = capsys.readouterr().out
        for words in ("Gardens", "Kew", "1 completed", "Which roses", "2 assistant"):
            assert words in text

    def test_tells_the_last_messages(self, path: Path, capsys: Output) -> None:
        answer = asked(capsys, "show", "first", "--db", path, "--messages", 1)
        assert [each["role"] for each in answer["history"]] == ["assistant"]
        assert not asked(capsys, "show", "first", "--db", path, "--messages", 0)["history"]

    @pytest.mark.parametrize("session", ["none", "third"])
    def test_session_that_is_not_there_is_one_line(
        self, path: Path, session: str, capsys: Output
    ) -> None:
        assert main(["show", session, "--db", str(path)]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("langswarm-session: ")
        assert session in err
        assert err.count("\n") == 1


class TestExport:
    async def test_is_what_the_session_exports(self, tmp_path: Path, capsys: Output) -> None:
        path = tmp_path / "held.db"
        async with manager_of(path) as manager:
            await some(manager)
            session = await manager.get_session("first")
            data = await session.export_conversation()
            assert await to_thread.run_sync(asked, capsys, "export", "first", "--db", path) == data
            lines = await session.export_conversation("jsonl")
            command = ["export", "first", "--db", str(path), "--format"]
            assert await to_thread.run_sync(main, [*command, "jsonl"]) == 0
            out = capsys.readouterr().out
            assert [json.loads(line) for line in out.splitlines()] == [
                json.loads(line) for line in lines.splitlines()
            ]
            assert await to_thread.run_sync(main, [*command, "markdown"]) == 0
            assert capsys.readouterr().out == await session.export_conversation("markdown")
            for form in ("openai", "anthropic"):
                assert await to_thread.run_sync(main, [*command, form]) == 0
                told = json.loads(capsys.readouterr().out)
                assert told == await session.export_conversation(form)

    def test_goes_into_a_new_file_for_its_owner(
        self, path: Path, tmp_path: Path, capsys: Output
    ) -> None:
        target = tmp_path / "first.json"
        command = ["export", "first", "--db", str(path), "--output", str(target)]
        assert main(command) == 0
        assert target.stat().st_mode & 0o777 == 0o600
        content = target.read_text()
        assert json.loads(content) == asked(capsys, "export", "first", "--db", path)
        assert main(command) == 2
        assert "nothing is overwritten" in capsys.readouterr().err
        assert main([*command[:-1], str(tmp_path / "none" / "x")]) == 1
        assert "cannot write" in capsys.readouterr().err
        assert target.read_text() == content

    def test_of_a_session_that_is_not_there_makes_no_file(
        self, path: Path, tmp_path: Path, capsys: Output
    ) -> None:
        target = tmp_path / "none.json"
        assert main(["export", "none", "--db", str(path), "--output", str(target)]) == 1
        assert not target.exists()

    def test_in_two_formats_is_wrong_usage(self, path: Path, capsys: Output) -> None:
        assert main(["export", "first", "--json", "--format", "markdown"]) == 2
        assert "--json is --format json" in capsys.readouterr().err


class TestHostileContents:
    def test_steer_no_terminal(self, tmp_path: Path, capsys: Output) -> None:
        async def fill(manager: SessionManager) -> None:
            session = await manager.create_session(
                HOSTILE,
                "mock",
                HOSTILE,
                session_id=HOSTILE,
                session_config={"name": HOSTILE, "tags": [HOSTILE]},
            )
            await session.send_message(HOSTILE, metadata={HOSTILE: HOSTILE})
            await session.update_context({HOSTILE: HOSTILE})

        path = filled(tmp_path / "hostile.db", fill)
        commands = [["sessions"], ["show", HOSTILE], ["verify"], ["show", f"no {HOSTILE}"]]
        commands += [[*command, "--json"] for command in commands]
        for form in ("json", "jsonl", "markdown", "openai", "anthropic"):
            commands.append(["export", HOSTILE, "--format", form])
        for command in commands:
            main([*command, "--db", str(path)])
            shown = "".join(capsys.readouterr())
            assert shown
            assert not STEERING.search(shown)

    def test_are_the_same_in_json(self, tmp_path: Path, capsys: Output) -> None:
        async def fill(manager: SessionManager) -> None:
            session = await manager.create_session("u", "mock", "m", session_id="s")
            await session.send_message(HOSTILE)

        path = filled(tmp_path / "hostile.db", fill)
        assert asked(capsys, "show", "s", "--db", path)["history"][0]["content"] == HOSTILE

    def test_of_other_scripts_are_shown_as_they_are(self) -> None:
        text = "日本語 שלום é e\u0301 👩‍👩‍👧 \u200f"
        assert safe_text(text) == safe_line(text) == text
        assert json.loads(safe_json(text)) == text
        assert safe_text("a\n\tb\r") == "a\n\tb\\r"
        assert safe_line("a\n\tb\x9b\ud800") == "a\\n\\tb\\x9b\\ud800"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestScreen:
    def test_of_a_terminal_is_steered_by_nothing(self) -> None:
        terminal, pipe = Terminal(), io.StringIO()
        for out in (terminal, pipe):
            Screen(out).write("a\x1b[2J\n")
        assert terminal.getvalue() == "a\\x1b[2J\n"
        assert pipe.getvalue() == "a\x1b[2J\n"

    def test_whose_reader_has_left_is_silent(self) -> None:
        reading_end, writing_end = os.pipe()
        os.close(reading_end)
        with os.fdopen(writing_end, "w") as out:
            screen = Screen(out)
            screen.write("x" * 100_000)
            assert screen.closed
            screen.write("more")


class TestEncryptedFile:
    @pytest.mark.parametrize("kind", ["encryption_keys", "encryption_key", "sqlcipher_key"])
    async def test_is_read_with_the_keys_of_the_environment(
        self, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        path = tmp_path / "sealed.db"
        secret = base64.b64encode(bytes(range(32))).decode()
        value = f"one={secret}" if kind == "encryption_keys" else secret
        async with manager_of(path, **{kind: value}) as manager:
            await some(manager)
            command = ["show", "first", "--db", str(path)]
            assert await to_thread.run_sync(main, command) == 1
            error = capsys.readouterr().err
            assert "_key" in error
            assert error.count("\n") == 1
            monkeypatch.setenv(f"LANGSWARM_SESSION_STORAGE_CONFIG_{kind.upper()}", value)
            shown = await to_thread.run_sync(asked, capsys, *command)
            assert shown["history"][0]["content"] == "Which roses are hardy?"
            assert shown["name"] == "Gardens"
            for other in COMMANDS:
                assert await to_thread.run_sync(main, [*other, "--db", str(path)]) == 0
        capsys.readouterr()
        answer = await to_thread.run_sync(asked, capsys, "gc", "--db", path)
        assert answer == {"dry_run": False, "archived": 0, "deleted": 0, "erased": 0}

    def test_key_that_is_none_does_not_show(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setenv("LANGSWARM_SESSION_STORAGE_CONFIG_ENCRYPTION_KEY", "no key at all")
        assert main(["sessions", "--db", str(path)]) == 2
        assert "no key at all" not in capsys.readouterr().err


class TestFileAtRest:
    @pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each[0])
    def test_is_not_touched(
        self, path: Path, command: list[str], elsewhere: Path, capsys: Output
    ) -> None:
        before = contents_of(path.parent)
        assert main([*command, "--db", str(path)]) == 0
        assert contents_of(path.parent) == before
        assert {file.name for file in path.parent.iterdir()} == {"some.db", "some.db.lock"}

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each[0])
    def test_that_is_missing_is_not_made(
        self, tmp_path: Path, command: list[str], elsewhere: Path, capsys: Output
    ) -> None:
        assert main([*command, "--db", str(tmp_path / "none.db")]) == 2
        assert "there is no file" in capsys.readouterr().err
        assert main([*command, "--db", str(tmp_path)]) == 2
        assert not list(tmp_path.iterdir())
        assert not list(elsewhere.iterdir())

    def test_that_is_opened_meanwhile_is_read_again(self, path: Path) -> None:
        seen: list[list[str]] = []

        def job(file: HeldFile) -> None:
            listed = partial(file.list_sessions, SessionQuery(limit=10))
            seen.append([record.session_id for record in anyio.run(listed).records])
            if len(seen) == 1:
                filled(path, add)

        async def add(manager: SessionManager) -> None:
            await manager.create_session("ada", "mock", "m", session_id="fourth")

        reading(path, job)
        assert seen == [["second", "first"], ["fourth", "second", "first"]]

    def test_error_of_a_file_that_was_opened_meanwhile_is_no_error(self, path: Path) -> None:
        calls: list[HeldFile] = []

        def job(file: HeldFile) -> str:
            calls.append(file)
            if len(calls) == 1:
                filled(path, some_more)
                raise sqlite3.DatabaseError("malformed")
            return "read"

        async def some_more(manager: SessionManager) -> None:
            await manager.create_session("ada", "mock", "m")

        assert reading(path, job) == "read"

    def test_that_never_comes_to_rest_is_an_error(self, path: Path) -> None:
        def job(file: HeldFile) -> None:
            path.touch()

        with pytest.raises(OSError, match="opened and closed all the time"):
            reading(path, job)


class TestFileThatIsHeld:
    @pytest.mark.parametrize("wal", [True, False], ids=["wal", "journal"])
    async def test_shows_what_is_committed_and_goes_on(
        self, tmp_path: Path, capsys: Output, *, wal: bool
    ) -> None:
        path = tmp_path / "held.db"
        async with manager_of(path, enable_wal=wal) as manager:
            await some(manager)
            for number in range(3):
                session = await manager.create_session("eve", "mock", "m", session_id=f"n{number}")
                answer = await to_thread.run_sync(asked, capsys, "show", f"n{number}", "--db", path)
                assert answer["messages"] == 0
                await session.send_message("Hello")
                answer = await to_thread.run_sync(asked, capsys, "show", f"n{number}", "--db", path)
                assert answer["messages"] == 2
                await session.send_message("Still there?")
            for command in COMMANDS:
                arguments = [*command, "--db", str(path)]
                assert await to_thread.run_sync(main, arguments) == 0, capsys.readouterr()
            assert (await manager.verify_storage()).ok
            await manager.create_session("eve", "mock", "m")
        assert {file.name for file in tmp_path.iterdir()} == {"held.db", "held.db.lock"}

    async def test_is_not_written_to(self, tmp_path: Path, elsewhere: Path, capsys: Output) -> None:
        path = tmp_path / "held.db"
        async with manager_of(path) as manager:
            await some(manager)
            before = contents_of(tmp_path)
            assert before["held.db-wal"][0]
            for command in COMMANDS:
                assert await to_thread.run_sync(main, [*command, "--db", str(path)]) == 0
            assert contents_of(tmp_path) == before

    async def test_by_a_process_that_was_killed_shows_what_was_committed(
        self, tmp_path: Path, capsys: Output
    ) -> None:
        path, folder = tmp_path / "held.db", tmp_path / "killed"
        folder.mkdir()
        async with manager_of(path) as manager:
            await some(manager)
            for file in tmp_path.glob("held.db*"):  # what a kill leaves
                if not file.name.endswith("-shm"):
                    shutil.copy(file, folder / file.name)
        before = contents_of(folder)
        answer = await to_thread.run_sync(asked, capsys, "sessions", "--db", folder / "held.db")
        assert ids(answer) == ["second", "first"]
        assert contents_of(folder) == before

    async def test_may_be_closed_while_it_is_read(self, tmp_path: Path) -> None:
        """The -wal stays behind then, and the next program folds it in."""
        path = tmp_path / "held.db"
        file = HeldFile(path, Keys())
        async with manager_of(path) as manager:
            await some(manager)
            await file.open()
            assert (await file.load(["first"]))[0] is not None
        assert (await file.load(["second"]))[0] is not None
        await file.close()
        async with manager_of(path) as manager:
            assert (await manager.get_session("first")).message_count == 2
            assert (await manager.verify_storage()).ok
        assert {file.name for file in tmp_path.iterdir()} == {"held.db", "held.db.lock"}

    async def test_by_another_process_is_read_by_a_third(self, tmp_path: Path) -> None:
        """The real command, while this process holds the file."""
        path = tmp_path / "held.db"
        async with manager_of(path) as manager:
            await some(manager)
            command = [sys.executable, "-m", "langswarm.core.session.cli", "sessions", "--json"]
            done = await anyio.run_process([*command, "--db", str(path)])
            assert ids(json.loads(done.stdout)) == ["second", "first"]
            await manager.create_session("eve", "mock", "m")
        assert not path.with_name("held.db-wal").exists()


class TestStorage:
    """What a manager is given: it reads as the storage does, and stores nothing."""

    async def test_reads_what_the_storage_reads(self, path: Path) -> None:
        file = HeldFile(path, Keys())
        await file.open()
        async with manager_of(path.with_name("copy.db")) as manager:
            await some(manager)
            storage = manager._anchor.host.storage
            (stored,) = await storage.load(["first"])
            assert stored is not None
            (found,) = await file.read_back(["first"])
            assert found is not None
            assert found.record.key == stored.record.key
            assert found.documents == stored.documents
            turn = await file.read_turn(1, 1)
            assert turn is not None
            assert turn.state == "completed"
            query = UsageQuery(first_day=0, last_day=1_000_000)
            (day,) = (await file.read_usage(query)).days[:1]
            assert day.provider == "mock"
            assert await file.find_claim("first", "send_message", "none") is None
            assert not await file.load_unfinished(10)
            assert not await file.load_purges(0, 10)
        await file.close()

    async def test_stores_nothing(self, path: Path) -> None:
        before = contents_of(path.parent)
        file = HeldFile(path, Keys())
        await file.open()
        (stored,) = await file.load(["first"])
        assert stored is not None
        purge = Purge(provider="p", provider_session_id="c", queued_us=1, due_us=1)
        assert await file.sweep_claims(1, 1) == 0
        with pytest.raises(StorageError, match="only read"):
            await file.commit([SessionWrite(expected_revision=1, after=stored)])
        with pytest.raises(StorageError, match="only read"):
            await file.erase_user("ada")
        with pytest.raises(StorageError, match="only read"):
            await file.settle_purge(purge, retry_us=None, error=None)
        await file.close()
        assert contents_of(path.parent) == before

    async def test_that_is_closed_says_so(self, path: Path) -> None:
        with pytest.raises(StorageError, match="not open"):
            await HeldFile(path, Keys()).load(["first"])

    async def test_changes_of_sessions_are_refused(self, path: Path) -> None:
        async with SessionManager(HeldFile(path, Keys())) as manager:
            session = await manager.get_session("first")
            with pytest.raises(StorageError, match="only read"):
                await session.send_message("Hello")
            with pytest.raises(StorageError, match="only read"):
                await manager.create_session("u", "mock", "m")


class TestOtherFiles:
    @pytest.mark.parametrize(
        ("content", "says"),
        [(b"", "empty"), (b"text", "is not an SQLite database"), (b"x" * 5000, "SQLite")],
    )
    def test_are_refused_in_one_line(
        self, tmp_path: Path, content: bytes, says: str, capsys: Output
    ) -> None:
        path = tmp_path / "other.db"
        path.write_bytes(content)
        for command in (["sessions"], ["verify"], ["backup", str(tmp_path / "copy.db")]):
            assert main([*command, "--db", str(path)]) == 1
            error = capsys.readouterr().err
            assert says in error
            assert error.count("\n") == 1
        assert [file.name for file in tmp_path.iterdir()] == ["other.db"]
        assert path.read_bytes() == content

    @pytest.mark.parametrize(
        ("version", "says"),
        [(USER_VERSION - 1, "brings it up to date"), (USER_VERSION + 1, "or a newer one")],
    )
    def test_of_other_versions_are_named(
        self, path: Path, version: int, says: str, capsys: Output
    ) -> None:
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        assert main(["sessions", "--db", str(path)]) == 1
        assert says in capsys.readouterr().err

    def test_empty_one_with_a_wal_is_left_alone(self, tmp_path: Path, capsys: Output) -> None:
        """SQLite would delete the -wal, which may be all there is of what was moved."""
        (tmp_path / "x.db").touch()
        (tmp_path / "x.db-wal").write_bytes(b"content")
        assert main(["sessions", "--db", str(tmp_path / "x.db")]) == 2
        assert (tmp_path / "x.db-wal").read_bytes() == b"content"


class TestVerify:
    def test_damage_is_told_and_is_no_success(self, path: Path, capsys: Output) -> None:
        connection = sqlite3.connect(path)
        connection.execute("UPDATE sessions SET status = 'nonsense' WHERE id = 'first'")
        connection.commit()
        connection.close()
        assert main(["verify", "--db", str(path)]) == 1
        assert "nonsense" in capsys.readouterr().out
        assert main(["verify", "--db", str(path), "--json"]) == 1
        answer = json.loads(capsys.readouterr().out)
        assert not answer["ok"]
        assert len(answer["problems"]) == 1


class TestBackup:
    def test_is_a_file_of_sessions(self, path: Path, tmp_path: Path, capsys: Output) -> None:
        answer = asked(capsys, "backup", tmp_path / "copy.db", "--db", path)
        assert answer["size_bytes"] == (tmp_path / "copy.db").stat().st_size
        assert ids(asked(capsys, "sessions", "--db", tmp_path / "copy.db")) == ["second", "first"]

    def test_overwrites_nothing(self, path: Path, tmp_path: Path, capsys: Output) -> None:
        target = tmp_path / "copy.db"
        target.write_text("mine")
        assert main(["backup", str(target), "--db", str(path)]) == 2
        assert "overwrites nothing" in capsys.readouterr().err
        assert target.read_text() == "mine"


class TestGc:
    def test_does_what_a_dry_run_has_told(self, path: Path, capsys: Output) -> None:
        days = ["--archive-after-days", "0", "--delete-after-days", 0, "--erase-after-days", 0]
        told = asked(capsys, "gc", "--dry-run", "--db", path, *days)
        assert told == {"dry_run": True, "archived": 1, "deleted": 1, "erased": 1}
        assert ids(asked(capsys, "sessions", "--db", path)) == ["second", "first"]
        archived = asked(capsys, "gc", "--db", path, *days[:2])
        assert archived == {"dry_run": False, "archived": 1}
        assert ids(asked(capsys, "sessions", "--db", path, "--status", "archived")) == [
            "second",
            "first",
        ]
        erased = asked(capsys, "gc", "--db", path, *days[4:])
        assert erased == {"dry_run": False, "erased": 1}
        assert not ids(asked(capsys, "sessions", "--db", path, "--status", "deleted"))

    def test_without_ages_spares_what_is_young(self, path: Path, capsys: Output) -> None:
        assert main(["gc", "--db", str(path)]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "0 were archived",
            "0 were deleted",
            "0 were erased",
        ]

    async def test_waits_for_nobody_who_holds_the_file(
        self, tmp_path: Path, capsys: Output
    ) -> None:
        path = tmp_path / "held.db"
        async with manager_of(path) as manager:
            await some(manager)
            assert await to_thread.run_sync(main, ["gc", "--db", str(path)]) == 1
            assert "is in use by this process" in capsys.readouterr().err

    def test_makes_no_file(self, tmp_path: Path, capsys: Output) -> None:
        assert main(["gc", "--db", str(tmp_path / "none.db")]) == 2
        assert not list(tmp_path.iterdir())


class TestPipes:
    def test_reader_that_leaves_is_no_error(self, path: Path) -> None:
        command = [sys.executable, "-m", "langswarm.core.session.cli", "show", "first"]
        with subprocess.Popen(
            [*command, "--db", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(50) == 0
