"""Programs that broke a promise once, each the smallest one that did, under the seed that did."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import anyio
import pytest
from langswarm.core.session import SessionManager
from langswarm.core.session.interfaces import ISessionLifecycleHook

from .running import BACKENDS, check

if TYPE_CHECKING:
    from langswarm.core.session.runtime.manager import Manager
    from langswarm.core.session.testing import Backend


class KnowsItsManager(ISessionLifecycleHook):
    """As hooks do that look sessions up."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failed_read_fails_the_turn_and_not_the_actor(backend: Backend) -> None:
    """G14: whatever a storage raises from a read is a StorageError of that turn."""
    check("window=0 faults=messages.1.raise | send0:ok send0:ok", backend, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failed_read_is_a_storage_error_for_readers(backend: Backend) -> None:
    """G15: what a driver raises reaches no reader as it is."""
    check("faults=messages.1.raise | read0", backend, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_anothers_creation_is_not_taken_for_ones_own(backend: Backend) -> None:
    """G3: the session exists, so creating it again fails, whatever became of the commit.

    The outcome of the commit is unknown and is read back; the wall clock stands still.
    """
    check("idle=0 ticks=0 faults=commit.1.raise | make0", backend, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_message_that_is_stored_is_not_handed_back(backend: Backend) -> None:
    """G13: RuntimeClosedError says that the message did not run; so nothing of it may be stored.

    The storage takes longer over the first commit than the shutdown waits.
    """
    check("latency=2.0 | post0:slow stop@0", backend, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slow_storage_quarantines_nobody(backend: Backend) -> None:
    """G14: a guest that is asked when its turn's time is over already did not ignore anything."""
    check("latency=2.0 window=0 | post0:ok post0:ok post0:slow", backend, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_middleware_on_a_late_answer_has_its_time(backend: Backend) -> None:
    """G15: the turn's time ends with the provider; middleware has a timeout of its own."""
    check("guests=1 | send0:late send0:ok", backend, seed=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_replaced_turn_is_not_gone_on_with(backend: Backend) -> None:
    """G4: the provider's own conversation holds it still, so regenerate() begins a new one."""
    check(" | send0:ok again0", backend, seed=0)


OF_RUNNING_AGAIN = {
    "a note behind a turn that is run again stays": (" | send0:ok note0 again0", 0),
    "a message that is stored is not handed back": ("latency=0.05 | post0:slow~0.07", 0),
    "no turn begins in a shutdown": ("latency=2.0 | send0:hang#b1 | stop@0.1", 0),
    "another payload is no conflict before it is stored": (
        " | send0:late#a1 post0:late#a2 send0:late#a1",
        3526487438,
    ),
    "a post is taken back by nobody else": (" | post0:hang post0:ok#b1 cut0:ok#b1@0.1", 0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OF_RUNNING_AGAIN)
def test_findings_about_turns_that_are_looked_up_timed_or_run_again(
    name: str, backend: Backend
) -> None:
    """G5, G7, G9, G11, G13: see the names."""
    program, seed = OF_RUNNING_AGAIN[name]
    check(program, backend, seed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_has_no_question_of_a_turn_that_begins_meanwhile(backend: Backend) -> None:
    """G5: a fork is what the session was at one moment, without the turn that ran."""
    check("latency=2.0 | post0:ok fork0@4", backend, seed=10950033)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_closed_manager_is_let_go(backend: Backend) -> None:
    """G11: what a manager holds ends with it, also where one of its guests knows it."""

    async def main() -> weakref.ref[Manager]:
        manager = SessionManager()
        manager.add_lifecycle_hook(KnowsItsManager(manager))
        await manager.create_session("u", "mock", "m")
        await manager.aclose()
        return weakref.ref(manager)

    closed = anyio.run(main, backend=backend)
    gc.collect()
    assert closed() is None
