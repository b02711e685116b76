"""What one user may take: sessions, and turns at the same time; nobody else pays for it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    CapacityError,
    ConfigurationError,
    InMemorySessionStorage,
    SessionExistsError,
    create_session_manager,
)
from langswarm.core.session.errors import RateLimitedError
from langswarm.core.session.middleware import RateLimitMiddleware
from langswarm.core.session.runtime import quotas

from .helpers import (
    PATIENCE_SECONDS,
    Echo,
    Store,
    contents,
    new_session,
    on_a_virtual_clock,
    outcome,
    settle,
    supervisor_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from langswarm.core.session import SessionManager
    from langswarm.core.session.actors.model import SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest


async def count(manager: SessionManager, user_id: str = "ada") -> int:
    return len(await manager.get_user_sessions(user_id))


# ---------------------------------------------------------------- sessions


async def test_a_user_has_so_many_sessions_and_others_have_theirs(store: Store) -> None:
    """Archived ones count, deleted ones do not; also after a restart."""
    async with store.manager(Echo(), max_sessions_per_user=2) as manager:
        first = await new_session(manager, "ada")
        await first.archive()
        await new_session(manager, "ada")
        with pytest.raises(CapacityError, match="limit max_sessions_per_user") as refused:
            await new_session(manager, "ada")
        assert refused.value.content is None
        await new_session(manager, "bob")
        assert await count(manager) == 2
    async with store.manager(Echo(), max_sessions_per_user=2) as manager:
        with pytest.raises(CapacityError):
            await manager.for_user("ada").create_session("mock", "m")
        await (await manager.get_session(first.session_id)).delete()
        await new_session(manager, "ada")
        with pytest.raises(CapacityError):
            await new_session(manager, "ada")


async def test_many_creations_at_once_do_not_exceed_it(store: Store) -> None:
    async with store.manager(Echo(), max_sessions_per_user=5) as manager:
        refused: list[CapacityError] = []

        async def create() -> None:
            try:
                await new_session(manager, "ada")
            except CapacityError as error:
                refused.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(create)
        assert await count(manager) == 5
        assert len(refused) == 15


async def test_forks_count(store: Store) -> None:
    async with store.manager(Echo(), max_sessions_per_user=2) as manager:
        session = await new_session(manager, "ada")
        fork = await session.fork()
        with pytest.raises(CapacityError):
            await fork.fork()
        assert await count(manager) == 2


async def test_a_repetition_under_a_key_gives_what_is_there(store: Store) -> None:
    """It makes no session, so a full quota does not refuse it; nor does it change what fails."""
    async with store.manager(Echo(), max_sessions_per_user=1) as manager:
        first = await new_session(manager, "ada", idempotency_key="k")
        again = await new_session(manager, "ada", idempotency_key="k")
        assert again.session_id == first.session_id
        with pytest.raises(CapacityError):
            await new_session(manager, "ada", idempotency_key="other")
        with pytest.raises(SessionExistsError):
            await new_session(manager, "bob", session_id=first.session_id)
        assert await count(manager, "bob") == 0
        await new_session(manager, "bob")


async def test_many_deleted_sessions_are_passed_over() -> None:
    async with create_session_manager(max_sessions_per_user=1, page_size=2) as manager:
        for _ in range(50):
            await (await manager.create_session("ada", "mock", "m")).delete()
        await manager.create_session("ada", "mock", "m")
        with pytest.raises(CapacityError):
            await manager.create_session("ada", "mock", "m")


class Slow(InMemorySessionStorage):
    """Holds commits while it is told to."""

    held: anyio.Event | None = None
    waiting = 0

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        if self.held is not None:
            self.waiting += 1
            await self.held.wait()
        return await super().commit(writes)


async def test_a_creation_that_nobody_waits_for_any_more_counts() -> None:
    """Its caller went away while it was committed: the next one does not slip past it."""
    storage = Slow()
    async with create_session_manager(storage, max_sessions_per_user=1) as manager:
        await manager.create_session("bob", "mock", "m")
        storage.held = anyio.Event()
        second: object = None
        async with anyio.create_task_group() as group:
            group.start_soon(manager.create_session, "ada", "mock", "m")
            await until(lambda: storage.waiting == 1)
            group.cancel_scope.cancel()
        with anyio.move_on_after(PATIENCE_SECONDS):
            try:
                second = await manager.create_session("ada", "mock", "m")
            except CapacityError as error:
                second = error
        storage.held.set()
        storage.held = None
        assert isinstance(second, CapacityError)
        await settle()
        assert await count(manager) == 1


async def test_nothing_is_kept_of_users_who_create_nothing_now(store: Store) -> None:
    async with store.manager(Echo(), max_sessions_per_user=5, idle_seconds=0.0) as manager:
        for number in range(20):
            await new_session(manager, f"user {number}")
        gc.collect()
        lines = quotas._lines[manager._anchor.host.runtime()]
        assert dict(lines) == {}


async def test_without_a_limit_nothing_is_counted() -> None:
    """The place of a creation is taken by its call, before anything is awaited (G1)."""

    class Blind(InMemorySessionStorage):
        async def list_sessions(self, query: Any) -> Any:
            raise AssertionError(query)

    async with create_session_manager(Blind()) as manager:
        await manager.create_session("ada", "mock", "m")


@pytest.mark.parametrize("name", ["max_sessions_per_user", "max_inflight_turns_per_user"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "5", None])
def test_a_limit_is_a_number(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        create_session_manager(**{name: value})


# ---------------------------------------------------------------- turns at the same time


async def started(manager: SessionManager, provider: Echo, user: str, turns: int) -> list[Any]:
    """So many sessions of a user, each with a turn that is held at the provider."""
    tickets: list[Any] = []
    for number in range(turns):
        session = await new_session(manager, user)
        text = f"{user} {number}"
        if text not in provider.gates:
            provider.hold(text)
        tickets.append(session.submit(text))
    return tickets


def running(provider: Echo) -> list[str]:
    asked = [request.messages[-1].content for request in provider.requests]
    return [text for text in asked if text not in provider.finished]


async def test_a_user_with_many_sessions_leaves_room_for_others(store: Store) -> None:
    """Turns over the limit wait behind those of their own user, in the order they came."""
    provider = Echo()
    async with store.manager(
        provider, max_inflight_turns=4, max_inflight_turns_per_user=2
    ) as manager:
        tickets = await started(manager, provider, "greedy", 5)
        others = await started(manager, provider, "ada", 1)
        await until(lambda: len(provider.requests) == 3)
        await settle()
        assert running(provider) == ["greedy 0", "greedy 1", "ada 0"]
        assert supervisor_of(manager).statistics().waiting_turns == 3
        provider.gates["ada 0"].open()
        await outcome(others[0])
        await settle()
        assert running(provider) == ["greedy 0", "greedy 1"]
        for number in (1, 0, 3, 2, 4):
            provider.gates[f"greedy {number}"].open()
            answer = await outcome(tickets[number])
            assert answer.content == f"answer to greedy {number}"
        asked = [request.messages[-1].content for request in provider.requests]
        assert [text for text in asked if text.startswith("greedy")] == [
            f"greedy {number}" for number in range(5)
        ]
        assert supervisor_of(manager).gate._users == {}  # type: ignore[attr-defined]


class OfUsers(Echo):
    """Counts the turns of a user that run at the same time; a text begins with its user."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once: dict[str, int] = {}
        self.most_of_user = 0

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        user = request.messages[-1].content[0]
        self.at_once[user] = self.at_once.get(user, 0) + 1
        self.most_of_user = max(self.most_of_user, self.at_once[user])
        try:
            async for event in super().stream(request):
                yield event
        finally:
            self.at_once[user] -= 1


