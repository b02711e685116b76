"""What a write adds to the figures of its day. Plain functions, part of each decision."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from .model import LATENCY_BOUNDS_MS, Role, TurnState, UsageRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import SessionRecord, TurnRecord

_US_PER_DAY = 24 * 3600 * 1_000_000


def day_of(moment_us: int) -> int:
    """Days since the epoch, UTC."""
    return moment_us // _US_PER_DAY


_CLASSES = len(LATENCY_BOUNDS_MS) + 1
_NONE = (0,) * _CLASSES


_ONE_OF = tuple(tuple(int(place == own) for place in range(_CLASSES)) for own in range(_CLASSES))
"""One turn of each class."""


def read_latencies(counted: str) -> tuple[int, ...]:
    """The counts of a record's `latencies`, by the classes of LATENCY_BOUNDS_MS."""
    return tuple(map(int, counted.split())) if counted else _NONE


def with_latency(counted: str, response_us: int) -> str:
    """The counts, separated by spaces, after one more turn; "" are none."""
    counts = counted.split() or ["0"] * _CLASSES
    place = bisect_left(LATENCY_BOUNDS_MS, response_us / 1000)
    counts[place] = str(int(counts[place]) + 1)
    return " ".join(counts)


def percentile_ms(latencies: Sequence[int], share: float) -> float:
    """The answer time that `share` of the turns did not exceed, in ms; 0.0 if there were none.

    From classes: the upper bound of the class that holds it, so up to twice too high; of the
    last class, which has none, the bound below it.
    """
    wanted = share * sum(latencies)
    if not wanted:
        return 0.0
    seen = 0
    for place, count in enumerate(latencies):
        seen += count
        if seen >= wanted:
            return float(LATENCY_BOUNDS_MS[min(place, _CLASSES - 2)])
    return float(LATENCY_BOUNDS_MS[-1])


def usage_of_creation(record: SessionRecord) -> UsageRecord:
    """One more session. The messages that it begins with were written elsewhere or before."""
    return UsageRecord(
        day=day_of(record.updated_us),
        user_id=record.user_id,
        provider=record.provider,
        model=record.model,
        sessions=1,
    )


def usage_of_message(record: SessionRecord, role: Role, now_us: int) -> UsageRecord:
    """One message outside of turns."""
    return UsageRecord(
        day=day_of(now_us),
        user_id=record.user_id,
        provider=record.provider,
        model=record.model,
        user_messages=int(role is Role.USER),
        assistant_messages=int(role is Role.ASSISTANT),
        system_messages=int(role is Role.SYSTEM),
    )


def usage_of_turn(record: SessionRecord, turn: TurnRecord, *, answered: bool) -> UsageRecord:
    """A turn that has ended, question and answer; it belongs to the day on which it ended."""
    completed = turn.state is TurnState.COMPLETED
    response_us = max(0, turn.closed_us - turn.opened_us) if completed else 0
    return UsageRecord(
        day=day_of(turn.closed_us),
        user_id=record.user_id,
        provider=record.provider,
        model=record.model,
        user_messages=1,
        assistant_messages=int(answered),
        completed_turns=int(completed),
        failed_turns=int(turn.state is TurnState.FAILED),
        interrupted_turns=int(turn.state is TurnState.INTERRUPTED),
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        response_us=response_us,
        latencies=_ONE_OF[bisect_left(LATENCY_BOUNDS_MS, response_us / 1000)]
        if completed
        else _NONE,
    )
