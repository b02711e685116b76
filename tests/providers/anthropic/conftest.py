import pytest

from ...vendors.fixtures import vendor

__all__ = ["library", "vendor"]


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> str:
    """Whatever reads a stream to an end that is not well is tested with both."""
    name: str = request.param
    return name
