"""Old files, and exported conversations, into a file of sessions."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import anyio
import attrs
from langswarm.core.session import SessionExistsError, SessionManager
from langswarm.core.session.cli.exits import FAILED, OK, CommandError, UsageError
from langswarm.core.session.cli.screen import Screen, safe_json, safe_line
from langswarm.core.session.cli.stored import storage_config
from langswarm.core.session.migration import (
    ImportReport,
    SessionReport,
    Source,
    SourceFormat,
    import_sessions,
    open_source,
)
from langswarm.core.session.runtime.imports import document_of

Kind = Literal["v1", "langswarm", "openai-agents", "messages", "conversation"]

_SQLITE = b"SQLite format 3\0"
_MAX_CONVERSATION_BYTES = 256 * 2**20
_FORMATS = {
    "langswarm": SourceFormat.LANGSWARM_0_1,
    "openai-agents": SourceFormat.OPENAI_AGENTS,
    "messages": SourceFormat.MESSAGES,
}


@attrs.frozen(kw_only=True)
class Options:
    """What is imported, and into what."""

    kind: Kind
    file: Path
    into: Path
    source_timezone: str | None
    user_id: str | None
    provider: str
    model: str
    report: Path | None
    as_json: bool


def import_file(options: Options) -> int:
    """Import and tell what became of each session."""
    with ExitStack() as stack:
        _check_regular(options.file)
        target = None if options.report is None else stack.enter_context(_new(options.report))
        if options.kind == "conversation":
            report = anyio.run(_conversation, options)
        else:
            source = stack.enter_context(_source(options))
            report = anyio.run(partial(_sessions, options, source))
        text = safe_json(report.as_dict())
        if target is not None:
            target.write(f"{text}\n")
    lines = [text] if options.as_json else _lines(report)
    Screen(sys.stdout).write("".join(f"{line}\n" for line in lines))
    return OK if report.ok else FAILED


@contextmanager
def _new(path: Path) -> Generator[TextIO]:
    """Made before anything is imported, so that it does not fail afterwards; gone if that fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"--report {path} is there already; name a new file") from None
    except OSError as error:
        raise UsageError(f"--report {path} cannot be made: {error}") from None
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - by its descriptor
        try:
            yield file
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _check_regular(path: Path) -> None:
    """A pipe or a device might be read for ever."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not is_regular:
        raise UsageError(f"{path} is no file; a pipe or a folder cannot be imported")


def _source(options: Options) -> Source:
    wanted = _FORMATS.get(options.kind)
    if wanted is None:
        wanted = SourceFormat.V1 if _is_database(options.file) else SourceFormat.V1_JSON
    return open_source(options.file, format=wanted, source_timezone=options.source_timezone)


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _manager(options: Options) -> SessionManager:
    """With the keys that the environment has."""
    config = {**storage_config(), "db_path": options.into}
    return SessionManager("sqlite", storage_config=config)


async def _sessions(options: Options, source: Source) -> ImportReport:
    async with _manager(options) as manager:
        return await import_sessions(
            manager,
            source,
            user_id=options.user_id,
            provider=options.provider,
            model=options.model,
        )


async def _conversation(options: Options) -> ImportReport:
    """It keeps its id, so that a second run finds it there."""
    document = await document_of(await anyio.to_thread.run_sync(_content, options.file))
    facts: object = document.get("session")
    named: object = None
    if isinstance(facts, Mapping):
        named = cast("Mapping[str, object]", facts).get("session_id")
    name = named if isinstance(named, str) else None
    async with _manager(options) as manager:
        try:
            session = await manager.import_conversation(
                document, user_id=options.user_id, session_id=name
            )
        except SessionExistsError:
            told = SessionReport(
                source_id=name or "",
                outcome="present",
                session_id=name,
                reason="a session of this id is there, and was not changed",
            )
        else:
            told = SessionReport(
                source_id=name or session.session_id,
                outcome="imported",
                session_id=session.session_id,
                messages=len(document["messages"]),
            )
    return ImportReport(path=str(options.file), format="conversation", sessions=(told,))


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_CONVERSATION_BYTES:
            raise CommandError(f"{path} has more than {_MAX_CONVERSATION_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _lines(report: ImportReport) -> Iterable[str]:
    for each in report.sessions:
        name = safe_line(each.source_id)
        if each.reason is not None:
            yield f"{name}: {each.outcome}: {safe_line(each.reason)}"
        for note in each.notes if each.outcome == "imported" else ():
            yield f"{name}: {safe_line(note)}"
    counts: dict[str, Any] = report.as_dict()
    told = ", ".join(
        f"{counts[outcome]} {outcome}" for outcome in ("imported", "extended", "present", "skipped")
    )
    yield f"sessions: {told}; messages: {report.messages}"
