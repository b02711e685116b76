"""Looks into an open SQLiteSessionStorage."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage

T = TypeVar("T")


async def on_writer(
    storage: SQLiteSessionStorage, function: Callable[[sqlite3.Connection], T]
) -> T:
    """Run a function on the connection that writes."""
    assert storage._hosted is not None
    thread, database = storage._hosted
    return await thread.call(database._writer_connection.run, function)


async def on_reader(
    storage: SQLiteSessionStorage, function: Callable[[sqlite3.Connection], T]
) -> T:
    """Run a function on a connection that reads."""
    assert storage._hosted is not None
    thread, database = storage._hosted
    return await thread.call(database._readers[0].run, function)


async def pragma(storage: SQLiteSessionStorage, name: str, *, where: object = on_writer) -> object:
    """A setting as SQLite reports it."""

    def ask(connection: sqlite3.Connection) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    return await (on_reader if where is on_reader else on_writer)(storage, ask)
