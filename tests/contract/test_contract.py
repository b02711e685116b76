"""Every storage of this project keeps the contract, on both backends."""

from pathlib import Path

import pytest
from langswarm.core.session.testing import Backend
from langswarm.core.session.testing.storage_contract import CONTRACT, DURABILITY, StorageCase

from .storages import ALL, DURABLE, on


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("case", CONTRACT, ids=str)
def test_every_storage_keeps_it(
    case: StorageCase, kind: str, backend: Backend, tmp_path: Path
) -> None:
    case.check(on(tmp_path / "sessions", kind), backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", DURABLE)
@pytest.mark.parametrize("case", DURABILITY, ids=str)
def test_every_durable_storage_keeps_what_is_stored(
    case: StorageCase, kind: str, backend: Backend, tmp_path: Path
) -> None:
    case.check(on(tmp_path / "sessions", kind), backend=backend)
