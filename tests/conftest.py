import gc

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each async test runs on both. Named here: anyio's own list drops trio where it is missing."""
    backend: str = request.param
    return backend


@pytest.fixture(autouse=True)
def _no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Managers make the vendors whose keys are there: no test is to ask a real one."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def pytest_collection_finish() -> None:
    """Garbage is not looked for in what was there before the first test: half a million objects.

    Many tests have it collected, so that what they left behind says so at once.
    """
    gc.collect()
    gc.freeze()
