"""What a write adds to the figures of its day. Plain functions, part of each decision."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from .model import LATENCY_BOUNDS_MS, Role, TurnState, UsageRecord

if TYPE_CHECKING:
    from .model import SessionRecord, TurnRecord

_US_PER_DAY = 24 * 3600 * 1_000_000


def day_of(moment_us: int) -> int:
    """Days since the epoch, UTC."""
    return moment_us // _US_PER_DAY


def _latencies(response_us: int) -> tuple[int, ...]:
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    counts[bisect_left(LATENCY_BOUNDS_MS, response_us / 1000)] = 1
    return tuple(counts)


_NONE = (0,) * (len(LATENCY_BOUNDS_MS) + 1)


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
        latencies=_latencies(response_us) if completed else _NONE,
    )
