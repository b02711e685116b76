from __future__ import annotations

import pytest


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs with both libraries."""
    name: str = request.param
    return name
