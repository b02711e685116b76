"""The wrong variants by name, each with the promise that it breaks.

A variant is a function that patches the runtime for the length of a `with` block.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from types import ModuleType

    Plant = Callable[[], AbstractContextManager[object]]


@attrs.frozen
class Variant:
    """A bug, to be put in."""

    promise: str
    plant: Plant
    property: str
    """Which property breaks: a name in detection.PROPERTIES."""


_ENTERED: dict[str, dict[str, Variant]] = {}


def catalogue(*modules: ModuleType) -> dict[str, Variant]:
    """The variants that these modules define, by name."""
    return {
        name: variant
        for module in modules
        for name, variant in _ENTERED.get(module.__name__, {}).items()
    }


def planted(promise: str, by: str = "explanation") -> Callable[[Plant], Plant]:
    """Enter the function into the catalogue as a variant that breaks this promise."""

    def enter(plant: Plant) -> Plant:
        _ENTERED.setdefault(plant.__module__, {})[plant.__name__] = Variant(promise, plant, by)
        return plant

    return enter


@contextmanager
def together(*patches: AbstractContextManager[object]) -> Generator[None]:
    """Several patches as one."""
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield
