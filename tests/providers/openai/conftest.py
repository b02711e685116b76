from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ...vendors.fixtures import vendor
from .helpers import Connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ...vendors import VendorServer

__all__ = ["connect", "vendor"]


@pytest.fixture
async def connect(vendor: VendorServer) -> AsyncIterator[Connect]:
    """Providers of the server, closed after the test."""
    connect = Connect(vendor)
    yield connect
    await connect.close()
