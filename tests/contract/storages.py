"""The storages of this project: each keeps the contract."""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from langswarm.core.session import (
    InMemorySessionStorage,
    ISessionStorage,
    SQLiteSessionStorage,
)
from langswarm.core.session.testing.faulty_storage import FaultyStorage

EXAMPLE = Path(__file__).parents[2] / "examples" / "jsonl_storage.py"


def _example_class() -> Callable[[Path], ISessionStorage]:
    """Examples are scripts in no package."""
    spec = importlib.util.spec_from_file_location("jsonl_storage", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: Callable[[Path], ISessionStorage] = module.JsonLinesStorage
    return found


json_lines = _example_class()


def memory(_: Path) -> ISessionStorage:
    return InMemorySessionStorage()


def sqlite(path: Path) -> ISessionStorage:
    return SQLiteSessionStorage(path, pool_size=2)


def sqlite_without_wal(path: Path) -> ISessionStorage:
    return SQLiteSessionStorage(path, enable_wal=False, synchronous="OFF")


def encrypted(path: Path) -> ISessionStorage:
    return SQLiteSessionStorage(path, synchronous="OFF", encryption_key=bytes(range(32)))


def faulty_memory(path: Path) -> ISessionStorage:
    return FaultyStorage(memory(path))


def faulty_sqlite(path: Path) -> ISessionStorage:
    return FaultyStorage(sqlite(path))


DURABLE: dict[str, Callable[[Path], ISessionStorage]] = {
    "sqlite": sqlite,
    "sqlite_without_wal": sqlite_without_wal,
    "faulty_sqlite": faulty_sqlite,
    "encrypted": encrypted,
    "json_lines": json_lines,
}
ALL: dict[str, Callable[[Path], ISessionStorage]] = {
    "memory": memory,
    "faulty_memory": faulty_memory,
    **DURABLE,
}


def on(path: Path, kind: str) -> Callable[[], ISessionStorage]:
    """Makes storages of that kind on this place."""
    return partial(ALL[kind], path)