async def test_both_limits_hold_together(store: Store) -> None:
    """Never more than one of a user, never more than two of all; everybody is answered."""
    provider = OfUsers()
    gates = [provider.hold("a0"), provider.hold("b0")]
    async with store.manager(
        provider, max_inflight_turns=2, max_inflight_turns_per_user=1
    ) as manager:
        tickets = [
            (await new_session(manager, user)).submit(f"{user}{number}")
            for number in range(4)
            for user in ("a", "b", "c")
        ]
        await settle()
        asked = [request.messages[-1].content for request in provider.requests]
        assert asked == ["a0", "b0"]
        for gate in gates:
            gate.open()
        for ticket in tickets:
            assert (await outcome(ticket)).role == "assistant"
        assert (provider.most, provider.most_of_user) == (2, 1)
        assert supervisor_of(manager).statistics().waiting_turns == 0


async def test_one_that_goes_away_while_it_waits_leaves_no_trace(store: Store) -> None:
    provider = Echo()
    async with store.manager(provider, max_inflight_turns_per_user=1) as manager:
        [first] = await started(manager, provider, "ada", 1)
        await provider.gates["ada 0"].reached()
        second = await new_session(manager, "ada")
        ticket = second.submit("second")
        third = await new_session(manager, "ada")
        last = third.submit("third")
        await settle()
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await second.stop() is True
        assert isinstance(await outcome(ticket), Exception)
        provider.gates["ada 0"].open()
        await outcome(first)
        assert (await outcome(last)).content == "answer to third"
        assert [request.messages[-1].content for request in provider.requests] == ["ada 0", "third"]
        assert supervisor_of(manager).gate._users == {}  # type: ignore[attr-defined]


