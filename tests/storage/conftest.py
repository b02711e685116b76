from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SQLiteSessionStorage]:
    storage = SQLiteSessionStorage(path, pool_timeout=0)
    await storage.open()
    yield storage
    await storage.close()
