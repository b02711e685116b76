"""CPU of one `send_message`: memory storage, mock provider, beside a bare round trip."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import anyio
import attrs
from figures import Figure, Scale, Target, alternate, beside, cpu_us
from floors import round_trip_us
from langswarm.core.session import create_session_manager

if TYPE_CHECKING:
    from langswarm.core.session import Session, SessionManager

QUESTION = "What is the capital of France, and how many people live there?"


@attrs.frozen
class Sizes:
    """How much is sent."""

    sequential: int
    sessions: int
    turns: int
    late: int
    repetitions: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(sequential=1_000, sessions=100, turns=20, late=1_600, repetitions=7),
    "quick": Sizes(sequential=300, sessions=100, turns=5, late=400, repetitions=3),
    "tiny": Sizes(sequential=5, sessions=3, turns=2, late=110, repetitions=1),
}


def figures(scale: Scale, backend: str) -> list[Figure]:
    return anyio.run(_figures, SIZES[scale], backend, backend=backend)


async def _figures(sizes: Sizes, backend: str) -> list[Figure]:
    return [
        await _sequential(sizes, backend),
        *await _concurrent(sizes, backend),
        await _late(sizes),
    ]


async def _sequential(sizes: Sizes, backend: str) -> Figure:
    async with create_session_manager() as manager:
        session = await _session(manager)
        await _send(session, min(sizes.sequential, 60))  # the window is full then

        async def sample() -> float:
            return await cpu_us(lambda: _send(session, sizes.sequential), sizes.sequential)

        pairs = await alternate(
            sample, lambda: round_trip_us(backend, 1, sizes.sequential), sizes.repetitions
        )
    return beside("send_message, 1 session", "us CPU", pairs)


async def _concurrent(sizes: Sizes, backend: str) -> list[Figure]:
    async with create_session_manager() as manager:

        async def sample() -> float:
            sessions = [await _session(manager) for _ in range(sizes.sessions)]

            async def everyone() -> None:
                async with anyio.create_task_group() as group:
                    for session in sessions:
                        group.start_soon(_send, session, sizes.turns)

            return await cpu_us(everyone, sizes.sessions * sizes.turns)

        await sample()  # warm
        pairs = await alternate(
            sample,
            lambda: round_trip_us(backend, sizes.sessions, sizes.turns),
            sizes.repetitions,
        )
        statistics = manager.statistics()
    assert statistics is not None
    sends = (sizes.repetitions + 1) * sizes.sessions * sizes.turns
    return [
        beside(f"send_message, {sizes.sessions} sessions at once", "us CPU", pairs),
        Figure(
            name="  tasks started per send",
            value=round(statistics.executor.started / sends, 2),
            unit="tasks",
        ),
    ]


async def _late(sizes: Sizes) -> Figure:
    """Late turns beside early ones of the same session: history must not cost."""
    block = 50
    early: list[float] = []
    late: list[float] = []
    for _ in range(max(3, sizes.repetitions) if sizes.repetitions > 1 else 1):
        async with create_session_manager() as manager:
            session = await _session(manager)
            await _send(session, block)  # messages 1 to 100: the window is full
            early.append(await cpu_us(partial(_send, session, block), block))
            await _send(session, max(0, sizes.late - 3 * block))
            late.append(await cpu_us(partial(_send, session, block), block))
    return Figure(
        name=f"send_message no. {sizes.late}; floor: no. {2 * block}",
        value=median(late),
        unit="us CPU",
        floor=median(early),
        ratio=median(one / other for one, other in zip(late, early, strict=True)),
        target=Target(of="ratio", most=1.1),
    )


async def _session(manager: SessionManager) -> Session:
    return await manager.create_session("user", "mock", "mock-model")


async def _send(session: Session, count: int) -> None:
    for _ in range(count):
        await session.send_message(QUESTION)
