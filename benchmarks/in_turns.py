"""Contenders for the same work, measured in turns in one process; of each the best round counts.

Each round a contender has connections of its own, and they are open before the clock starts.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio
import attrs
from figures import Figure, Meter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from askers import Asker, Open
    from figures import Target


@attrs.frozen
class Load:
    """So many clients at once, each of which asks so often, one turn after another; per round."""

    clients: int
    asks: int
    rounds: int
    once: tuple[str, ...] = ()
    """Contenders that take so long that they are measured in the first round only."""


@attrs.frozen
class Contender:
    """A way to ask, and what it has to see of each answer."""

    open: Open
    sees: int


@attrs.frozen
class Best:
    """What a turn cost in the cheapest round, and how many a second there were in the fastest."""

    cpu_us: float
    per_second: float


def best_of(
    contenders: Mapping[str, Contender], url: str, load: Load, backend: str
) -> dict[str, Best]:
    """The best of each, by name."""
    rounds: dict[str, list[Best]] = {name: [] for name in contenders}
    once = Load(clients=1, asks=1, rounds=1)
    for each in contenders.values():
        anyio.run(_round, each, url, once, backend=backend)
    # What the vendors' clients are made of would be walked through in everybody's collections.
    gc.collect()
    gc.freeze()
    for number in range(load.rounds):
        for name, each in contenders.items():
            if number == 0 or name not in load.once:
                rounds[name].append(anyio.run(_round, each, url, load, backend=backend))
    return {
        name: Best(
            cpu_us=min(each.cpu_us for each in known),
            per_second=max(each.per_second for each in known),
        )
        for name, known in rounds.items()
    }


def against(
    name: str, unit: str, value: float, floor: float, target: Target | None = None
) -> Figure:
    """The best of both, and their ratio."""
    return Figure(
        name=name, value=value, unit=unit, floor=floor, ratio=value / floor, target=target
    )


async def _round(contender: Contender, url: str, load: Load) -> Best:
    turns = load.clients * load.asks
    async with contender.open(url, load.clients) as asker:
        await asker.prepare(load.clients)
        await _ask(asker, load.clients, 1, contender.sees)
        await asker.prepare(turns)
        with Meter() as meter:
            await _ask(asker, load.clients, load.asks, contender.sees)
    return Best(cpu_us=meter.cpu_seconds / turns * 1e6, per_second=turns / meter.seconds)


async def _ask(asker: Asker, clients: int, asks: int, sees: int) -> None:
    async def client() -> None:
        for _ in range(asks):
            seen = await asker.ask()
            assert seen == sees, (seen, sees)

    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(client)
