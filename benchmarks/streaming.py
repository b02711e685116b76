"""Turns that are followed while they run: the first piece, the price of each, memory per stream.

The provider yields its pieces one event-loop step apart; the floor is the same generator iterated
by the client itself, without sessions, storage or followers in between.
"""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs
from figures import Figure, Meter, Scale, beside, percentile
from langswarm.core.session import create_session_manager
from langswarm.core.session.interfaces import TurnText
from langswarm.core.session.providers import Completed, IProvider, ProviderRequest, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from langswarm.core.session import Session
    from langswarm.core.session.actors.ports import ProviderEvent

    Follow = Callable[[int, "Seen"], Coroutine[None, None, None]]

PIECES = 50
TEXT = "twenty characters ok"
NAME = "pieces"


@attrs.frozen
class Sizes:
    """How many streams at once, how many first pieces one by one, how often all of it."""

    streams: int
    firsts: int
    repetitions: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(streams=1_000, firsts=300, repetitions=3),
    "quick": Sizes(streams=200, firsts=50, repetitions=1),
    "tiny": Sizes(streams=3, firsts=3, repetitions=1),
}


class Pieces(IProvider):
    """PIECES deltas; notes when it gave each of a session's."""

    def __init__(self) -> None:
        self.given: dict[str, list[float]] = {}

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        given = self.given[request.session_id] = []
        for _ in range(PIECES):
            await anyio.lowlevel.checkpoint()
            given.append(time.perf_counter())
            yield TextDelta(TEXT)
        yield Completed()


@attrs.define
class Seen:
    """What the followers have seen of all streams."""

    pieces: int = 0
    characters: int = 0
    last_delays: list[float] = attrs.field(factory=list[float])
    """From the provider's last piece to the follower's end of the text."""


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    rounds = [anyio.run(_round, sizes, backend=backend) for _ in range(sizes.repetitions)]
    firsts = [anyio.run(_firsts, sizes.firsts, backend=backend) for _ in range(sizes.repetitions)]
    memory = anyio.run(_memory, sizes.streams, backend=backend)
    streams = f"{sizes.streams:,} streams"
    return [
        beside(
            "first piece, from the call, p50",
            "us",
            [(percentile(own, 0.5) * 1e6, percentile(bare, 0.5) * 1e6) for own, bare in firsts],
        ),
        beside(
            "  the same, p99",
            "us",
            [(percentile(own, 0.99) * 1e6, percentile(bare, 0.99) * 1e6) for own, bare in firsts],
        ),
        beside(f"{streams} at once, CPU per piece", "us", [(own, bare) for own, bare, _ in rounds]),
        Figure(
            name="  last piece to its follower, p99",
            value=max(percentile(delays, 0.99) for _, _, delays in rounds) * 1e3,
            unit="ms",
        ),
        Figure(name="  memory per stream, half way", value=memory, unit="bytes"),
    ]


async def _round(sizes: Sizes) -> tuple[float, float, list[float]]:
    """CPU per piece through sessions, beside the bare generator; delays of the last pieces."""
    seen, provider = Seen(), Pieces()
    pieces = sizes.streams * PIECES
    async with create_session_manager(providers={NAME: provider}) as manager:
        sessions = [await manager.create_session("u", NAME, "m") for _ in range(sizes.streams)]

        async def follow(number: int) -> None:
            session, now = sessions[number], 0.0
            async with session.stream_message("go") as turn:
                async for event in turn:
                    if isinstance(event, TurnText):
                        seen.pieces += 1
                        seen.characters += len(event.text)
                        now = time.perf_counter()
            seen.last_delays.append(now - provider.given[session.session_id][-1])

        with Meter() as meter:
            await _all(sizes.streams, follow)
    assert seen.characters == pieces * len(TEXT)
    bare = Pieces()

    async def listen(number: int) -> None:
        async for _ in bare.stream(_request(f"{number}")):
            pass

    with Meter() as floor:
        await _all(sizes.streams, listen)
    return (
        meter.cpu_seconds / pieces * 1e6,
        floor.cpu_seconds / pieces * 1e6,
        seen.last_delays,
    )


async def _all(count: int, job: Callable[[int], Coroutine[None, None, None]]) -> None:
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(job, number)


async def _firsts(count: int) -> tuple[list[float], list[float]]:
    """From the call to the first piece: through a session, and from the generator."""
    own: list[float] = []
    bare: list[float] = []
    provider = Pieces()
    async with create_session_manager(providers={NAME: provider}) as manager:
        for number in range(count):
            session = await manager.create_session("u", NAME, "m")
            own.append(await _first(session))
            start = time.perf_counter()
            async for _ in Pieces().stream(_request(f"{number}")):
                bare.append(time.perf_counter() - start)
                break
    return own, bare


async def _first(session: Session) -> float:
    start, seconds = time.perf_counter(), 0.0
    async with session.stream_message("go") as turn:
        async for event in turn:
            if isinstance(event, TurnText) and not seconds:
                seconds = time.perf_counter() - start
    return seconds


async def _memory(streams: int) -> float:
    """What Python has allocated per stream whose provider holds at the middle of its pieces."""
    gate, all_held, held, grown = anyio.Event(), anyio.Event(), 0, 0

    class Held(IProvider):
        async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
            nonlocal held
            del request
            for number in range(PIECES):
                if number == PIECES // 2:
                    held += 1
                    if held == streams:
                        all_held.set()
                    await gate.wait()
                yield TextDelta(TEXT)
            yield Completed()

    async def follow(session: Session) -> None:
        async with session.stream_message("go") as turn:
            async for _ in turn:
                pass

    async with create_session_manager(providers={NAME: Held()}) as manager:
        sessions = [await manager.create_session("u", NAME, "m") for _ in range(streams)]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(follow, session)
            await all_held.wait()
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            gate.set()
    return grown / streams


def _request(session_id: str) -> ProviderRequest:
    return ProviderRequest(
        session_id=session_id,
        turn_id="1",
        model="m",
        messages=(),
        config={},
        provider_session_id=None,
    )
