"""The two state machines of the runtime as tables: a turn's stages, an actor's phases.

The diagrams in docs/design.md are made from them, and tests walk them. Whoever asks for a way that
is not in the table has a bug: `RuntimeBugError`, which ends the step and restarts the session.
"""

from __future__ import annotations

from enum import Enum

from .errors import RuntimeBugError


class _Member(Enum):
    """Members hash by identity: the hash of Enum is Python code, and runs eight times a turn."""

    __hash__ = object.__hash__


class Stage(_Member):
    """Where a turn is. The last five are ends."""

    ADMITTED = "admitted"
    OPEN = "open"
    RUNNING = "running"
    CLOSING = "closing"
    REFUSED = "refused"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Event(_Member):
    """What happens to a turn."""

    REFUSE = "refused by a guest or the storage"
    OPENED = "opening commit"
    ASK = "ask the provider"
    END = "the provider ended"
    COMPLETE = "closing commit: completed"
    FAIL = "closing commit: failed"
    INTERRUPT = "closing commit: interrupted"
    LOSE = "storage or actor failed"


TRANSITIONS: dict[tuple[Stage, Event], Stage] = {
    (Stage.ADMITTED, Event.REFUSE): Stage.REFUSED,
    (Stage.ADMITTED, Event.OPENED): Stage.OPEN,
    (Stage.ADMITTED, Event.LOSE): Stage.LOST,
    (Stage.OPEN, Event.ASK): Stage.RUNNING,
    (Stage.OPEN, Event.LOSE): Stage.LOST,
    (Stage.RUNNING, Event.END): Stage.CLOSING,
    (Stage.RUNNING, Event.LOSE): Stage.LOST,
    (Stage.CLOSING, Event.COMPLETE): Stage.COMPLETED,
    (Stage.CLOSING, Event.FAIL): Stage.FAILED,
    (Stage.CLOSING, Event.INTERRUPT): Stage.INTERRUPTED,
    (Stage.CLOSING, Event.LOSE): Stage.LOST,
}


class Phase(_Member):
    """Whether the session is loaded. Only LIVE actors take messages out of their mailbox."""

    NEW = "new"
    WAITING = "waiting for a live place"
    LOADING = "loading"
    LIVE = "live"
    DROPPED = "dropped"


class Cause(_Member):
    """What moves an actor from phase to phase."""

    WAIT = "all live places are taken"
    ADMIT = "got a live place"
    LOADED = "loaded"
    CREATE = "its first message creates it"
    RELOAD = "crashed, or the stored state is in doubt"
    YIELD = "others wait for its place"
    DROP = "evicted, failed to load, or closed"


PHASES: dict[tuple[Phase, Cause], Phase] = {
    (Phase.NEW, Cause.WAIT): Phase.WAITING,
    (Phase.NEW, Cause.ADMIT): Phase.LOADING,
    (Phase.WAITING, Cause.ADMIT): Phase.LOADING,
    (Phase.WAITING, Cause.DROP): Phase.DROPPED,
    (Phase.LOADING, Cause.LOADED): Phase.LIVE,
    (Phase.LOADING, Cause.CREATE): Phase.LIVE,
    (Phase.LOADING, Cause.DROP): Phase.DROPPED,
    (Phase.LIVE, Cause.RELOAD): Phase.LOADING,
    (Phase.LIVE, Cause.YIELD): Phase.WAITING,
    (Phase.LIVE, Cause.DROP): Phase.DROPPED,
}


def next_stage(stage: Stage, event: Event) -> Stage:
    """Where the event takes a turn."""
    found = TRANSITIONS.get((stage, event))
    if found is None:
        raise RuntimeBugError(f"a turn in stage {stage.name} got {event.name}; please report this")
    return found


def next_phase(phase: Phase, cause: Cause) -> Phase:
    """Where the cause takes an actor."""
    found = PHASES.get((phase, cause))
    if found is None:
        raise RuntimeBugError(
            f"an actor in phase {phase.name} got {cause.name}; please report this"
        )
    return found
