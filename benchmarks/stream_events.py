"""What an event of a streamed answer costs: CPU of this process, all layers included.

The floor of each is a bare client of the same library that reads the same bytes and looks at none
of them. The server is in a process of its own and sends as told: each event when the one before
has long been read, all of them at once, or several in one chunk of HTTP.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import attrs
from askers import (
    anthropic_sdk,
    bare,
    httpx_sse_reader,
    openai_chat_sdk,
    openai_responses_sdk,
)
from in_turns import Contender, Load, against, best_of
from own_askers import http_layer, provider
from recorded import CHAT, DELTA_BYTES, MESSAGES, RESPONSES, Recorded, record
from replaying import replaying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from askers import Open
    from figures import Figure, Scale

PAUSE_SECONDS = 0.002
PER_CHUNK = 10


@attrs.frozen
class Sizes:
    """How many streams at once, of how many deltas, how often."""

    streams: int
    deltas: int
    rounds: int


SIZES: dict[Scale, Sizes] = {
    "full": Sizes(streams=10, deltas=60, rounds=3),
    "quick": Sizes(streams=10, deltas=50, rounds=1),
    "tiny": Sizes(streams=2, deltas=5, rounds=1),
}


@attrs.frozen
class Row:
    """A figure: who reads the answers of which path, and on which library its floor is."""

    name: str
    path: str
    open: Open
    library: str = "httpx2"
    sees: Literal["events", "text"] = "text"

    @property
    def floor(self) -> str:
        """The name of its floor."""
        return f"{self.path} on {self.library}"


def _layer(library: str) -> Row:
    opened = partial(http_layer, CHAT, library)
    return Row(f"chat: HTTP layer on {library}", CHAT, opened, library, "events")


def _provider(name: str, path: str, library: str) -> Row:
    return Row(f"{name}: provider on {library}", path, partial(provider, path, library), library)


ROWS = (
    _layer("httpx"),
    Row("chat: httpx-sse on httpx", CHAT, partial(httpx_sse_reader, CHAT), "httpx", "events"),
    _provider("chat", CHAT, "httpx"),
    _layer("httpx2"),
    _provider("chat", CHAT, "httpx2"),
    Row("chat: openai's own client", CHAT, openai_chat_sdk),
    _provider("responses", RESPONSES, "httpx2"),
    Row("responses: openai's own client", RESPONSES, openai_responses_sdk),
    _provider("messages", MESSAGES, "httpx2"),
    Row("messages: anthropic's own client", MESSAGES, anthropic_sdk),
)
ROWS_AT_ONCE = tuple(row for row in ROWS if row.path == CHAT)


@attrs.frozen
class Way:
    """How the events come."""

    name: str
    pieces: Callable[[Recorded], list[bytes]]
    pause: float
    rows: tuple[Row, ...]


WAYS = (
    Way("paced", Recorded.pieces, PAUSE_SECONDS, ROWS),
    Way("burst", Recorded.at_once, 0.0, ROWS_AT_ONCE),
    Way("joined", partial(Recorded.at_once, per_chunk=PER_CHUNK), 0.0, ROWS_AT_ONCE),
)


def figures(scale: Scale, backend: str) -> list[Figure]:
    sizes = SIZES[scale]
    load = Load(clients=sizes.streams, asks=1, rounds=sizes.rounds)
    answers = record(sizes.deltas)
    found: list[Figure] = []
    for way in WAYS:
        contenders = _contenders(way.rows, answers, sizes.deltas * DELTA_BYTES)
        pieces = {path: way.pieces(answer) for path, answer in answers.items()}
        with replaying(pieces, pause=way.pause) as url:
            best = best_of(contenders, url, load, backend)
        for row in way.rows:
            events = len(answers[row.path].events)
            own, floor = best[row.name].cpu_us / events, best[row.floor].cpu_us / events
            found.append(against(f"{way.name}, {row.name}", "us CPU", own, floor))
    return found


def _contenders(
    rows: Iterable[Row], answers: Mapping[str, Recorded], characters: int
) -> dict[str, Contender]:
    found: dict[str, Contender] = {}
    for row in rows:
        answer = answers[row.path]
        found[row.floor] = Contender(partial(bare, row.path, row.library), answer.size)
        sees = len(answer.events) if row.sees == "events" else characters
        found[row.name] = Contender(row.open, sees)
    return found
