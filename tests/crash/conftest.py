import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .stack import CompilerMissingError, Nursery, compile_shim

NOT_LINUX = "CRASH TESTS NOT RUN: they preload a library and look into /proc, as Linux has them"
NO_COMPILER = "CRASH TESTS NOT RUN: they preload a library, and neither gcc nor cc is on the PATH"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    refuse_other_systems()
    try:
        return compile_shim(tmp_path_factory.mktemp("shim"))
    except CompilerMissingError:
        pytest.skip(NO_COMPILER)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[Nursery]:
    """Its processes have the shim."""
    with Nursery(tmp_path_factory.mktemp("nursery"), shim) as started:
        yield started


@pytest.fixture(scope="session")
def plain_nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Its processes are as a user's are."""
    refuse_other_systems()
    with Nursery(tmp_path_factory.mktemp("plain")) as started:
        yield started


def refuse_other_systems() -> None:
    """Skip, and say so."""
    if not sys.platform.startswith("linux"):
        pytest.skip(NOT_LINUX)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
