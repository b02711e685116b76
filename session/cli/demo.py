"""The demo: conversations through the whole runtime, over a change of processes, then verified."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
from langswarm.core.session.cli.conversations import find_input, read_conversations, users_of
from langswarm.core.session.cli.display import Display
from langswarm.core.session.cli.exits import FAILED, OK, CommandError, UsageError
from langswarm.core.session.cli.work import Job, Part, Replayed, Verified

HIDDEN_COMMAND = "_part"
_SHOWN = 10
_FILE = "demo.db"


@attrs.frozen(kw_only=True)
class Options:
    """What the command line says."""

    input_file: Path | None
    users: int
    max_live: int
    idle_ms: float
    backend: str
    database: Path | None
    keep: bool


def demo(options: Options, display: Display | None = None) -> int:
    """Run it and return the exit code. Raises CommandError."""
    display = display or Display()
    input_file = find_input(options.input_file).resolve()
    conversations = read_conversations(input_file)
    users = users_of(conversations, options.users)
    first_turns = sum(user.conversation.half for user in users)
    turns = sum(len(user.conversation.turns) for user in users)
    with _database(options) as database:
        halves: list[Replayed] = []
        for part, name, total in (
            (Part.FIRST, "first half", first_turns),
            (Part.SECOND, "second half, in a new process", turns - first_turns),
        ):
            result = _run(_job(options, part, input_file, database), display, name, total, "turns")
            halves.append(replayed := Replayed(**result))
            if replayed.failures:
                _list(display, replayed.failures)
                raise CommandError(f"{name}: {len(replayed.failures)} sessions failed")
        job = _job(options, Part.VERIFY, input_file, database)
        result = _run(job, display, "verification, in a third one", len(users), "sessions")
        verified = Verified(**result)
        display.table(table_of(options, len(conversations), halves))
        return _verdict(verified, display)


def _job(options: Options, part: Part, input_file: Path, database: Path) -> Job:
    return Job(
        part=part,
        input_file=input_file,
        users=options.users,
        max_live=options.max_live,
        idle_ms=options.idle_ms,
        backend=options.backend,
        database=database,
    )


# ---------------------------------------------------------------- the database


@contextmanager
def _database(options: Options) -> Generator[Path]:
    if options.database is not None:
        path = options.database.absolute()
        if path.exists():
            raise UsageError(f"{options.database} exists: the demo wants a new file for --db")
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {options.database.parent} for --db")
        yield path
        return
    folder = Path(tempfile.mkdtemp(prefix="langswarm-session-demo-"))
    try:
        yield folder / _FILE
    finally:
        if options.keep:
            print(f"the database is kept: {folder / _FILE}", file=sys.stderr)
        else:
            shutil.rmtree(folder)


# ---------------------------------------------------------------- the processes


def _run(job: Job, display: Display, name: str, total: int, unit: str) -> dict[str, Any]:
    """One part in a process of its own; returns its result."""
    with display.part(name, total, unit) as gauge, closing(in_new_process(job)) as messages:
        for message in messages:
            if "done" in message:
                gauge(message["done"])
            elif "error" in message:
                raise CommandError(f"{name}: {message['error']}")
            else:
                gauge(total)
                result: dict[str, Any] = message["result"]
                return result
    raise CommandError(f"{name}: its process ended before it was done")


def in_new_process(job: Job) -> Generator[dict[str, Any]]:
    """What the hidden command of a fresh interpreter says, message by message.

    The process has a group of its own: an interruption is for this one, which ends the other.
    """
    process = subprocess.Popen(  # noqa: S603 - this very command
        [sys.executable, "-P", "-m", "langswarm.core.session.cli", *arguments_of(job)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        process_group=0,
    )
    with process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:
            process.terminate()
            raise


def arguments_of(job: Job) -> list[str]:
    """The command line of the hidden command."""
    arguments = [HIDDEN_COMMAND]
    for name, value in attrs.asdict(job).items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


# ---------------------------------------------------------------- results


def table_of(
    options: Options, conversations: int, halves: Sequence[Replayed]
) -> list[tuple[str, str]]:
    """The figures of both halves; starting processes and loading modules is not in them."""
    times = sorted(time for half in halves for time in half.turn_ms)
    seconds = sum(half.seconds for half in halves)
    commits = sum(half.commits for half in halves)
    writes = sum(half.writes for half in halves)
    return [
        ("backend", options.backend),
        ("conversations", f"{conversations:,}"),
        ("users, each with a session", f"{options.users:,}"),
        ("turns", f"{len(times):,}"),
        ("durable turns per second", f"{len(times) / seconds:,.0f}"),
        ("ms per turn, waiting for a place included, p50", f"{_quantile(times, 0.5):.1f}"),
        ("the same, p99", f"{_quantile(times, 0.99):.1f}"),
        ("sessions live at most", f"{max(half.most_live for half in halves):,}"),
        ("evictions", f"{sum(half.evicted for half in halves):,}"),
        ("rehydrations", f"{sum(half.rehydrated for half in halves):,}"),
        ("commits", f"{commits:,}"),
        ("writes per commit", f"{writes / commits:.1f}"),
        ("processes used", f"{len(Part)}"),
    ]


def _quantile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def _verdict(verified: Verified, display: Display) -> int:
    display.say(
        f"verified, byte for byte: {verified.sessions:,} sessions with "
        f"{verified.messages:,} messages"
    )
    if not verified.differences:
        return OK
    display.say(f"DIFFERENT: {len(verified.differences):,} sessions")
    _list(display, verified.differences)
    return FAILED


def _list(display: Display, lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        display.say(f"  {line}")
    if len(lines) > _SHOWN:
        display.say(f"  and {len(lines) - _SHOWN:,} more")
