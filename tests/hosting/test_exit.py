"""How programs end: forgotten aclose, sys.exit, an exception, Ctrl-C, in the middle of turns."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from ..runtime.helpers import Echo, assert_turns, contents
from .programs import assert_clean, run

if TYPE_CHECKING:
    from ..runtime.helpers import Store

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
def test_forgotten_aclose_in_memory_ends_without_a_word(backend: str) -> None:
    """Hosting: an idle runtime that nobody closed leaves no warning and no hanging exit."""
    program = """
        async def main():
            session = await new(make())
            print((await session.send_message("one")).content)
        anyio.run(main, backend=backend)
    """
    assert_clean(run(program, backend), "answer to one\n")


@BACKENDS
def test_forgotten_aclose_on_sqlite_leaves_a_closed_file(backend: str, sqlite: Store) -> None:
    """Hosting: the storage thread is stopped and joined; no -wal stays behind."""
    program = """
        manager = make()
        async def main():
            session = await new(manager)
            await session.send_message("one")
        anyio.run(main, backend=backend)
        print(sorted(name for name in os.listdir(os.path.dirname(path)) if "wal" in name))
    """
    assert_clean(run(program, backend, sqlite.path), "[]\n")


async def reopened(sqlite: Store) -> None:
    async with sqlite.manager(Echo()) as manager:
        session = await manager.get_session("s")
        assert_turns(await session.get_messages(), ["one"])


@pytest.mark.parametrize("child", ["asyncio", "trio"])
async def test_what_was_acknowledged_before_a_forgotten_end_is_there(
    sqlite: Store, child: str
) -> None:
    """G13: the file opens at once and holds everything."""
    program = """
        async def main():
            manager = make()
            session = await new(manager)
            await session.send_message("one")
        anyio.run(main, backend=backend)
    """
    assert_clean(run(program, child, sqlite.path))
    await reopened(sqlite)


@BACKENDS
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_sys_exit_in_main_exits_with_its_code(backend: str, kind: str, sqlite: Store) -> None:
    """Hosting: SystemExit goes through, the runtime ends behind it."""
    program = """
        async def main():
            session = await new(make())
            await session.send_message("one")
            sys.exit(7)
        anyio.run(main, backend=backend)
    """
    done = run(program, backend, "memory" if kind == "memory" else sqlite.path)
    assert (done.returncode, done.stderr, done.stdout) == (7, "", "")


@BACKENDS
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_exception_in_main_is_the_only_thing_reported(
    backend: str, kind: str, sqlite: Store
) -> None:
    """Hosting: one traceback, the program's own."""
    program = """
        async def main():
            session = await new(make())
            await session.send_message("one")
            raise ValueError("the program's own")
        anyio.run(main, backend=backend)
    """
    done = run(program, backend, "memory" if kind == "memory" else sqlite.path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: the program's own")
    assert done.stderr.count("Traceback") == 1
    assert "TrioInternalError" not in done.stderr


ENDS_BUSY = """
    async def main():
        session = await new(make(cancel_grace_seconds=20))
        await session.send_message("one")
        running, queued = session.submit("hang"), session.submit("queued")
        with contextlib.suppress(NotImplementedError):
            await hanging.wait()
    anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("child", ["asyncio", "trio"])
async def test_main_returns_while_a_turn_runs(sqlite: Store, child: str) -> None:
    """G13: the turn is interrupted with its closing commit; a ResourceWarning says why."""
    done = run(ENDS_BUSY, child, sqlite.path, warnings="always::ResourceWarning")
    assert done.returncode == 0
    assert "ResourceWarning: a session manager with 1 busy sessions was not closed" in done.stderr
    assert "Traceback" not in done.stderr
    async with sqlite.manager(Echo()) as manager:
        session = await manager.get_session("s")
        messages = await session.get_messages()
        assert [(m.content, m.finish_reason) for m in messages] == [
            ("one", None),
            ("answer to one", "stop"),
            ("hang", None),
            ("answer ", "interrupted"),
        ]
        statistics = manager.statistics()
        assert statistics is not None
        assert statistics.storage.recovered_turns == 0


@BACKENDS
def test_the_warning_turned_into_an_error_ends_nothing(backend: str) -> None:
    """Hosting: with -W error the warning is logged instead of ending the whole run."""
    done = run(ENDS_BUSY, backend)
    assert done.returncode == 0
    assert "1 busy sessions was not closed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("child", ["asyncio", "trio"])
async def test_ctrl_c_in_mid_turn_interrupts_and_stores(sqlite: Store, child: str) -> None:
    """G13: KeyboardInterrupt belongs to the program; the turn is closed, nothing is lost."""
    program = """
        async def main():
            session = await new(make(cancel_grace_seconds=20))
            await session.send_message("one")
            ticket = session.submit("hang")
            await hanging.wait()
            os.kill(os.getpid(), signal.SIGINT)
            await ticket
        anyio.run(main, backend=backend)
    """
    done = run(program, child, sqlite.path, warnings="ignore")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "TrioInternalError" not in done.stderr
    async with sqlite.manager(Echo()) as manager:
        session = await manager.get_session("s")
        assert await contents(session) == ["one", "answer to one", "hang", "answer "]
        await session.send_message("next")


@BACKENDS
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_two_hundred_lines_of_trouble_leave_no_output(
    backend: str, kind: str, sqlite: Store
) -> None:
    """Hosting: many sessions, eviction, cancelled callers, no aclose: a silent end."""
    program = """
        async def main():
            manager = make(max_live_sessions=3, idle_seconds=0.001)
            async def talk(number):
                session = await new(manager, f"s{number}")
                for turn in range(3):
                    with anyio.move_on_after(0.001 if number % 3 == 0 else 60):
                        await session.send_message(str(turn))
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(talk, number)
            for number in range(20):
                session = await manager.get_session(f"s{number}")
                await session.get_messages()
                await session.update_context(a=1)  # behind whatever still runs
            gc.collect()
        anyio.run(main, backend=backend)
    """
    assert_clean(run(program, backend, "memory" if kind == "memory" else sqlite.path))


@BACKENDS
def test_a_fork_is_refused_in_the_child_and_unnoticed_by_the_parent(
    backend: str, sqlite: Store
) -> None:
    """Hosting: use after fork raises RuntimeClosedError and StorageError; the parent goes on."""
    program = """
        from langswarm.core.session import RuntimeClosedError, StorageError, SQLiteSessionStorage
        from langswarm.core.session.actors.model import SessionQuery

        async def main():
            storage = SQLiteSessionStorage(path)
            manager = create_session_manager(storage, providers={"openai": Provider()})
            session = await new(manager)
            await session.send_message("one")
            child = os.fork()
            if child == 0:
                code = 10
                try:
                    session.submit("child")
                except RuntimeClosedError as error:
                    code += "fork" in str(error)
                for use in (manager.create_session("u", "openai", "m"), session.get_messages(),
                            manager.get_user_sessions("user"), session.archive()):
                    try:
                        await use
                    except RuntimeClosedError:
                        code += 1
                try:
                    await storage.list_sessions(SessionQuery(user_id="user", limit=1))
                except StorageError as error:
                    code += error.code == "closed"
                await manager.aclose()
                os._exit(code)
            _, status = os.waitpid(child, 0)
            print("child", os.waitstatus_to_exitcode(status))
            print((await session.send_message("two")).content, session.message_count)
            await manager.aclose()
        anyio.run(main, backend=backend)
    """
    done = run(program, backend, sqlite.path, warnings="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "child 16\nanswer to two 4\n"


@BACKENDS
def test_a_fork_before_the_first_use_is_no_fork(backend: str, sqlite: Store) -> None:
    """Hosting: what matters is the process that uses it: made before, refused in the child."""
    program = """
        from langswarm.core.session import RuntimeClosedError

        manager = make()
        child = os.fork()
        async def use():
            try:
                session = await new(manager)
            except RuntimeClosedError:
                return 5
            await session.send_message("one")
            await manager.aclose()
            return 0
        if child == 0:
            os._exit(anyio.run(use, backend=backend))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), anyio.run(use, backend=backend))
    """
    done = run(program, backend, sqlite.path, warnings="ignore")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "5 0\n")


@BACKENDS
def test_a_program_that_never_uses_its_manager_pays_nothing(backend: str, sqlite: Store) -> None:
    """Hosting: making a manager starts no thread, opens no file and needs no loop."""
    program = """
        import threading
        manager = make()
        print(os.path.exists(path), threading.active_count(), manager.statistics())
        async def main():
            await manager.aclose()
            await manager.aclose()
        anyio.run(main, backend=backend)
        print(os.path.exists(path))
    """
    assert_clean(run(program, backend, sqlite.path), "False 1 None\nFalse\n")
