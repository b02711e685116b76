"""What a call under an idempotency key may have done, and what it may be told (G7).

The first one is a message like any other; its commit says that it came under the key. From then on
the key stands for that turn: the same message gives its answer, or runs it again where it was cut
off or failed in a way that may pass, and another message is refused. Calls under a key whose turn
waits or runs share its ticket: they do nothing themselves and are told the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.actors.errors import (
    ProviderError,
    TurnInterruptedError,
    TurnNotFoundError,
    WithdrawnError,
)

from .calls import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .calls import Call
    from .history import Done, Log, LoggedTurn, State


def key_of(call: Call) -> str:
    """The key that it came under; empty: none."""
    return call.step.key[:1]


def first_sharer(call: Call, calls: Sequence[Call]) -> Call:
    """The first of those who hold the same ticket."""
    if call.ticket is None:
        return call
    return next(other for other in calls if other.ticket is call.ticket)


def sharers(call: Call, calls: Sequence[Call]) -> list[Call]:
    """All who hold the same ticket, itself too."""
    if call.ticket is None:
        return [call]
    return [other for other in calls if other.ticket is call.ticket]


def check_sharers(first: Call, group: Sequence[Call]) -> list[str]:
    """Who shares a ticket is told the same."""
    found: list[str] = []
    for call in group:
        if (key_of(call), call.content) != (key_of(first), first.content):
            found.append(f"G7: {call} shares the ticket of {first}")
        elif call.step.verb == "post" and _is_taken_away(call):
            found.append(f"G9: somebody else took this message back: {call}")
    told = [call for call in group if call.outcome is Outcome.OK]
    if any(call.value != told[0].value for call in told):
        found.append(f"G7: other answers than {told[0].value!r} under one key")
    if told and any(call.error is not None for call in group):
        found.append(f"G7: errors beside {told[0].value!r} under one key: {list(map(str, group))}")
    return found


def _is_taken_away(call: Call) -> bool:
    return isinstance(call.error, WithdrawnError) and not call.withdrawn


def is_legitimate_conflict(call: Call, state: State, calls: Sequence[Call]) -> bool:
    """Whether the key stands for another message, or did when the call was made."""
    done = state.done.get(key_of(call))
    if done is not None:
        return done.content != call.content
    before = calls[: calls.index(call)]
    same = [each for each in before if key_of(each) and key_of(each) == key_of(call)]
    return call.ticket is None and any(each.content != call.content for each in same)


def runs_again(done: Done, state: State, log: Log) -> bool:
    """Whether the same message under that key is a turn in place of the one before."""
    turn = log.turns[done.turn_no]
    is_last = done.turn_no == state.last_turn_no
    return turn.may_pass and is_last and state.shows(turn.seq)


def told_by_the_first(call: Call, done: Done, state: State, log: Log) -> str | None:
    """What is wrong with what the caller was told without anything being done; None: nothing."""
    turn, error = log.turns[done.turn_no], call.error
    misfit: str | None = None
    if done.content != call.content:
        misfit = f"G7: the key stands for {done.content!r}"
    elif call.outcome is Outcome.OK:
        told = call.value.seq, call.value.content
        if turn.state != "completed" or told != (turn.seq + 1, turn.answer):
            misfit = f"G7: told {call.value!r} instead of the first result, {turn}"
    elif isinstance(error, TurnNotFoundError):
        misfit = _missing(done, state, turn)
    elif isinstance(error, ProviderError):
        expected = "interrupted" if isinstance(error, TurnInterruptedError) else "failed"
        misfit = None if turn.state == expected else f"G7: told {error!r} of {turn}"
    return misfit


def _missing(done: Done, state: State, turn: LoggedTurn) -> str | None:
    cleared = turn.seq <= state.cleared_through
    hidden = turn.may_pass and done.turn_no == state.last_turn_no and not state.shows(turn.seq)
    return None if cleared or hidden else f"G7: told that {turn} is missing"
