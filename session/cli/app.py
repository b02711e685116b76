"""The commands and their options."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import anyio
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from langswarm.core.session import ConfigurationError, InvalidMessageError, SessionError
from langswarm.core.session.cli import chat as chatting
from langswarm.core.session.cli import demo as demonstration
from langswarm.core.session.cli import importing, stored
from langswarm.core.session.cli.exits import (
    FAILED,
    OK,
    USAGE,
    CommandError,
    UsageError,
)
from langswarm.core.session.cli.screen import safe_line, send_nowhere
from langswarm.core.session.cli.work import Job, Part, work

NAME = "langswarm-session"

Backend = Literal["asyncio", "trio"]
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Several = Annotated[tuple[str, ...], Parameter(negative="")]
Days = Annotated[float | None, Parameter(validator=Number(gte=0))]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Status = Literal["active", "archived", "deleted", "error"]

app = App(
    name=NAME,
    help="LLM conversation sessions: one turn at a time, in order, durable when acknowledged.",
    version=lambda: version(NAME),
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; an error is one line on stderr."""
    _replace_what_is_closed()
    _tolerate(sys.stdin, "surrogateescape")  # a line that is no text fails alone
    _tolerate(sys.stdout, "backslashreplace")  # as stderr does
    try:
        code = app(list(arguments))
    except CommandError as error:
        return _fail(str(error), error.code)
    except CycloptsError as error:
        return _fail(f"{' '.join(str(error).split())} See {NAME} --help.", USAGE)
    except (ConfigurationError, InvalidMessageError) as error:
        return _fail(str(error), USAGE)
    except SessionError as error:
        return _fail(str(error), FAILED)
    except OSError as error:
        if error.filename is None:  # it was none of a file: the help could not be printed
            send_nowhere(sys.stdout)
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}", FAILED)
    return code if isinstance(code, int) else OK  # the help is no command and returns nothing


def _replace_what_is_closed() -> None:
    """A shell that closes a stream (`>&-`) leaves None in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - it stays
            setattr(sys, name, nowhere)


def _tolerate(stream: TextIO, errors: str) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=errors)


def _fail(message: str, code: int) -> int:
    print(f"{NAME}: {safe_line(message)}", file=sys.stderr)
    return code


def _check_backend(backend: Backend) -> None:
    if importlib.util.find_spec(backend) is None:
        raise UsageError(f"--backend {backend} needs {backend}: pip install '{NAME}[{backend}]'")


@app.command
def demo(
    *,
    input_file: Annotated[Path | None, Parameter(name="--input")] = None,
    users: AtLeastOne = 200,
    max_live: AtLeastOne = 20,
    idle_ms: Annotated[float, Parameter(validator=Number(gte=0))] = 10,
    backend: Backend = "asyncio",
    db: Path | None = None,
    keep: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Replay conversations through the whole runtime and verify every history.

    Concurrent users talk to the mock provider, which streams the answers of the input, on SQLite,
    with more sessions than may be live at once. Half way everything is closed and goes on in a
    new process. A third one compares each history with the input, byte for byte.

    Exit codes: 0 all is as it was said, 1 something failed or differs, 2 wrong usage or input.

    Args:
        input_file: Conversations, one JSON object per line: {"id", "system", "context", "turns":
            [{"user", "assistant"}, ...]}. Default: examples/conversations.jsonl, if it is there.
        users: Concurrent users; the conversations are reused in a cycle.
        max_live: Sessions in memory at once.
        idle_ms: A session that is idle so long leaves memory.
        backend: The event loop.
        db: The database, a new file that is kept. Default: a temporary one.
        keep: Keep the temporary database too, and say where it is.
    """
    _check_backend(backend)
    options = demonstration.Options(
        input_file=input_file,
        users=users,
        max_live=max_live,
        idle_ms=idle_ms,
        backend=backend,
        database=db,
        keep=keep,
    )
    return demonstration.demo(options)


