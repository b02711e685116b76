"""Errors as values: every caller gets one of its own, they can be copied and pickled."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    InMemorySessionStorage,
    Session,
    StorageError,
    create_session_manager,
    errors,
)
from langswarm.core.session.actors import errors as all_errors

from .faults import Faulty, busy, raises_before, unknown_lost

if TYPE_CHECKING:
    from .faults import Fault

EXAMPLES: dict[str, dict[str, Any]] = {
    "SessionNotFoundError": {"session_id": "s"},
    "SessionExistsError": {"session_id": "s"},
    "SessionArchivedError": {"session_id": "s"},
    "MessageNotFoundError": {"session_id": "s", "message_id": "m"},
    "TurnNotFoundError": {"session_id": "s", "turn_id": "s/1"},
    "IdempotencyConflictError": {"method": "send_message", "key": "k"},
    "ReentrantCallError": {"session_id": "s"},
    "WithdrawnError": {"session_id": "s"},
    "StorageError": {"code": "busy", "retryable": True, "outcome": "unknown"},
    "ProviderError": {"code": "rate_limit", "retryable": True, "retry_after_seconds": 2.0},
    "SessionQuarantinedError": {"session_id": "s", "retry_after_seconds": 1.5},
    "MailboxFullError": {"content": "hello", "retry_after_seconds": 1.0},
    "ProviderTimeoutError": {"code": "timeout"},
    "TurnInterruptedError": {"code": "interrupted"},
}
"""What to call a constructor with, where a text is not enough."""


def example(kind: type[errors.SessionError]) -> errors.SessionError:
    arguments = EXAMPLES.get(kind.__name__, {})
    try:
        return kind(**arguments)
    except TypeError:
        return kind("text", **arguments)


def pickled(error: errors.SessionError) -> object:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - its own


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(all_errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.SessionError)
    ],
    ids=lambda kind: kind.__name__,
)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_each_error_can_be_copied_and_pickled(
    kind: type[errors.SessionError], duplicate: Any
) -> None:
    """Text, type and attributes; process pools and task queues do this."""
    error = example(kind)
    other = duplicate(error)
    assert type(other) is kind
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_a_copy_has_notes_of_its_own() -> None:
    """One caller's notes are no other's."""
    error = StorageError("text", code="busy")
    error.add_note("of all")
    other = copy.copy(error)
    other.add_note("of one")
    assert (error.__notes__, other.__notes__) == (["of all"], ["of all", "of one"])


async def many_updates(sessions: list[Session]) -> list[StorageError]:
    raised: list[StorageError] = []

    async def update(session: Session) -> None:
        with pytest.raises(StorageError) as caught:
            await session.update_context(a=1)
        raised.append(caught.value)

    async with anyio.create_task_group() as group:
        for session in sessions:
            group.start_soon(update, session)
    return raised


@pytest.mark.parametrize("fault", [busy, raises_before, unknown_lost])
async def test_each_caller_of_a_failed_batch_gets_an_error_of_its_own(fault: Fault) -> None:
    """A shared one would show everybody the traceback of all, and keep alive what they hold."""
    storage = Faulty(InMemorySessionStorage())
    async with create_session_manager(storage) as manager:
        sessions = [await manager.create_session("ann", "mock", "m") for _ in range(5)]
        storage.faults = [fault]
        raised = await many_updates(sessions)
        assert storage.batches == 6, "five creations and one batch"
        assert len({id(error) for error in raised}) == 5


async def test_health_keeps_no_callers_frames_alive() -> None:
    """The last error is a copy: no traceback, and it stays so however often it is met."""
    storage = Faulty(InMemorySessionStorage())
    async with create_session_manager(storage) as manager:
        session = await manager.create_session("ann", "mock", "m")
        storage.faults = [busy]
        [raised] = await many_updates([session])
        kept = (await manager.health()).last_error
        assert (str(kept), type(kept)) == (str(raised), StorageError)
        assert kept is not None
        assert kept.__traceback__ is None
        assert kept.__cause__ is None


async def test_each_of_many_who_wait_for_a_storage_that_does_not_open_gets_its_own() -> None:
    """One attempt to open, several callers."""
    storage = Faulty(InMemorySessionStorage())
    storage.open_error = StorageError("planted", code="io")
    raised: list[BaseException] = []
    manager = create_session_manager(storage)

    async def get() -> None:
        with pytest.raises(StorageError, match="planted") as caught:
            await manager.get_session("s")
        raised.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(get)
    assert len({id(error) for error in raised}) == 5
    await manager.aclose()
