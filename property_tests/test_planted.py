"""Teeth: each planted bug breaks the property of the state machine, soon and on both backends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .planted.detection import PROPERTIES, examples_until_caught
from .planted.everything import PLANTED
from .running import BACKENDS
from .strategies import random_sources

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage


MOST_EXAMPLES = 500


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bugs_are_caught(name: str, backend: Backend) -> None:
    """The property has teeth: it catches this bug within the first programs that CI runs."""
    sources = random_sources(MOST_EXAMPLES)
    assert examples_until_caught(PLANTED[name], backend, sources) is not None


def test_each_promise_has_a_planted_bug() -> None:
    """Each promise that the properties claim to check is broken by a variant at least."""
    promises = {variant.promise for variant in PLANTED.values()}
    numbered = {promise for promise in promises if re.fullmatch(r"G\d+", promise)}
    assert numbered == {f"G{number}" for number in range(1, 17)} - {"G15"}
    assert promises - numbered == {"lists", "figures", "export", "erasure", "users"}
    assert {variant.property for variant in PLANTED.values()} == set(PROPERTIES)
