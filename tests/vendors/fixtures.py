"""The fixture `vendor`: import it in a conftest.py or in a test's module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .server import VendorServer, vendor_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    """A server of the test's own."""
    with vendor_server() as server:
        yield server


__all__ = ["vendor"]
