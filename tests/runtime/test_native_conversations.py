"""Conversations that a provider keeps: gone on with while they fit, else given up and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ISessionMiddleware,
    ProviderError,
    SessionContext,
    SessionError,
    SessionMessage,
    create_session_manager,
)
from langswarm.core.session.providers import NativeMockProvider, fault, hang
from langswarm.core.session.testing import SimulatedDisk, SimulatedStorage

from .helpers import Store, contents, on_a_virtual_clock, until

if TYPE_CHECKING:
    from langswarm.core.session import ISessionStorage, Session, SessionManager


class Counting(NativeMockProvider):
    """Notes which conversations are deleted; fails as often as it is told to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.deleted: list[str] = []
        self.tries = 0
        self.failures = 0

    async def delete_conversation(self, provider_session_id: str) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise ProviderError("planted", code="overloaded")
        await super().delete_conversation(provider_session_id)
        self.deleted.append(provider_session_id)


def virtual_manager(storage: ISessionStorage, provider: Counting) -> SessionManager:
    """Its wall clock goes with the virtual one."""
    manager = create_session_manager(storage, providers={"native": provider})
    host = manager._anchor.host
    host.wall_clock_us = lambda: 1_800_000_000_000_000 + round(anyio.current_time() * 1e6)
    return manager


async def native_session(manager: SessionManager) -> Session:
    return await manager.create_session("ada", "native", "m", session_id="s")


async def test_a_conversation_is_gone_on_with_while_it_holds_the_history(store: Store) -> None:
    """Also after a restart: one conversation, which believes what the history says."""
    provider = Counting()
    async with store.manager(providers={"native": provider}) as manager:
        session = await native_session(manager)
        await session.send_message("1")
    async with store.manager(providers={"native": provider}) as manager:
        session = await manager.get_session("s")
        await session.send_message("2")
        [(name, texts)] = provider.conversations.items()
        assert session.provider_session_id == name
        assert texts == await contents(session)
        assert provider.deleted == []


@pytest.mark.parametrize("how", ["failed", "stopped", "regenerated", "rewound", "cleared", "noted"])
async def test_one_that_does_not_is_given_up_and_deleted(store: Store, how: str) -> None:
    """The next turn begins a new one with what the user sees; the old one is deleted (G9)."""
    provider = Counting()
    async with store.manager(providers={"native": provider}) as manager:
        session = await native_session(manager)
        first = await session.send_message("1")
        old = session.provider_session_id
        if how in {"failed", "stopped"}:
            item = fault("overloaded") if how == "failed" else hang(after_chunks=1)
            session.provider_session.set_script([item])
            ticket = session.submit("2")
            if how == "stopped":
                await until(lambda: bool((turn := session.current_turn) and turn.characters))
                await session.stop()
            with pytest.raises(ProviderError):
                await ticket
        elif how == "regenerated":
            await session.regenerate()
        elif how == "rewound":
            await session.send_message("2")
            await session.rewind(first)
        elif how == "cleared":
            await session.clear_messages()
        else:
            await session.send_system_message("be brief")
        await session.send_message("3")
        name = session.provider_session_id
        assert name not in {None, old}
        await until(lambda: provider.deleted == [old])
        assert list(provider.conversations) == [name]
        seen = [m.content for m in await session.get_messages() if m.finish_reason != "failed"]
        system = [text for text in seen if text == "be brief"]
        assert provider.conversations[name or ""] == system + [t for t in seen if t not in system]


@on_a_virtual_clock
async def test_a_deletion_that_fails_is_tried_again_after_a_restart_too() -> None:
    """It is queued in the commit that gives the conversation up: none is forgotten."""
    provider = Counting()
    provider.failures = 3
    disk = SimulatedDisk()
    storage = SimulatedStorage(disk)
    manager = virtual_manager(storage, provider)
    session = await native_session(manager)
    await session.send_message("1")
    old = session.provider_session_id
    await session.regenerate()
    await anyio.sleep(1)
    assert (provider.tries, provider.deleted) == (1, [])
    await anyio.sleep(70)
    assert provider.tries == 2
    storage.die()
    await manager.aclose(drain_seconds=0)
    async with virtual_manager(SimulatedStorage(disk), provider):
        await anyio.sleep(1_000)
        assert provider.deleted == [old]
        assert provider.tries == 4
        assert list(await disk.store.load_purges(2**62, 10)) == []


