from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..runtime.helpers import Store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each test runs on both storages."""
    return Store(request.param, tmp_path)


@pytest.fixture
def memory(tmp_path: Path) -> Store:
    """For tests whose point does not depend on the storage."""
    return Store("memory", tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> Store:
    """For tests of what only a file can show."""
    return Store("sqlite", tmp_path)
