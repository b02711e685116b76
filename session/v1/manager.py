"""V1's file, behind the calls that a gradual migration makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.adapters.importers import (
    ImportedMessage,
    ImportedSession,
    Skipped,
    SourceFormat,
    open_source,
)
from langswarm.core.session.errors import SessionNotFoundError, StorageError

if TYPE_CHECKING:
    import os
    from datetime import tzinfo

    from langswarm.core.session.adapters.importers import Source

DEFAULT_PATH = "langswarm_sessions.db"
"""Where V1 kept its sessions, in the working directory."""

V1Message = ImportedMessage
"""`role`, `content`, `timestamp` (UTC), and what else the file says."""


class V1Session:
    """One session of V1, as it was when it was read. Nothing can be written to it."""

    def __init__(self, imported: ImportedSession) -> None:
        self.imported = imported
        """All of it, with the notes on what was changed."""
        self.session_id = imported.id
        self.user_id = imported.user_id or ""
        self.provider = imported.provider or ""
        """By its name here: V1's `gpt` is `openai`, `claude` is `anthropic`."""
        self.model = imported.model or ""
        self.status = imported.status

    def get_messages(self) -> list[V1Message]:
        """All messages, in the order of the conversation."""
        return list(self.imported.messages)

    def __repr__(self) -> str:
        return f"<V1Session {self.session_id!r}: {len(self.imported.messages)} messages>"


class V1SessionManager:
    """Reads V1's sessions; the file is opened by each call and never written to.

    `source_timezone`: of the machine that wrote the file, whose times are naive local ones; None
    is this machine's. All calls are plain blocking code: from an event loop, call them in a thread.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] = DEFAULT_PATH,
        *,
        source_timezone: str | tzinfo | None = None,
    ) -> None:
        self._path = db_path
        self._zone = source_timezone

    def get_session(self, session_id: str) -> V1Session:
        """The session of that id.

        Raises SessionNotFoundError; StorageError of code `corrupt` if the session is there and
        cannot be read; ConfigurationError and StorageError as `open_source` does.
        """
        with self._open() as source:
            found = source.find(session_id)
        if found is None:
            raise SessionNotFoundError(session_id)
        if isinstance(found, Skipped):
            raise StorageError(
                f"V1's session {session_id!r} cannot be read: {found.reason}; the others can",
                code="corrupt",
            )
        return V1Session(found)

    def list_sessions(self, user_id: str | None = None) -> list[str]:
        """The ids of all sessions that can be read, of one user or of all; by id."""
        with self._open() as source:
            return [
                found.id
                for found in source.sessions()
                if isinstance(found, ImportedSession) and user_id in {None, found.user_id}
            ]

    def _open(self) -> Source:
        return open_source(self._path, format=SourceFormat.V1, source_timezone=self._zone)