@on_a_virtual_clock
async def test_a_deletion_that_hangs_holds_nobody_up() -> None:
    """Turns go on, and the end of the manager does not wait for long (G13, G15)."""

    class Hanging(Counting):
        async def delete_conversation(self, provider_session_id: str) -> None:
            self.tries += 1
            await anyio.sleep_forever()

    provider = Hanging()
    async with create_session_manager(providers={"native": provider}) as manager:
        session = await native_session(manager)
        await session.send_message("1")
        await session.regenerate()
        before = anyio.current_time()
        for number in range(5):
            await session.send_message(f"{number}")
        assert anyio.current_time() - before < 1
        assert provider.tries == 1
        before = anyio.current_time()
    assert anyio.current_time() - before <= 40


@on_a_virtual_clock
async def test_a_conversation_that_a_killed_turn_began_is_deleted() -> None:
    """It is stored before the answer comes: a kill leaves nothing behind at the provider."""
    provider = Counting()
    disk = SimulatedDisk()
    storage = SimulatedStorage(disk)
    manager = virtual_manager(storage, provider)
    session = await native_session(manager)
    session.provider_session.set_script([hang()])
    ticket = session.submit("1")
    await until(lambda: bool(provider.conversations))
    await anyio.sleep(0.5)  # less than checkpoint_seconds
    [old] = provider.conversations
    storage.die()
    await manager.aclose(drain_seconds=0)
    with pytest.raises(SessionError):
        await ticket
    with pytest.raises(SessionError):
        await ticket
    async with virtual_manager(SimulatedStorage(disk), provider) as manager:
        session = await manager.get_session("s")
        await session.send_message("2")
        await anyio.sleep(1)
        assert provider.deleted == [old]


async def test_a_conversation_that_a_failed_turn_began_is_deleted(store: Store) -> None:
    """The turn failed before any other word: what it began is known all the same."""
    provider = Counting()
    async with store.manager(providers={"native": provider}) as manager:
        session = await native_session(manager)
        session.provider_session.set_script([fault("refused")])
        with pytest.raises(ProviderError):
            await session.send_message("1")
        [old] = provider.conversations
        await session.send_message("2")
        await until(lambda: provider.deleted == [old])


