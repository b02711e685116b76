"""The next request to a provider is valid, whatever came before."""

from __future__ import annotations

import pytest

from .prompts import check_prompts, random_histories
from .strategies import random_sources

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage


def test_the_next_prompt_is_valid_and_a_function_of_the_history_alone() -> None:
    """G4, G9: after each step of a history, cached or read, for both families of vendors."""
    for source in random_sources(10_000):
        check_prompts(random_histories(source))
