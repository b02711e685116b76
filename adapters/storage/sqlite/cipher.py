"""Connections to a file that SQLCipher encrypts as a whole.

SQLCipher is an SQLite of its own, behind a driver of its own, `sqlcipher3`, whose errors are not
those of sqlite3. The connections that are made here raise sqlite3's, so that nothing else needs to
know; each is told the key before anything else.

It tells no extended error codes, so a sync that the disk has refused cannot be told from another
error of input or output. Where a statement syncs, any of them is taken for it: writing then ends
once too often rather than once too seldom.
"""

from __future__ import annotations

import importlib
import sqlite3
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar, cast, final

from ....actors.errors import ConfigurationError, hides_arguments
from ..encryption import read_key
from .connection import DoubtsItself, JobConnection

if TYPE_CHECKING:
    from collections.abc import Callable

_SYNCS: Final = ("COMMIT", "PRAGMA WAL_CHECKPOINT", "PRAGMA JOURNAL_MODE", "VACUUM")
"""How statements begin that sync."""

P = ParamSpec("P")
R = TypeVar("R")

MODULE: Final = "sqlcipher3.dbapi2"
_CALLS: Final = (
    "close",
    "commit",
    "rollback",
    "interrupt",
    "backup",
)
_CURSOR_CALLS: Final = (
    "executemany",
    "executescript",
    "fetchone",
    "fetchmany",
    "fetchall",
    "__next__",
)


@final
class Cipher:
    """A key of a whole file; nothing shows it.

    Raises ConfigurationError for what is no key, and where `sqlcipher3` is not installed.
    """

    __slots__ = ("__key", "_connection", "sqlite_version")

    @hides_arguments
    def __init__(self, key: object) -> None:
        self.__key = read_key(key, "sqlcipher_key")
        self._connection = _connection_class()
        self.sqlite_version: str = _module().sqlite_version
        """Of the SQLite in SQLCipher."""

    def connect(self, *args: Any, **kwargs: Any) -> JobConnection:
        """As `JobConnection`, with the key told; a wrong one shows when something is read."""
        connection = self._connection(*args, **kwargs)
        try:
            self._unlock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @hides_arguments
    def _unlock(self, connection: JobConnection) -> None:
        connection.execute("PRAGMA cipher_log_level = NONE")  # it would print beside raising
        connection.execute(f"PRAGMA key = \"x'{self.__key.hex()}'\"")

    def __repr__(self) -> str:
        return "Cipher([secret])"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a key is not pickled: read it again where it is needed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a key has no state to show")


def _module() -> Any:
    try:
        return importlib.import_module(MODULE)
    except ImportError:
        raise ConfigurationError(
            "sqlcipher_key needs the package sqlcipher3: pip install 'langswarm-session[sqlcipher]'"
        ) from None


@cache
def _connection_class() -> type[JobConnection]:
    """SQLCipher's connection, as sqlite3's."""
    module = _module()
    calls = {name: _speaking(module, getattr(module.Cursor, name)) for name in _CURSOR_CALLS}
    cursor = type("CipherCursor", (module.Cursor,), {**calls, "execute": _executing(module)})

    class CipherConnection(DoubtsItself, module.Connection):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            _speaking(module, super().__init__)(*args, **kwargs)

        def cursor(self) -> Any:
            return module.Connection.cursor(self, cursor)

        def execute(self, *args: Any) -> Any:
            return self.cursor().execute(*args)

        def executemany(self, *args: Any) -> Any:
            return self.cursor().executemany(*args)

        def executescript(self, *args: Any) -> Any:
            return self.cursor().executescript(*args)

    for name in _CALLS:
        setattr(CipherConnection, name, _speaking(module, getattr(module.Connection, name)))
    return cast("type[JobConnection]", CipherConnection)


def _speaking(module: Any, call: Callable[P, R]) -> Callable[P, R]:
    """The same, raising sqlite3's errors."""

    @wraps(call)
    def speaking(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except module.Error as error:
            raise _as_sqlite3(error) from None

    return speaking


def _executing(module: Any) -> Callable[..., Any]:
    def execute(cursor: Any, text: str, *args: Any) -> Any:
        try:
            return module.Cursor.execute(cursor, text, *args)
        except module.Error as error:
            same = _as_sqlite3(error)
            syncs = text.lstrip().upper().startswith(_SYNCS)
            if syncs and same.sqlite_errorcode == sqlite3.SQLITE_IOERR:
                same.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise same from None

    return execute


def _as_sqlite3(error: Exception) -> sqlite3.Error:
    kind: type[sqlite3.Error] = getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)
    other = kind(*error.args)
    other.sqlite_errorcode = getattr(error, "sqlite_errorcode", 0)
    other.sqlite_errorname = getattr(error, "sqlite_errorname", "")
    return other