async def test_an_answer_that_middleware_changed_is_not_gone_on_with(store: Store) -> None:
    """The provider's conversation holds what was taken out: the next one begins without it."""

    class Redact(ISessionMiddleware):
        async def process_message(
            self, session_id: str, message: SessionMessage, context: SessionContext
        ) -> SessionMessage:
            if message.role == "assistant":
                message.content = message.content.replace("secret", "...")
            return message

    provider = Counting()
    async with store.manager(providers={"native": provider}, middleware=[Redact()]) as manager:
        session = await native_session(manager)
        await session.send_message("plain")
        first = session.provider_session_id
        await session.send_message("secret")
        assert session.provider_session_id == first
        await session.send_message("more")
        second = session.provider_session_id
        assert second != first
        assert provider.conversations[second or ""] == await contents(session)
        await until(lambda: provider.deleted == [first])


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 10])
async def test_a_conversation_never_holds_more_than_max_messages(store: Store, most: int) -> None:
    """`max_messages` rolls over to a new one, with half of what it may hold and not each time."""
    provider = Counting()
    async with store.manager(providers={"native": provider}) as manager:
        session = await manager.create_session(
            "ada", "native", "m", session_config={"max_messages": most}
        )
        names: list[str | None] = []
        for number in range(30):
            await session.send_message(f"{number}")
            name = session.provider_session_id
            names.append(name)
            held = provider.conversations[name or ""]
            assert held == (await contents(session))[-len(held) :]
            assert len(held) - 1 <= most, "the answer is not sent"
        turns = len(names)
        assert len(set(names)) <= min(turns, 2 * turns / max(1, most // 2) + 1)
        await until(lambda: provider.deleted == list(dict.fromkeys(names))[:-1])


async def test_fewer_max_messages_give_up_a_conversation_that_is_too_long(store: Store) -> None:
    """What was sent under the old limit is not gone on with."""
    provider = Counting()
    async with store.manager(providers={"native": provider}) as manager:
        session = await native_session(manager)
        for number in range(10):
            await session.send_message(f"{number}")
        await session.update_config({"max_messages": 8})
        await session.send_message("last")
        assert len(provider.conversations[session.provider_session_id or ""]) <= 9


async def test_nothing_is_asked_of_a_provider_that_is_closed(store: Store) -> None:
    """A deletion is cut short before: it stays in the queue, for the next manager."""

    class Slow(Counting):
        deleting = False
        closed_while_deleting: bool | None = None

        async def delete_conversation(self, provider_session_id: str) -> None:
            self.tries += 1
            if self.tries == 1:
                self.deleting = True
                try:
                    await anyio.sleep_forever()
                finally:
                    self.deleting = False
            await super().delete_conversation(provider_session_id)

        async def aclose(self) -> None:
            if self.closed_while_deleting is None:
                self.closed_while_deleting = self.deleting
            await super().aclose()

    provider = Slow()
    async with store.manager(providers={"native": provider}) as manager:
        session = await native_session(manager)
        await session.send_message("1")
        old = session.provider_session_id
        await session.regenerate()
        await until(lambda: provider.deleting)
    assert provider.closed_while_deleting is False
    async with store.manager(providers={"native": provider}) as manager:
        await (await manager.get_session("s")).get_metrics()
        await until(lambda: provider.deleted == [old])


@on_a_virtual_clock
async def test_a_deletion_that_is_done_in_part_goes_on_at_once() -> None:
    """A long conversation takes several calls, which do not move apart."""

    class InParts(Counting):
        async def delete_conversation(self, provider_session_id: str) -> None:
            if self.tries < 30:
                self.tries += 1
                raise ProviderError("a part is left", code="interrupted")
            await super().delete_conversation(provider_session_id)

    provider = InParts()
    async with virtual_manager(SimulatedStorage(SimulatedDisk()), provider) as manager:
        session = await native_session(manager)
        await session.send_message("1")
        old = session.provider_session_id
        await session.regenerate()
        await anyio.sleep(100)
        assert provider.deleted == [old]


@on_a_virtual_clock
async def test_deletions_at_a_silent_provider_do_not_hold_up_those_at_others() -> None:
    """Not even one that ignores its cancellation, or ends in an exception that is none."""

    class Silent(Counting):
        how = "hangs"

        async def delete_conversation(self, provider_session_id: str) -> None:
            self.tries += 1
            if self.how == "raises":
                raise GeneratorExit
            with anyio.CancelScope(shield=self.how == "ignores"):
                await anyio.sleep(500)

    for how in ("hangs", "ignores", "raises"):
        silent, sound = Silent(), Counting()
        silent.how = how
        manager = create_session_manager(providers={"silent": silent, "sound": sound})
        host = manager._anchor.host
        host.wall_clock_us = lambda: 1_800_000_000_000_000 + round(anyio.current_time() * 1e6)
        async with manager:
            for name in ("silent", "sound"):
                session = await manager.create_session("ada", name, "m")
                await session.send_message("1")
                for _ in range(10):
                    await session.regenerate()
            await anyio.sleep(45)
            assert len(sound.deleted) == 10, how
            assert silent.tries == (10 if how == "raises" else 1)
            await anyio.sleep(1_000)
            assert silent.tries > 2
