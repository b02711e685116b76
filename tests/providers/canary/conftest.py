from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ...vendors.fixtures import vendor
from .looking import assert_hidden, shown_of_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["library", "vendor"]


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs with both libraries."""
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def nothing_is_told(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """No logger, at any level, and neither standard stream tells a key in any of these tests."""
    caplog.set_level(logging.DEBUG)
    yield
    printed = capfd.readouterr()
    assert_hidden(*shown_of_logs(caplog.get_records("call")), str(printed.out), str(printed.err))
