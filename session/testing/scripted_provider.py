"""A provider that does what a test says: answers, waits, fails, hangs or is cut off.

The mock provider is for demonstrations and is steered through a session. This one is for tests: it
belongs to the test, is scripted in Python, records what it was asked, and gives way to other tasks
at every chunk, so that :func:`~langswarm.core.session.testing.simulate` finds schedules in it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import anyio
import anyio.lowlevel
from langswarm.core.session.actors.ports import Completed, IProvider, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from langswarm.core.session.actors.ports import ProviderEvent, ProviderRequest

    Script = Callable[[ProviderRequest], "ScriptedTurn | str"]

End = Literal["complete", "truncate", "hang"]


@dataclass(frozen=True, kw_only=True)
class ScriptedTurn:
    """How one request is answered.

    Attributes:
        text: what is streamed before the end.
        chunks: in how many deltas; an empty text has none.
        latency_seconds: how long it takes to begin.
        chunk_seconds: how long it takes from one delta to the next.
        end: what comes after the text. "complete": a ``Completed`` event. "truncate": nothing, as
            when a connection is cut. "hang": nothing ever, until it is cancelled. An exception is
            raised: a ``ProviderError`` of any code, or whatever a provider's bug might raise.
        input_tokens, output_tokens: what ``Completed`` says.
        provider_session_id: the provider's own conversation that ``Completed`` names.
    """

    text: str = ""
    chunks: int = 1
    latency_seconds: float = 0.0
    chunk_seconds: float = 0.0
    end: End | Exception = "complete"
    input_tokens: int = 0
    output_tokens: int = 0
    provider_session_id: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be."""
        if self.chunks < 1:
            raise ValueError(f"chunks={self.chunks}: there must be 1 or more")
        if not isinstance(self.end, Exception) and self.end not in get_args(End):
            raise ValueError(f"end={self.end!r}: it must be an exception or one of {get_args(End)}")

    def pieces(self) -> list[str]:
        """The deltas; as many as ``chunks``, or one for each character of a shorter text."""
        count = min(self.chunks, len(self.text))
        bounds = [len(self.text) * number // count for number in range(count + 1)] if count else []
        return [self.text[a:b] for a, b in pairwise(bounds)]


class ScriptedProvider(IProvider):
    """Answers by a script.

    Args:
        script: a function from the request to a :class:`ScriptedTurn` or to the text of a plain
            answer; or turns and texts, one for each request in the order in which they arrive, over
            all sessions. What such a list does not foresee fails with code ``internal``.

    Attributes:
        requests: what it was asked, in order.
        running: the sessions that have a turn with it now.
        violations: sessions that had two turns at once, which G2 forbids; keep it empty.
    """

    def __init__(self, script: Script | Iterable[ScriptedTurn | str]) -> None:
        if isinstance(script, str):
            raise TypeError(
                f"the script is the text {script!r}; give a list of answers, [{script!r}], or a "
                "function of the request"
            )
        self._script = script if callable(script) else _one_by_one(script)
        self.requests: list[ProviderRequest] = []
        self.running: Counter[str] = Counter()
        self.violations: list[str] = []

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        self._begin(request)
        try:
            turn = _as_turn(self._script(request))
            await _pass(turn.latency_seconds)
            for number, piece in enumerate(turn.pieces()):
                await _pass(turn.chunk_seconds if number else 0.0)
                yield TextDelta(piece)
            await _pass(0.0)
            if isinstance(turn.end, Exception):
                raise turn.end
            if turn.end == "hang":
                await anyio.sleep_forever()
            if turn.end == "complete":
                yield Completed(
                    input_tokens=turn.input_tokens,
                    output_tokens=turn.output_tokens,
                    provider_session_id=turn.provider_session_id,
                )
        finally:
            self._end(request)

    def _begin(self, request: ProviderRequest) -> None:
        self.requests.append(request)
        self.running[request.session_id] += 1
        if self.running[request.session_id] > 1:
            self.violations.append(f"G2: {request.session_id} has two turns at once")

    def _end(self, request: ProviderRequest) -> None:
        self.running[request.session_id] -= 1
        if not self.running[request.session_id]:
            del self.running[request.session_id]


def _as_turn(answer: object) -> ScriptedTurn:
    if isinstance(answer, str):
        return ScriptedTurn(text=answer)
    if isinstance(answer, ScriptedTurn):
        return answer
    raise TypeError(f"the script has {answer!r} for a request, not a ScriptedTurn or a text")


async def _pass(seconds: float) -> None:
    """A schedule point, and time."""
    await anyio.lowlevel.checkpoint()
    if seconds:
        await anyio.sleep(seconds)


def _one_by_one(turns: Iterable[ScriptedTurn | str]) -> Script:
    remaining = iter(turns)

    def next_turn(request: ProviderRequest) -> ScriptedTurn | str:
        for turn in remaining:
            return turn
        raise LookupError(f"the script has no turn left for {request.messages[-1].content!r}")

    return next_turn
