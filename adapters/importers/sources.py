"""Old files are recognised and opened here."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

import anyio.to_thread

from ...actors.errors import ConfigurationError, StorageError
from .database import MAGIC, OURS, ForeignDatabase, start_of
from .documents import open_document
from .langswarm_0_1 import COLUMNS as COLUMNS_0_1
from .langswarm_0_1 import MESSAGE_COLUMNS as MESSAGE_COLUMNS_0_1
from .langswarm_0_1 import LangSwarm01Reader
from .openai_agents import COLUMNS as COLUMNS_AGENTS
from .openai_agents import MESSAGE_COLUMNS as MESSAGE_COLUMNS_AGENTS
from .openai_agents import OpenAIAgentsReader
from .times import zone_of
from .v1 import COLUMNS as COLUMNS_V1
from .v1 import V1Reader
from .values import SourceFormat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from datetime import tzinfo
    from types import TracebackType
    from typing import Self

    from .values import ImportedSession, Skipped

_DATABASES = (SourceFormat.V1, SourceFormat.LANGSWARM_0_1, SourceFormat.OPENAI_AGENTS)


class _Reader(Protocol):
    def sessions(self) -> Iterator[ImportedSession | Skipped]: ...

    def find(self, session_id: str) -> ImportedSession | Skipped | None: ...

    def close(self) -> None: ...


class Source:
    """An old file that is open for reading. Use it as a context manager, or call `close`.

    All of it is plain blocking code, for one thread at a time; `stream` is for async callers.
    """

    def __init__(self, path: str, found: SourceFormat, reader: _Reader) -> None:
        self.path = path
        self.format = found
        self._reader = reader

    def sessions(self) -> Iterator[ImportedSession | Skipped]:
        """Everything in the file, one session at a time: no more than one is held in memory.

        A session that cannot be read gives a `Skipped`, and the others follow. Sessions are
        ordered by their ids in a database, and as they are in a JSON file. Raises StorageError:
        code `corrupt` where damage hides which sessions there are, `busy` (retryable) for another
        program's lock and for a file that was changed in a way that makes reading unsafe.
        """
        return self._reader.sessions()

    async def stream(self) -> AsyncGenerator[ImportedSession | Skipped]:
        """As `sessions`, each step in a worker thread, so that the event loop is free."""
        steps = self.sessions()
        while (found := await anyio.to_thread.run_sync(next, steps, None)) is not None:
            yield found

    def find(self, session_id: str) -> ImportedSession | Skipped | None:
        """One session by its id; None: there is none. Raises StorageError as `sessions` does."""
        return self._reader.find(session_id)

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_source(
    path: str | os.PathLike[str],
    *,
    format: SourceFormat | str | None = None,  # noqa: A002 - as open() and json have it
    source_timezone: str | tzinfo | None = None,
) -> Source:
    """Open an old file, read-only: nothing is written to it or beside it.

    `format`: None finds it out (see `SourceFormat`). `source_timezone`: of the machine that wrote
    naive local times (V1, and JSON without offsets), as a name or tzinfo; None is this machine's.

    Raises ConfigurationError: no such file, no permission, an unknown format or time zone, a file
    that is of two formats. Raises StorageError: code `foreign` for a file of another kind,
    `corrupt` for a damaged one, `busy` for a locked one.
    """
    name = os.fspath(path)
    wanted = _format(format)
    zone = zone_of(source_timezone)
    start = start_of(name)
    if not start:
        raise StorageError(
            f"{name} is empty, so there is nothing to import; check the path", code="foreign"
        )
    if start.startswith(MAGIC):
        return _open_database(name, start, wanted, zone)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"[", b"{") or wanted in _DATABASES:
        raise StorageError(
            f"{name} is no {'SQLite database' if wanted in _DATABASES else 'file of a known kind'}"
            "; nothing was written to it: import an SQLite file of LangSwarm or openai-agents, "
            "JSON, or JSON lines",
            code="foreign",
        )
    document = open_document(name, wanted, zone)
    return Source(name, document.format, document)


def _format(value: str | None) -> SourceFormat | None:
    if value is None:
        return None
    try:
        return SourceFormat(value)
    except ValueError:
        names = [known.value for known in SourceFormat]
        near = get_close_matches(str(value), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}"
        raise ConfigurationError(f"format={value!r} is not known; {hint}") from None


def _open_database(
    path: str, start: bytes, wanted: SourceFormat | None, zone: tzinfo | None
) -> Source:
    database = ForeignDatabase(path, start)
    try:
        found = _chosen(path, _formats_in(path, database), wanted)
        return Source(path, found, _reader(found, database, zone))
    except BaseException:
        database.close()
        raise


def _reader(found: SourceFormat, database: ForeignDatabase, zone: tzinfo | None) -> _Reader:
    if found is SourceFormat.V1:
        return V1Reader(database, zone)
    if found is SourceFormat.LANGSWARM_0_1:
        return LangSwarm01Reader(database)
    return OpenAIAgentsReader(database)


def _formats_in(path: str, database: ForeignDatabase) -> list[SourceFormat]:
    if database.application_id() == OURS:
        raise StorageError(
            f"{path} is a database of this runtime already: there is nothing to import; open it "
            "with db_path",
            code="foreign",
        )
    sessions = database.columns("sessions")
    messages = database.columns("session_messages")
    agents = database.columns("agent_sessions")
    items = database.columns("agent_messages")
    found = {
        SourceFormat.V1: sessions >= COLUMNS_V1,
        SourceFormat.LANGSWARM_0_1: sessions >= COLUMNS_0_1 and messages >= MESSAGE_COLUMNS_0_1,
        SourceFormat.OPENAI_AGENTS: agents >= COLUMNS_AGENTS and items >= MESSAGE_COLUMNS_AGENTS,
    }
    return [name for name, there in found.items() if there]


def _chosen(path: str, found: list[SourceFormat], wanted: SourceFormat | None) -> SourceFormat:
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found[0]
    if wanted is None and found:
        raise ConfigurationError(
            f"{path} has tables of several formats; say which one to read, with "
            + " or ".join(f'format="{name}"' for name in found)
        )
    looks = f"of the format {found[0]}" if found else "a database of another program"
    asked = f", not of {wanted}" if wanted is not None else ""
    raise StorageError(
        f"{path} is {looks}{asked}; nothing was written to it: import a file of LangSwarm V1 or "
        "0.1.0, or of SQLiteSession of openai-agents with the default names of its tables",
        code="foreign",
    )
