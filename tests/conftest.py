import pytest


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each async test runs on both. Named here: anyio's own list drops trio where it is missing."""
    backend: str = request.param
    return backend
