"""Old files, made as their programs made them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

V1 = """CREATE TABLE sessions (session_id TEXT PRIMARY KEY, user_id TEXT NOT NULL,
provider TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, session_control TEXT NOT NULL,
created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_activity TEXT, metadata TEXT NOT NULL,
history TEXT NOT NULL)"""
LANGSWARM_0_1 = """
CREATE TABLE sessions (session_id TEXT PRIMARY KEY, user_id TEXT, provider TEXT, model TEXT,
 backend TEXT, context_data TEXT, created_at TEXT, updated_at TEXT);
CREATE TABLE session_messages (id INTEGER PRIMARY KEY, session_id TEXT, message_id TEXT, role TEXT,
 content TEXT, timestamp TEXT, metadata TEXT, provider_message_id TEXT, token_count INTEGER,
 finish_reason TEXT);
CREATE TABLE session_metrics (session_id TEXT, message_count INTEGER, total_tokens INTEGER,
 session_duration REAL, last_activity TEXT, created_at TEXT);
"""
AGENTS = """
CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY,
 created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
 message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
"""


def message(content: str = "hello", **fields: Any) -> dict[str, Any]:
    base = {"id": "m", "role": "user", "content": content, "timestamp": "2025-01-01T00:00:00"}
    return {**base, **fields}


def session(*messages: object, **facts: Any) -> dict[str, Any]:
    """A V1 session as its two documents."""
    base = {
        "session_id": "s",
        "user_id": "alice",
        "provider": "openai",
        "model": "gpt-4o",
        "status": "active",
        "session_control": "native",
        "created_at": "2025-01-01T00:00:00",
        "updated_at": "2025-01-01T00:00:00",
        "last_activity": None,
    }
    metadata = {**base, **facts}
    return {
        "metadata": metadata,
        "history": {"session_id": metadata["session_id"], "messages": list(messages)},
    }


def row_of(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Its row; `changes` replace columns."""
    names = "session_id user_id provider model status session_control created_at updated_at"
    columns = {name: document["metadata"][name] for name in names.split()}
    texts = {name: json.dumps(document[name]) for name in ("metadata", "history")}
    return {**columns, **texts, **changes}


def write_v1(path: Path, rows: Iterable[dict[str, Any]], encoding: str = "UTF-8") -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(V1)
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO sessions ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
            )
    return path


def write_script(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(script)
    return path
