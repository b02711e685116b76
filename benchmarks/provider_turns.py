"""Turns through the vendors' providers: CPU of this process per turn, and turns a second.

The floor of each is a bare client of the same library that reads the same bytes and looks at none
of them. The vendors' own clients run beside them. The server is in a process of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
from askers import anthropic_sdk, bare, openai_chat_sdk
from figures import Figure, Scale, Target
from in_turns import Best, Contender, Load, against, best_of
from own_askers import http_layer, provider, sessions
from recorded import CHAT, DELTA_BYTES, MESSAGES, record
from replaying import replaying

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from recorded import Recorded

DELTAS = 8
MANY = 1_000

LOADS: dict[Scale, tuple[Load, ...]] = {
    "full": (
        Load(clients=1, asks=200, rounds=3),
        Load(clients=100, asks=2, rounds=3, once=("bare, httpx",)),
        Load(clients=MANY, asks=1, rounds=2, once=("bare, httpx2", "openai")),
    ),
    "quick": (Load(clients=1, asks=50, rounds=1), Load(clients=100, asks=1, rounds=1)),
    "tiny": (Load(clients=1, asks=2, rounds=1), Load(clients=3, asks=1, rounds=1)),
}
MOST_CPU = Target(of="value", most=2_000)
MOST_RATIO = Target(of="ratio", most=1.5)


@attrs.frozen
class Row:
    """A figure: who is measured, beside whom."""

    name: str
    of: str
    floor: str
    target: Target | None = None


ROWS = (
    Row("chat provider on httpx", "provider, httpx", "bare, httpx", MOST_CPU),
    Row("  its HTTP layer alone", "layer, httpx", "bare, httpx"),
    Row("  through sessions", "sessions, httpx", "bare, httpx"),
    Row("chat provider on httpx2", "provider, httpx2", "bare, httpx2", MOST_RATIO),
    Row("  its HTTP layer alone", "layer, httpx2", "bare, httpx2"),
    Row("  through sessions", "sessions, httpx2", "bare, httpx2"),
    Row("  openai's own client", "openai", "bare, httpx2"),
    Row("anthropic provider on httpx2", "anthropic provider", "bare messages", MOST_RATIO),
    Row("  anthropic's own client", "anthropic", "bare messages"),
)
ROWS_OF_MANY = (
    # A bare client on httpx would take minutes.
    Row("chat on httpx; floor: httpx2", "provider, httpx", "bare, httpx2", MOST_CPU),
    Row("chat on httpx2", "provider, httpx2", "bare, httpx2", MOST_RATIO),
    Row("  through sessions", "sessions, httpx2", "bare, httpx2"),
    Row("  openai's own client", "openai", "bare, httpx2"),
)


def figures(scale: Scale, backend: str) -> list[Figure]:
    answers = record(DELTAS)
    contenders = _contenders(answers)
    found: list[Figure] = []
    with replaying({path: answer.at_once() for path, answer in answers.items()}) as url:
        for load in LOADS[scale]:
            rows = ROWS_OF_MANY if load.clients == MANY else ROWS
            names = {name: None for row in rows for name in (row.floor, row.of)}
            best = best_of({name: contenders[name] for name in names}, url, load, backend)
            found += _figures(rows, best, load.clients)
    return found


def _contenders(answers: Mapping[str, Recorded]) -> dict[str, Contender]:
    """All of them, by name; a reader of bytes sees the body, the others the text or the events."""
    text = DELTAS * DELTA_BYTES
    chat, messages = answers[CHAT], answers[MESSAGES]
    found = {
        "bare messages": Contender(partial(bare, MESSAGES, "httpx2"), messages.size),
        "anthropic provider": Contender(partial(provider, MESSAGES, "httpx2"), text),
        "anthropic": Contender(anthropic_sdk, text),
        "openai": Contender(openai_chat_sdk, text),
    }
    for library in ("httpx", "httpx2"):
        found |= {
            f"bare, {library}": Contender(partial(bare, CHAT, library), chat.size),
            f"layer, {library}": Contender(partial(http_layer, CHAT, library), len(chat.events)),
            f"provider, {library}": Contender(partial(provider, CHAT, library), text),
            f"sessions, {library}": Contender(partial(sessions, CHAT, library), text),
        }
    return found


def _figures(rows: Iterable[Row], best: Mapping[str, Best], clients: int) -> Iterator[Figure]:
    at_once = f"{clients:,} turn{'s' if clients > 1 else ''}"
    for row in rows:
        own, floor = best[row.of], best[row.floor]
        target = row.target if clients > 1 else None
        name = f"{at_once}, {row.name}" if row.name[0] != " " else row.name
        yield against(name, "us CPU", own.cpu_us, floor.cpu_us, target)
        if row.target is not None:
            yield against("  turns a second", "turns/s", own.per_second, floor.per_second)
