"""Sessions in an SQLite file. The driver is imported when a storage is opened, not before."""

from __future__ import annotations

from .storage import DEFAULT_PATH, SQLiteSessionStorage, SQLiteStatistics

__all__ = ["DEFAULT_PATH", "SQLiteSessionStorage", "SQLiteStatistics"]
