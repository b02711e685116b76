"""Properties of many sessions: lists, figures, exports, erasure, users apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .apart import check_isolation
from .erasing import check_erasure, check_killed_erasure
from .exporting import check_round_trip
from .figures import check_figures
from .hearing import check_hearing
from .lists import check_lists
from .running import BACKENDS
from .serving import EXAMPLES, KINDS, a_place, check
from .strategies import random_sources

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

    from .serving import Kind, Property

pytestmark = pytest.mark.timeout(300)  # seconds of a machine that is busy and traces coverage

everywhere = pytest.mark.parametrize(
    ("kind", "backend"), [(kind, backend) for kind in KINDS for backend in BACKENDS]
)


def check_all(property_: Property, kind: Kind, backend: Backend) -> None:
    """As many examples as CI runs of this kind."""
    with a_place(kind) as place:
        for source in random_sources(EXAMPLES[kind]):
            check(property_, source, backend, place)


@everywhere
def test_a_list_is_what_matched_all_the_time(kind: Kind, backend: Backend) -> None:
    """Walks by cursor, with any limits and any changes on the way: none twice, none missing."""
    check_all(check_lists, kind, backend)


@everywhere
def test_figures_are_sums_of_what_happened(kind: Kind, backend: Backend) -> None:
    """Analytics of any days and users, by day and in all, after erasures and restarts too."""
    check_all(check_figures, kind, backend)


@everywhere
def test_what_is_imported_is_what_was_exported(kind: Kind, backend: Backend) -> None:
    """Equal but for ids; what was damaged on the way is refused with a typed error, or whole."""
    check_all(check_round_trip, kind, backend)


@everywhere
def test_of_an_erased_user_nothing_is_left(kind: Kind, backend: Backend) -> None:
    """Not in any read, list, search, figure, export; in no table of a file. Others stay."""
    check_all(check_erasure, kind, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_erasure_is_finished_by_the_next(backend: Backend) -> None:
    """Killed at any commit and made again, it ends with nothing left."""
    for source in random_sources(60):
        check_killed_erasure(source, backend)


@everywhere
def test_users_are_apart(kind: Kind, backend: Backend) -> None:
    """Any calls through for_user(one) tell and change nothing of another."""
    check_all(check_isolation, kind, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_subscribers_know_what_they_missed(backend: Backend) -> None:
    """Each sees every event once and in order, or a gap that says how many it did not (G10)."""
    check_all(check_hearing, "memory", backend)
