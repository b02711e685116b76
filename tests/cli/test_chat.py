import io
import os
import pty
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langswarm.core.session.actors.model import Role
from langswarm.core.session.cli import main
from langswarm.core.session.cli.chat import AloudProvider
from langswarm.core.session.cli.screen import Screen
from langswarm.core.session.providers import (
    Completed,
    IProvider,
    MockProvider,
    PromptMessage,
    ProviderEvent,
    ProviderRequest,
    TextDelta,
)

Output = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    """What a person types; each line may be an exception instead."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        super().__init__()
        self._lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self, *_: Any) -> str:  # type: ignore[override]  # as StringIO's own
        if not self._lines:
            return ""
        line = self._lines.pop(0)
        if isinstance(line, str):
            return f"{line}\n"
        raise line


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def pipe(monkeypatch: pytest.MonkeyPatch, text: str, *options: str | Path) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return main(["chat", *map(str, options)])


def history(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, database: Path, *options: str
) -> list[str]:
    capsys.readouterr()
    assert pipe(monkeypatch, "/history\n", "--db", database, "--session", *options) == 0
    return capsys.readouterr().out.splitlines()


# ---------------------------------------------------------------- from a pipe


def test_piped_lines_are_answered_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, backend: str
) -> None:
    text = "Hello\n\n  Grüße 👋  \n/quit\nnever sent\n"
    assert pipe(monkeypatch, text, "--backend", backend) == 0
    output = capsys.readouterr()
    assert output.out == "Mock response to: Hello\nMock response to: Grüße 👋\n"
    assert output.err == ""


def test_session_goes_on_where_it_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, database: Path, backend: str
) -> None:
    options = ("--db", database, "--session", "mine", "--backend", backend)
    assert pipe(monkeypatch, "one\n", *options) == 0
    assert pipe(monkeypatch, "two", *options) == 0
    assert history(monkeypatch, capsys, database, "mine") == [
        "1 user: one",
        "2 assistant: Mock response to: one",
        "3 user: two",
        "4 assistant: Mock response to: two",
    ]


def test_session_of_somebody_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, database: Path
) -> None:
    options = ("--db", database, "--session", "mine", "--user")
    assert pipe(monkeypatch, "one\n", *options, "ann") == 0
    assert pipe(monkeypatch, "two\n", *options, "bob") == 2
    assert "'mine' does not belong to user 'bob'" in capsys.readouterr().err
    assert len(history(monkeypatch, capsys, database, "mine", "--user", "ann")) == 2


def test_line_that_is_no_text_fails_alone(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"one\nt\xffwo\nthree\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["chat"]) == 1
    output = capsys.readouterr()
    assert output.out == "Mock response to: one\nMock response to: three\n"
    assert output.err == (
        "langswarm-session: this line is not utf-8 and was not sent: 't\\udcffwo'\n"
    )


def test_output_that_knows_few_letters_gets_the_others_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert pipe(patch, "Grüße\n") == 0
    stdout.seek(0)
    assert stdout.read() == "Mock response to: Gr\\xfc\\xdfe\n"


def test_session_id_that_cannot_be_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert pipe(monkeypatch, "one\n", "--session", "x" * 501) == 2
    assert capsys.readouterr().err == (
        "langswarm-session: session_id has more than 500 bytes of UTF-8\n"
    )


def test_message_that_is_refused_fails_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    huge = "x" * (4 * 1024 * 1024 + 1)
    assert pipe(monkeypatch, f"{huge}\ntwo\n") == 1
    output = capsys.readouterr()
    assert output.out == "Mock response to: two\n"
    assert output.err.startswith("langswarm-session: the message has more than 4194304 bytes")


def test_database_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"not a database")
    for path, says in (
        (foreign, "is not an SQLite database"),
        (tmp_path / "none" / "x.db", "the folder must exist"),
    ):
        assert pipe(monkeypatch, "one\n", "--db", path) == 1
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def test_reader_that_leaves_ends_the_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, database: Path, backend: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        options = ("--db", database, "--session", "s", "--backend", backend)
        assert pipe(patch, "one\ntwo\n", *options) == 0
    assert history(monkeypatch, capsys, database, "s") == [
        "1 user: one",
        "2 assistant: Mock response to: one",
    ]


# ---------------------------------------------------------------- streaming


async def test_pieces_are_shown_while_they_arrive() -> None:
    class Slow(IProvider):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            for piece in ("Once", " upon", " a time"):
                yield TextDelta(piece)
                shown.append(out.getvalue())
            yield Completed()

    out, shown = io.StringIO(), list[str]()
    provider = AloudProvider(Slow(), Screen(out))
    events = [event async for event in provider.stream(_request("Tell me"))]
    assert shown == ["Once", "Once upon", "Once upon a time"]
    assert len(events) == 4  # they are passed on


async def test_shown_answer_is_the_answer() -> None:
    out = io.StringIO()
    provider = AloudProvider(MockProvider(chunk_size=3), Screen(out))
    async for _ in provider.stream(_request("Grüße 👋")):
        pass
    assert out.getvalue() == "Mock response to: Grüße 👋"


def _request(text: str) -> ProviderRequest:
    return ProviderRequest(
        session_id="s",
        turn_id="s/1",
        model="mock",
        messages=(PromptMessage(role=Role.USER, content=text),),
        config={},
        provider_session_id=None,
    )


# ---------------------------------------------------------------- on a terminal


def type_in(
    monkeypatch: pytest.MonkeyPatch, lines: list[str | type[BaseException]], *options: str | Path
) -> tuple[int, str]:
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", Terminal(*lines))
        patch.setattr(sys, "stdout", screen)
        code = main(["chat", *map(str, options)])
    return code, screen.getvalue()


def test_terminal_is_prompted_until_the_input_ends(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    options = ("--session", "s", "--backend", backend)
    code, shown = type_in(monkeypatch, ["hi", "", "/history"], *options)
    assert code == 0
    assert shown == (
        "session s, 0 messages (nothing is kept: no --db)\n"
        "/history shows the conversation, /quit or Ctrl-D ends it.\n"
        "you> mock> Mock response to: hi\n"
        "you> you> 1 user: hi\n2 assistant: Mock response to: hi\n"
        "you> \n"
    )


def test_interruption_at_the_prompt_ends_cleanly(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, database: Path, backend: str
) -> None:
    options = ("--db", database, "--session", "s", "--backend", backend)
    code, shown = type_in(monkeypatch, ["hi", KeyboardInterrupt], *options)
    assert code == 130
    assert f"session s, 0 messages ({database})" in shown
    assert len(history(monkeypatch, capsys, database, "s")) == 2


def test_interruption_within_an_answer_keeps_what_was_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, database: Path, backend: str
) -> None:
    words = " ".join(f"word{number}" for number in range(25))  # most of a second of answer
    pid, terminal = pty.fork()
    if pid == 0:
        program = [sys.executable, "-P", "-m", "langswarm.core.session.cli", "chat"]
        options = ["--db", str(database), "--session", "s", "--backend", backend]
        os.execv(sys.executable, [*program, *options])  # noqa: S606 - no shell is wanted
    try:
        read_until(terminal, "you> ")
        os.write(terminal, f"{words}\n".encode())
        read_until(terminal, "mock> Mock response to: word0")
        os.write(terminal, b"\x03")
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    question, answer = history(monkeypatch, capsys, database, "s")
    assert question == f"1 user: {words}"
    assert answer.startswith("2 assistant: Mock response to: word0")
    assert f"2 assistant: Mock response to: {words}".startswith(answer)


def read_until(terminal: int, text: str) -> None:
    seen = b""
    while text.encode() not in seen:
        ready, _, _ = select.select([terminal], [], [], 30)
        assert ready, seen
        seen += os.read(terminal, 4096)