@app.command(name=demonstration.HIDDEN_COMMAND, show=False)
def part_of_demo(
    *,
    part: Part,
    input_file: Path,
    users: int,
    max_live: int,
    idle_ms: float,
    backend: Backend,
    database: Path,
) -> int:
    """One part of the demo, in a process of its own; tells its progress as JSON lines.

    Args:
        part: Which.
        input_file: As in demo.
        users: As in demo.
        max_live: As in demo.
        idle_ms: As in demo.
        backend: As in demo.
        database: The file.
    """
    job = Job(
        part=part,
        input_file=input_file,
        users=users,
        max_live=max_live,
        idle_ms=idle_ms,
        backend=backend,
        database=database,
    )
    try:
        anyio.run(partial(work, job, _emit), backend=backend)
    except SessionError as error:
        _emit({"error": f"{type(error).__name__}: {error}"})
        return FAILED
    return OK


def _emit(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


@app.command
def chat(
    *,
    db: Path | None = None,
    session: str | None = None,
    user: str | None = None,
    backend: Backend = "asyncio",
) -> int:
    """Talk to the mock provider, which streams its answers.

    On a terminal: /history shows the conversation, /quit or Ctrl-D ends it. From a pipe: one
    message per line, one answer per line. Whatever was answered is stored.

    Exit codes: 0 ended, 1 a message failed, 2 wrong usage, 130 interrupted.

    Args:
        db: The SQLite file, made if it is missing. Default: nothing is kept.
        session: The session to go on with, made if it is missing. Default: a new one.
        user: Whose session it is. Default: the name of who is logged in.
        backend: The event loop.
    """
    _check_backend(backend)
    options = chatting.Options(
        database=db,
        session_id=session,
        user_id=user or os.environ.get("USER") or "user",
        backend=backend,
    )
    return chatting.chat(options)


# ---------------------------------------------------------------- what is stored


@app.command
def sessions(
    *,
    db: Path | None = None,
    user: str | None = None,
    status: Status | None = None,
    tag: Several = (),
    text: str | None = None,
    provider: str | None = None,
    model: str | None = None,
    limit: AtLeastOne = 50,
    cursor: str | None = None,
    as_json: Json = False,
) -> int:
    """List the sessions of a file that match every option, newest first.

    The file is only read, also while a program has it open.

    Exit codes: 0 listed, 1 the file cannot be read, 2 wrong usage or no such file.

    Args:
        db: The SQLite file. Default: LANGSWARM_SESSION_STORAGE_CONFIG_DB_PATH, else
            langswarm-session.db.
        user: Of this user.
        status: Of this status. Default: all but deleted ones.
        tag: With this tag; given several times: with all of them.
        text: With a visible message that has all of these words.
        provider: Of this provider.
        model: That ask for this model.
        limit: How many at most.
        cursor: Where the list before ended, with the same options.
        as_json: One JSON object: {"sessions": [...], "next_cursor": ...}.
    """
    filters = stored.Filters(
        user_id=user,
        status=status,
        tags=tag,
        text=text,
        provider=provider,
        model=model,
        limit=limit,
        cursor=cursor,
    )
    return stored.list_sessions(stored.database(db), filters, as_json=as_json)


@app.command
def show(
    session: str,
    /,
    *,
    db: Path | None = None,
    messages: Annotated[int, Parameter(validator=Number(gte=0))] = 20,
    as_json: Json = False,
) -> int:
    """Show a session: its facts, context and figures, and its last messages.

    The file is only read, also while a program has it open. Control characters are
    shown by their codes.

    Exit codes: 0 shown, 1 no such session or the file cannot be read, 2 wrong usage or no such
    file.

    Args:
        session: The session's id.
        db: The SQLite file, as in sessions.
        messages: How many of the last messages.
        as_json: One JSON object.
    """
    return stored.show(stored.database(db), session, messages=messages, as_json=as_json)


@app.command
def export(
    session: str,
    /,
    *,
    db: Path | None = None,
    form: Annotated[stored.Format, Parameter(name="--format")] = "json",
    output: Path | None = None,
    as_json: Json = False,
) -> int:
    """Write a whole conversation as data: to standard output, or into a new file.

    The file of sessions is only read, also while a program has it open. JSON is in ASCII;
    Markdown shows control characters by their codes.

    Exit codes: 0 written, 1 no such session, or something cannot be read or written, 2 wrong usage
    or no such file.

    Args:
        session: The session's id.
        db: The SQLite file, as in sessions.
        form: json: all of it, to be imported again. jsonl: the same, a line each message.
            markdown: for people. openai, anthropic: messages as their APIs take them.
        output: A new file, readable by its owner only. Default: standard output.
        as_json: As --format json, which is the default.
    """
    if as_json and form != "json":
        raise UsageError(f"--json is --format json: it cannot go with --format {form}")
    return stored.export(stored.database(db), session, form=form, output=output)


@app.command(name="import")
def import_(
    kind: importing.Kind,
    file: Path,
    /,
    *,
    into: Path,
    source_timezone: str | None = None,
    user: str | None = None,
    provider: str = "unknown",
    model: str = "unknown",
    report: Path | None = None,
    as_json: Json = False,
) -> int:
    """Import sessions of another program, or an exported conversation, into a file of sessions.

    The old file is only read. It can be done again: what is there is not doubled, and what is new
    in the old file is added to histories that were not gone on with. Sessions keep their ids.

    Exit codes: 0 all is there, 1 something was skipped or the file is in use, 2 wrong usage, or
    no such file.

    Args:
        kind: v1: LangSwarm V1, its SQLite file or its JSON. langswarm: LangSwarm 0.1.0.
            openai-agents: an SQLiteSession. messages: a list of {"role", "content"}, as JSON or
            JSON lines. conversation: what export wrote, as json or jsonl.
        file: The old file.
        into: The SQLite file, made if it is missing. No program may have it open.
        source_timezone: Where a V1 file, or JSON without offsets, was written: Europe/Berlin.
            Default: that of this machine.
        user: Whose sessions they are, where the file does not say; for a conversation, whose it
            becomes.
        provider: Of sessions whose provider the file does not say.
        model: Of sessions whose model the file does not say.
        report: A new file for the report, as JSON.
        as_json: The report as one JSON object: {"imported", "extended", "present", "skipped",
            "messages", "sessions": [...], ...}.
    """
    options = importing.Options(
        kind=kind,
        file=file,
        into=into,
        source_timezone=source_timezone,
        user_id=user,
        provider=provider,
        model=model,
        report=report,
        as_json=as_json,
    )
    return importing.import_file(options)


@app.command
def backup(target: Path, /, *, db: Path | None = None, as_json: Json = False) -> int:
    """Copy all that is committed into a new file, also while a program has the file open.

    The copy is checked and synced, and has its name only when it is complete. Nothing is
    overwritten.

    Exit codes: 0 copied, 1 it could not be read or written, 2 wrong usage or no such file.

    Args:
        target: The new file.
        db: The SQLite file, as in sessions.
        as_json: One JSON object: {"path", "size_bytes"}.
    """
    return stored.backup(stored.database(db), target, as_json=as_json)


@app.command
def verify(*, db: Path | None = None, as_json: Json = False) -> int:
    """Look for damage in everything that is stored, also while a program has the file open.

    Exit codes: 0 no problems, 1 problems or the file cannot be read, 2 wrong usage or no such
    file.

    Args:
        db: The SQLite file, as in sessions.
        as_json: One JSON object: {"ok", "problems"}.
    """
    return stored.verify(stored.database(db), as_json=as_json)


@app.command
def gc(
    *,
    db: Path | None = None,
    archive_after_days: Days = None,
    delete_after_days: Days = None,
    erase_after_days: Days = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> int:
    """Archive sessions that are inactive, delete archived ones, erase deleted ones, by age.

    Without an age, all three are done: after 30, 90 and 365 days. With one or more, only these.
    The file must not be in use; with --dry-run it is only read, also while a program has it open.
    What providers keep of erased sessions is deleted by the next program that has these providers.

    Exit codes: 0 done, 1 the file is in use or an operation failed, 2 wrong usage or no such file.

    Args:
        db: The SQLite file, as in sessions.
        archive_after_days: Archive what had no commit for so long.
        delete_after_days: Delete (hide) what was archived so long ago.
        erase_after_days: Remove for good what was deleted so long ago.
        dry_run: Change nothing; tell how many it would be now.
        as_json: One JSON object: {"dry_run", "archived", "deleted", "erased"}.
    """
    ages = stored.Ages(
        archive_after_days=archive_after_days,
        delete_after_days=delete_after_days,
        erase_after_days=erase_after_days,
    )
    return stored.collect(stored.database(db), ages, dry_run=dry_run, as_json=as_json)
