import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from langswarm.core.session import Session, create_session_manager
from langswarm.core.session.cli import demo, main
from langswarm.core.session.cli.work import Job, Part

Patch = Callable[[Job], None]
Before = dict[str, Patch]
Output = pytest.CaptureFixture[str]

USERS = 12  # three of each conversation: 54 messages


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def run(input_file: Path, backend: str, *more: str) -> int:
    options = ("--users", str(USERS), "--max-live", "3", "--idle-ms", "1", "--backend", backend)
    return main(["demo", "--input", str(input_file), *options, *more])


def figure(output: str, name: str) -> float:
    (text,) = re.findall(rf"{name}\s*\S\s*([\d,.]+)", output)
    return float(text.replace(",", ""))


# ---------------------------------------------------------------- it holds


def test_three_processes_tell_one_story(
    input_file: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    started: list[int] = []

    class Popen(subprocess.Popen[str]):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    database = tmp_path / "kept.db"
    code = run(input_file, backend, "--db", str(database))
    output = capsys.readouterr()
    assert code == 0, output.err
    assert "verified, byte for byte: 12 sessions with 54 messages" in output.out
    assert figure(output.out, "turns") == 24
    assert figure(output.out, "processes used") == len(set(started)) == 3
    assert os.getpid() not in started
    assert 1 <= figure(output.out, "sessions live at most") <= 3
    assert figure(output.out, "evictions") >= USERS
    assert figure(output.out, "rehydrations") >= USERS
    assert "second half, in a new process: 9 of 9 turns" in output.err
    assert read(database, "日本語#2", backend) == [
        ("user", "「が」と「か゛」は同じですか。"),
        ("assistant", "いいえ、e\u0301 と \u00e9 のように別の列です。" * 5),
        ("user", "ありがとう 🙏🏽"),
        ("assistant", "どういたしまして。"),
    ]


def read(database: Path, session_id: str, backend: str) -> list[tuple[str, str]]:
    async def messages() -> list[tuple[str, str]]:
        async with create_session_manager(
            "sqlite", storage_config={"db_path": database}
        ) as manager:
            session = await manager.get_session(session_id)
            return [(found.role.value, found.content) for found in await session.get_messages()]

    return anyio.run(messages, backend=backend)


def test_temporary_database_goes_unless_it_is_kept(
    input_file: Path, temporary: Path, in_this_process: Before, capsys: Output
) -> None:
    assert run(input_file, "asyncio") == 0
    assert list(temporary.iterdir()) == []
    assert run(input_file, "asyncio", "--keep") == 0
    (kept,) = temporary.glob("*/demo.db")
    assert f"the database is kept: {kept}" in capsys.readouterr().err


# ---------------------------------------------------------------- it would tell


def sql(statement: str) -> Patch:
    def change(job: Job) -> None:
        with closing(sqlite3.connect(job.database)) as connection, connection:
            assert connection.execute(statement).rowcount > 0

    return change


def api(change: Callable[[Session], Any]) -> Patch:
    async def apply(job: Job) -> None:
        config = {"db_path": job.database}
        async with create_session_manager("sqlite", storage_config=config) as manager:
            await change(await manager.get_session("greetings#1"))

    return lambda job: anyio.run(partial(apply, job), backend=job.backend)


_FIRST = "(SELECT key FROM sessions WHERE id = 'greetings#1') << 32"

TAMPERED: dict[str, tuple[Patch, str]] = {
    "one letter": (
        sql(f"UPDATE messages SET content = 'Thanks!' WHERE id = ({_FIRST}) + 6"),
        "message 6 differs at character 6: '!' instead of ''",
    ),
    "normal form": (
        sql("UPDATE messages SET content = replace(content, char(233), 'e' || char(769))"),
        "session '日本語#2': message 2 differs at character 9",
    ),
    "role": (
        sql(f"UPDATE messages SET role = 'user' WHERE id = ({_FIRST}) + 7"),
        "message 7 has role 'user', not 'assistant'",
    ),
    "lost": (
        sql(f"DELETE FROM messages WHERE id = ({_FIRST}) + 4"),
        "it counts 7 messages and has 6",
    ),
    "moved": (
        sql(f"UPDATE messages SET id = id + 1 WHERE id = ({_FIRST}) + 7"),
        "message 7 has seq 8, not 7",
    ),
    "interrupted": (
        sql(f"UPDATE messages SET finish_reason = 'interrupted' WHERE id = ({_FIRST}) + 3"),
        "message 3 has finish_reason 'interrupted', not 'stop'",
    ),
    "added": (
        api(lambda session: session.send_system_message("more")),
        "it has 8 messages, the conversation 7",
    ),
    "cleared": (
        api(lambda session: session.clear_messages()),
        "it has 0 messages, the conversation 7",
    ),
    "context": (
        api(lambda session: session.update_context(n=3.0)),
        "the context's 'n' differs at character 1: '.0' instead of ''",
    ),
    "deleted": (
        api(lambda session: session.delete()),
        "SessionNotFoundError: no session 'greetings#1'",
    ),
    "owner": (
        sql("UPDATE sessions SET user_id = 'user-1' WHERE id = 'one turn#4'"),
        "session 'greetings#1': the user's sessions are [",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_changed_history_is_found_and_named(
    name: str, input_file: Path, backend: str, in_this_process: Before, capsys: Output
) -> None:
    patch, says = TAMPERED[name]
    in_this_process[Part.VERIFY] = patch
    assert run(input_file, backend) == 1
    output = capsys.readouterr().out
    assert re.search(r"DIFFERENT: \d sessions\n  session '", output)
    assert says in output
    assert "12 sessions" not in output


def test_history_changed_half_way_shows_in_the_prompt(
    input_file: Path, backend: str, in_this_process: Before, capsys: Output
) -> None:
    in_this_process[Part.SECOND] = TAMPERED["cleared"][0]
    assert run(input_file, backend) == 1
    output = capsys.readouterr()
    assert "session 'greetings#1': ProviderError: the prompt of turn 3 is not" in output.out
    assert output.err.endswith("second half, in a new process: 1 sessions failed\n")


def test_only_the_first_of_many_differences_are_listed(
    input_file: Path, in_this_process: Before, capsys: Output
) -> None:
    in_this_process[Part.VERIFY] = sql("UPDATE messages SET content = content || '.'")
    assert run(input_file, "asyncio") == 1
    output = capsys.readouterr().out
    assert "verified, byte for byte: 0 sessions with 0 messages" in output
    assert "DIFFERENT: 12 sessions" in output
    assert output.count("differs at character") == 10
    assert "and 2 more" in output


def test_storage_that_fails_is_one_line(
    input_file: Path, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def hidden_command(job: Job) -> Iterator[dict[str, Any]]:
        arguments = demo.arguments_of(attrs.evolve(job, database=job.input_file))
        assert main(arguments) == 1
        yield from map(json.loads, capsys.readouterr().out.splitlines())

    monkeypatch.setattr(demo, "in_new_process", hidden_command)
    assert run(input_file, backend) == 1
    error = capsys.readouterr().err
    named = f"langswarm-session: first half: StorageError: {input_file} is not an SQLite database"
    assert error.startswith(named)
    assert error.count("\n") == 1


def test_hidden_command_tells_its_result(
    input_file: Path, tmp_path: Path, backend: str, capsys: Output
) -> None:
    job = Job(
        part=Part.FIRST,
        input_file=input_file,
        users=4,
        max_live=2,
        idle_ms=0.5,
        backend=backend,
        database=tmp_path / "work.db",
    )
    assert main(demo.arguments_of(job)) == 0
    *progress, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert all(message.keys() == {"done"} for message in progress)
    assert len(last["result"]["turn_ms"]) == 5


def test_process_that_ends_early_is_told(
    input_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    def no_such_command(_: Job) -> list[str]:
        return ["no-such-command"]

    monkeypatch.setattr(demo, "arguments_of", no_such_command)
    assert run(input_file, "asyncio") == 1
    error = capfd.readouterr().err
    assert "Unknown command" in error
    assert error.endswith("first half: its process ended before it was done\n")


# ---------------------------------------------------------------- usage and interruption


def test_database_must_be_a_new_file_in_a_folder(
    input_file: Path, tmp_path: Path, capsys: Output
) -> None:
    assert run(input_file, "asyncio", "--db", str(input_file)) == 2
    assert "exists: the demo wants a new file" in capsys.readouterr().err
    assert run(input_file, "asyncio", "--db", str(tmp_path / "none" / "x.db")) == 2
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


def test_broken_input_is_one_line_with_its_place(
    input_file: Path, temporary: Path, capsys: Output
) -> None:
    with input_file.open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "turns": [{"user": 1}]}\n')
    assert run(input_file, "asyncio") == 2
    output = capsys.readouterr()
    assert output.out == ""
    says = "turns[0].user must be a str, not int"
    assert output.err == f"langswarm-session: {input_file}:5: {says}\n"
    assert list(temporary.iterdir()) == []


def test_interruption_leaves_nothing_behind(
    input_file: Path, temporary: Path, in_this_process: Before, capsys: Output
) -> None:
    def interrupt(job: Job) -> None:
        assert job.database.exists()
        raise KeyboardInterrupt

    in_this_process[Part.SECOND] = interrupt
    assert run(input_file, "asyncio") == 130
    assert capsys.readouterr().err.endswith("langswarm-session: interrupted\n")
    assert list(temporary.iterdir()) == []


def test_interruption_ends_the_other_process(
    input_file: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []

    class Popen(subprocess.Popen[str]):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    for users in (1_000, 10_000):  # seconds of work; more where this process is held up itself
        job = Job(
            part=Part.FIRST,
            input_file=input_file,
            users=users,
            max_live=3,
            idle_ms=1,
            backend=backend,
            database=tmp_path / f"{users}.db",
        )
        with closing(demo.in_new_process(job)) as messages:
            assert next(messages)["done"] >= 1
            process = started[-1]
            assert process.pid != os.getpid()
            assert os.getpgid(process.pid) == process.pid  # an interruption is not for it
        if process.returncode:
            break
    assert started[-1].returncode == -signal.SIGTERM


def test_module_is_the_command() -> None:
    command = [sys.executable, "-P", "-m", "langswarm.core.session.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\S+\n", done.stdout)
