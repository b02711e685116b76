from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .processes import APPS, App, Servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Of the client alone: the servers are what runs on both."""
    return "asyncio"


@pytest.fixture(params=APPS, ids=lambda app: app.name)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    """Each test runs with both applications. Ends every process; their logs must be clean."""
    app: App = request.param
    with Servers(app, tmp_path / "sessions.db") as servers:
        yield servers
