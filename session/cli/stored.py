"""What is stored in a file: lists, sessions, backups and checks. All but `gc` only read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import attrs
from langswarm.core.session import Session, SessionManager, SessionMessage
from langswarm.core.session.cli.exits import FAILED, OK, CommandError, UsageError
from langswarm.core.session.cli.held import HeldFile, existing, keys_of, reading
from langswarm.core.session.cli.screen import Screen, safe_json, safe_line, safe_text
from langswarm.core.session.environment import PREFIX, settings_from_environment

T = TypeVar("T")

_VARIABLES = f"{PREFIX}STORAGE_CONFIG_"
_DEFAULT_PATH = "langswarm-session.db"
_NAME_CHARACTERS = 40


def storage_config() -> dict[str, Any]:
    """What the environment says about the storage: its path, and the keys that open it."""
    variables = {name: text for name, text in os.environ.items() if name.startswith(_VARIABLES)}
    config: dict[str, Any] = settings_from_environment(variables).get("storage_config", {})
    return config


def database(given: Path | None) -> Path:
    """The file that a command is about."""
    return given or Path(storage_config().get("db_path", _DEFAULT_PATH))


def read(path: Path, job: Callable[[HeldFile], T]) -> T:
    """What `job` reads from the file, with the keys of the environment."""
    return reading(path, job, keys_of(storage_config()))


def ask(path: Path, question: Callable[[SessionManager], Awaitable[T]]) -> T:
    """What a manager that only reads says to a question."""

    async def asked(held: HeldFile) -> T:
        async with SessionManager(held) as manager:
            return await question(manager)

    return read(path, lambda held: anyio.run(partial(asked, held)))


def say(value: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> int:
    """The value as JSON, or its lines as text."""
    screen = Screen(sys.stdout)
    if as_json:
        screen.write(f"{safe_json(value)}\n")
    else:
        screen.write("".join(f"{line}\n" for line in lines))
    return OK


# ---------------------------------------------------------------- lists


@attrs.frozen(kw_only=True)
class Filters:
    """Which sessions are asked for."""

    user_id: str | None
    status: str | None
    tags: tuple[str, ...]
    text: str | None
    provider: str | None
    model: str | None
    limit: int
    cursor: str | None


def list_sessions(path: Path, filters: Filters, *, as_json: bool) -> int:
    """The sessions that match, newest first."""

    async def question(manager: SessionManager) -> dict[str, Any]:
        wanted: dict[str, Any] = {**attrs.asdict(filters), "tags": filters.tags or None}
        rows: list[dict[str, Any]] = []
        while True:  # a list may be short and go on
            found = await manager.search_sessions(**wanted)
            rows += [await _row(session) for session in found]
            if found.next_cursor is None or len(rows) >= filters.limit:
                return {"sessions": rows, "next_cursor": found.next_cursor}
            wanted |= {"limit": filters.limit - len(rows), "cursor": found.next_cursor}

    answer = ask(path, question)
    return say(answer, _table(answer), as_json=as_json)


async def _row(session: Session) -> dict[str, Any]:
    config = {} if session.status == "deleted" else await session.get_config()
    return {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "status": session.status.value,
        "provider": session.provider,
        "model": session.model,
        "messages": session.message_count,
        "created_at": session.created_at.isoformat(),
        "last_activity": session.last_activity.isoformat(),
        "name": config.get("name"),
        "tags": config.get("tags", []),
    }


def _table(answer: Mapping[str, Any]) -> Iterable[str]:
    head = ("SESSION", "USER", "STATUS", "MODEL", "MESSAGES", "LAST ACTIVITY", "NAME")
    rows = [head, *map(_cells, answer["sessions"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
    if answer["next_cursor"] is not None:
        yield f"more with --cursor {answer['next_cursor']}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = row["name"] or ""
    return (
        safe_line(row["session_id"]),
        safe_line(row["user_id"]),
        row["status"],
        safe_line(f"{row['provider']}/{row['model']}"),
        str(row["messages"]),
        _second(row["last_activity"]),
        safe_line(name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}..."),
    )


def _second(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%SZ")


# ---------------------------------------------------------------- one session


def show(path: Path, session_id: str, *, messages: int, as_json: bool) -> int:
    """The facts of a session, its context, its figures and its last messages."""

    async def question(manager: SessionManager) -> dict[str, Any]:
        session = await manager.get_session(session_id)
        metrics = await session.get_metrics()
        return {
            **await _row(session),
            "config": await session.get_config(),
            "context": dict(await session.get_context()),
            "metrics": _plain(metrics),
            "history": [_message(each) for each in await session.get_messages(limit=messages)],
        }

    answer = ask(path, question)
    return say(answer, _told(answer), as_json=as_json)


def _plain(metrics: Any) -> dict[str, Any]:
    values = attrs.asdict(metrics)
    values["session_duration"] = metrics.session_duration.total_seconds()
    return values


def _message(message: SessionMessage) -> dict[str, Any]:
    return {
        "seq": message.seq,
        "role": message.role.value,
        "content": message.content,
        "timestamp": message.timestamp.isoformat(),
        "message_id": message.message_id,
        "turn_id": message.turn_id,
        "finish_reason": message.finish_reason,
        "metadata": message.metadata,
    }


def _told(answer: Mapping[str, Any]) -> Iterable[str]:
    yield f"session   {safe_line(answer['session_id'])}"
    yield f"user      {safe_line(answer['user_id'])}"
    yield f"status    {answer['status']}"
    yield f"model     {safe_line(answer['provider'] + '/' + answer['model'])}"
    yield f"created   {_second(answer['created_at'])}"
    yield f"active    {_second(answer['last_activity'])}"
    yield f"messages  {answer['messages']}"
    for name in ("config", "context"):
        if answer[name]:
            yield f"{name:9} {safe_json(answer[name], indent=None)}"
    figures = answer["metrics"]
    yield (
        f"turns     {figures['completed_turns']} completed, {figures['failed_turns']} failed, "
        f"{figures['interrupted_turns']} interrupted"
    )
    yield f"tokens    {figures['input_tokens']} in, {figures['output_tokens']} out"
    for message in answer["history"]:
        yield ""
        ended = message["finish_reason"]
        end = f" ({safe_line(ended)})" if ended not in {None, "stop"} else ""
        yield f"{message['seq']} {message['role']} {_second(message['timestamp'])}{end}"
        for line in safe_text(message["content"]).split("\n"):
            yield f"    {line}"


Format = Literal["json", "jsonl", "markdown", "openai", "anthropic"]


def export(path: Path, session_id: str, *, form: Format, output: Path | None) -> int:
    """A conversation as data, to standard output or into a new file."""

    async def question(manager: SessionManager) -> Any:
        session = await manager.get_session(session_id)
        return await session.export_conversation("dict" if form == "json" else form)

    answer = ask(path, question)
    text = safe_text(answer) if form == "markdown" else _as_json(answer)
    if output is None:
        Screen(sys.stdout).write(text)
    else:
        _write(output, text)
    return OK


def _as_json(answer: Any) -> str:
    """A value, or the lines of JSON that it is already; in ASCII."""
    if not isinstance(answer, str):
        return f"{safe_json(answer)}\n"
    lines = [line for line in answer.split("\n") if line]
    return "".join(f"{safe_json(json.loads(line), indent=None)}\n" for line in lines)


def _write(output: Path, text: str) -> None:
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{output} exists: nothing is overwritten, choose another name") from None
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror}") from None


# ---------------------------------------------------------------- the whole file


def backup(path: Path, target: Path, *, as_json: bool) -> int:
    """All that is committed, in a new file."""
    size = read(path, lambda held: held.copy(target))
    text = f"{safe_line(str(target))}: {size} bytes"
    return say({"path": str(target), "size_bytes": size}, [text], as_json=as_json)


def verify(path: Path, *, as_json: bool) -> int:
    """Whether everything can be read and makes sense."""
    found = read(path, HeldFile.verification)
    lines = [safe_line(problem) for problem in found.problems] or ["no problems"]
    say({"ok": found.ok, "problems": list(found.problems)}, lines, as_json=as_json)
    return OK if found.ok else FAILED


# ---------------------------------------------------------------- retention


@attrs.frozen(kw_only=True)
class Ages:
    """Which clean-ups to run, and from how many days on; None: not this one."""

    archive_after_days: float | None
    delete_after_days: float | None
    erase_after_days: float | None


_AGES = Ages(archive_after_days=30, delete_after_days=90, erase_after_days=365)


def collect(path: Path, ages: Ages, *, dry_run: bool, as_json: bool) -> int:
    """Archive, delete and erase by age; with `dry_run` the file is only read."""
    ages = _AGES if ages == Ages(**dict.fromkeys(attrs.asdict(ages))) else ages

    async def question(manager: SessionManager) -> dict[str, Any]:
        done: dict[str, Any] = {"dry_run": dry_run}
        for name, days, clean_up in (
            ("archived", ages.archive_after_days, manager.cleanup_inactive_sessions),
            ("deleted", ages.delete_after_days, manager.cleanup_archived_sessions),
            ("erased", ages.erase_after_days, manager.cleanup_deleted_sessions),
        ):
            if days is not None:
                done[name] = await clean_up(days, dry_run=dry_run)
        return done

    async def changed() -> dict[str, Any]:
        config = {**storage_config(), "db_path": existing(path)}
        async with SessionManager("sqlite", storage_config=config) as manager:
            return await question(manager)

    answer = ask(path, question) if dry_run else anyio.run(changed)
    verb = "would be" if dry_run else "were"
    lines = [f"{count} {verb} {name}" for name, count in answer.items() if name != "dry_run"]
    return say(answer, lines, as_json=as_json)
