"""What is at a path: nothing yet, one of our databases, or something that is not to be touched."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ....actors.errors import StorageError
from . import copying, journal
from .mapping import storage_error
from .place import uri_of
from .schema import APPLICATION_ID, CREATE, USER_VERSION, climb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .cipher import Cipher

SMALLEST_DATABASE = 512
"""Bytes: one page of the smallest size."""

_IMPORT = (
    "choose another db_path, and import it there with: langswarm-session import {} FILE --into DB"
)


_PLAIN_HEADER = b"SQLite format 3\0"


def prepare(path: str, cipher: Cipher | None = None) -> None:
    """Refuse what is not ours, without a change; create or bring up to date what is.

    Needs the lock. Afterwards the file has our tables, in rollback mode or in WAL. A kill at any
    moment leaves the version before or the version after a step, each complete; before the first
    step the file is copied to one beside it, so that the older program can be gone back to.
    """
    _check_wal(path)
    if not os.path.exists(path):  # noqa: PTH110 - a str all along
        # SQLite would create it readable for everybody; its -wal and -shm take the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    elif journal.is_hot(path):
        _check_journal(path, cipher)
    elif look(path, cipher) == USER_VERSION:
        return
    with _connected(uri_of(path, "mode=rw"), cipher) as connection:
        # The deletion of the journal is the commit: without EXTRA a power cut could bring it back.
        connection.execute("PRAGMA synchronous = EXTRA")
        version = _version_of(connection, path, cipher)  # once a -journal is rolled back
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # a new file only can have it
            _run_whole(connection, CREATE)
        elif version < USER_VERSION:
            copying.copy(connection, f"{path}.v{version}.bak", connect=_connect_of(cipher))
        for step in range(version, USER_VERSION) if version else ():
            _run_whole(connection, climb(step))


def look(path: str, cipher: Cipher | None = None) -> int:
    """Its version; 0: empty. Raises StorageError of code `foreign`, `key` or `corrupt`.

    Reads only. `immutable` keeps SQLite from creating -wal and -shm beside a file of another
    program; where that program left a -wal, its content counts, so it is read in plain mode.
    """
    if 0 < os.path.getsize(path) < SMALLEST_DATABASE:  # noqa: PTH202 - SQLite takes it for empty
        raise _no_database(path)
    options = ("mode=ro",) if _size(f"{path}-wal") else ("mode=ro", "immutable=1")
    with _connected(uri_of(path, *options), cipher) as connection:
        return _version_of(connection, path, cipher)


def _check_journal(path: str, cipher: Cipher | None) -> None:
    """Raise if to roll it back is not ours; of what SQLCipher wrote, that is for the key to say."""
    if cipher is not None:
        _check_encrypted(path)
    elif not journal.is_of_ours(path):
        raise _foreign(path, "is a database of another program", "choose another db_path")


def _check_encrypted(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123 - a str all along
        if file.read(len(_PLAIN_HEADER)) == _PLAIN_HEADER:
            raise _foreign(path, "is not encrypted as a whole", "open it without sqlcipher_key")


def _check_wal(path: str) -> None:
    """SQLite deletes a -wal whose database is empty; it may be all there is of what was moved."""
    if _size(f"{path}-wal") and not _size(path):
        raise StorageError(
            f"{path}-wal has a part of a database that is not at {path}: nothing was touched; put "
            "the file back in its place, or delete the -wal if the file is lost",
            code="io",
        )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a str all along
    except FileNotFoundError:
        return 0


def _run_whole(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement)
    connection.execute("COMMIT")


def _version_of(connection: sqlite3.Connection, path: str, cipher: Cipher | None) -> int:
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables: set[str] = {name for (name,) in names}
        columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(sessions)")}
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            if cipher is not None:
                _check_encrypted(path)
                raise _wrong_key(path) from error
            raise _no_database(path) from error
        raise storage_error(error) from error
    if application_id == APPLICATION_ID:
        return _known(version, path)
    if not tables and not application_id and not version:
        return 0
    if "session_messages" in tables:
        raise _foreign(path, "was written by LangSwarm 0.1.0", _IMPORT.format("langswarm"))
    if "history" in columns:
        raise _foreign(path, "was written by LangSwarm V1", _IMPORT.format("v1"))
    raise _foreign(path, "is a database of another program", "choose another db_path")


def _known(version: int, path: str) -> int:
    if not 1 <= version <= USER_VERSION:
        raise _foreign(
            path,
            f"has the format {version}, this version of langswarm-session knows up to "
            f"{USER_VERSION}",
            "use the version that wrote it, or a newer one",
        )
    return version


def _no_database(path: str) -> StorageError:
    return _foreign(
        path,
        "is not an SQLite database, or is encrypted as a whole",
        "choose another db_path, or give its sqlcipher_key",
    )


def _wrong_key(path: str) -> StorageError:
    return StorageError(
        f"{path} does not open with this sqlcipher_key, or is no database; it was not touched: "
        "give the key that it was made with",
        code="key",
    )


def _foreign(path: str, what: str, advice: str) -> StorageError:
    return StorageError(f"{path} {what}; it was not touched: {advice}", code="foreign")


@contextlib.contextmanager
def _connected(uri: str, cipher: Cipher | None) -> Generator[sqlite3.Connection]:
    try:
        connection = _connect_of(cipher)(uri, uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise storage_error(error) from error
    try:
        yield connection
    except sqlite3.Error as error:
        raise storage_error(error) from error
    finally:
        connection.close()


def _connect_of(cipher: Cipher | None) -> Callable[..., sqlite3.Connection]:
    return sqlite3.connect if cipher is None else cipher.connect
