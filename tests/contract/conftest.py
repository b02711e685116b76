from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from langswarm.core.session.actors.ports import ISessionStorage
from langswarm.core.session.adapters.storage.memory import InMemorySessionStorage
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage


def memory(_: Path) -> ISessionStorage:
    return InMemorySessionStorage()


def sqlite(folder: Path) -> ISessionStorage:
    return SQLiteSessionStorage(folder / "contract.db", pool_size=2)


def sqlite_without_wal(folder: Path) -> ISessionStorage:
    return SQLiteSessionStorage(folder / "contract.db", enable_wal=False, synchronous="OFF")


@pytest.fixture(params=[memory, sqlite, sqlite_without_wal], ids=lambda make: make.__name__)
def unopened(request: pytest.FixtureRequest, tmp_path: Path) -> ISessionStorage:
    """A new storage of each kind that keeps the contract."""
    make: Callable[[Path], ISessionStorage] = request.param
    return make(tmp_path)


@pytest.fixture
async def storage(unopened: ISessionStorage) -> AsyncIterator[ISessionStorage]:
    await unopened.open()
    yield unopened
    await unopened.close()