@on_a_virtual_clock
async def test_who_waits_too_long_gets_its_message_back() -> None:
    """CapacityError with the limit's name; the others of the user go on."""
    provider = Echo()
    async with create_session_manager(
        providers={"openai": provider}, max_inflight_turns_per_user=1, queue_timeout_seconds=10
    ) as manager:
        [first] = await started(manager, provider, "ada", 1)
        await provider.gates["ada 0"].reached()
        second = await new_session(manager, "ada")
        refused = await outcome(second.submit("second"))
        assert isinstance(refused, CapacityError)
        assert "max_inflight_turns_per_user" in str(refused)
        assert (refused.content, refused.retry_after_seconds) == ("second", 10)
        assert refused.retryable
        assert await contents(second) == []
        other = await new_session(manager, "bob")
        await other.send_message("free")
        third = await new_session(manager, "ada")
        ticket = third.submit("third")
        provider.gates["ada 0"].open()
        await outcome(first)
        assert (await outcome(ticket)).content == "answer to third"


# ---------------------------------------------------------------- turns a minute


async def test_a_manager_takes_so_many_messages_a_minute_from_all() -> None:
    """Who is refused by one bucket takes nothing out of the others."""
    now = [0.0]
    limiter = RateLimitMiddleware(
        user_messages_per_minute=60,
        user_burst=2,
        total_messages_per_minute=6,
        total_burst=3,
        clock=lambda: now[0],
    )
    async with create_session_manager(middleware=[limiter]) as manager:
        ada, bob = [await manager.create_session(user, "mock", "m") for user in ("ada", "bob")]
        await ada.send_message("1")
        await ada.send_message("2")
        with pytest.raises(RateLimitedError, match="this user") as refused:
            await ada.send_message("3")
        assert refused.value.retry_after_seconds == pytest.approx(1)
        await bob.send_message("1")
        with pytest.raises(RateLimitedError, match="all users") as refused:
            await bob.send_message("2")
        assert refused.value.retry_after_seconds == pytest.approx(10)
        assert refused.value.content == "2"
        now[0] = 10.0
        await bob.send_message("2")
        with pytest.raises(RateLimitedError, match="all users"):
            await ada.send_message("3")
