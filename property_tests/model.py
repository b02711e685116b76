"""The promises as an executable model: do the commits explain what the callers were told?

All calls to a session, in ticket order, must explain its commits, in commit order, without a rest:
each call stands for the commits that its outcome allows, and nothing else may be there. A caller
that was told "ok" has its commits, all of them before it was told (G3); one that was refused has
none (G9, G11); one whose process died may have some, but never half a turn (G4, G5). Where several
explanations are possible (a process died in mid-call), all are followed.

What a call saw and was told is compared with the state that the commits before it left: context
(G6), prompt and answer (G4), seq (G1), status (G8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langswarm.core.session.actors.errors import (
    CapacityError,
    MailboxFullError,
    MessageRefused,
    MiddlewareError,
    ProviderError,
    RuntimeBugError,
    RuntimeClosedError,
    SessionArchivedError,
    SessionExistsError,
    SessionQuarantinedError,
    StorageError,
    TurnInterruptedError,
    WithdrawnError,
)
from langswarm.core.session.actors.model import SessionStatus

from .calls import Outcome
from .guests import answer_to, pieces_of
from .history import Log
from .process import PlannedCrashError
from .program import TALKING

if TYPE_CHECKING:
    from .calls import Call, Read
    from .history import Effect, State
    from .world import World

COMPLETED, FAILED, INTERRUPTED = "completed", "failed", "interrupted"
_NEVER_RAN = (
    WithdrawnError,
    MailboxFullError,
    CapacityError,
    RuntimeClosedError,
    SessionQuarantinedError,
    SessionArchivedError,
)
_EFFECTS = {"clear": "cleared", "arch": "archived", "open": "reopened"}


def violations_of(world: World) -> list[str]:
    """Everything in which this run broke a promise."""
    found = list(world.violations)
    for number in range(world.program.settings.sessions):
        session_id = f"s{number}"
        log = Log(session_id, world.disk.journal.get(session_id, ()))
        found += log.violations
        found += Explanation(world, log).violations
        for read in world.reads:
            if read.session_id == session_id:
                found += _check_read(read, log)
    return found


class Explanation:
    """Reads the commits of one session as the work of its calls."""

    def __init__(self, world: World, log: Log) -> None:
        self._world = world
        self._log = log
        self.violations: list[str] = []
        positions = {1}  # the creation
        for call in world.calls:
            if call.session_id != log.session_id:
                continue
            following = {end for start in positions for end in self._explain(call, start)}
            if not following:
                self._unexplained(call, positions)
                return
            positions = following
        if len(log.effects) not in positions:
            rest = log.effects[max(positions) :]
            self.violations.append(f"G4: lost or doubled: no call explains {rest} of {log}")

    def _unexplained(self, call: Call, positions: set[int]) -> None:
        place = max(positions)
        there = self._log.effect(place)
        status = self._log.states[place].status.value
        self.violations.append(
            f"no commit fits the call {call} after {place} commits ({status}), where {there} is; "
            f"{self._log}"
        )

    def _explain(self, call: Call, start: int) -> set[int]:
        """Where the commits of the call may end if they begin at `start`."""
        if isinstance(call.error, SessionArchivedError):
            archived = self._log.states[start].status is SessionStatus.ARCHIVED
            return {start} if archived else set()
        if call.step.verb in TALKING:
            return self._explain_turn(call, start)
        if call.step.verb == "make":
            return {start} if _refused_creation(call) else set()
        return self._explain_change(call, start)

    # ------------------------------------------------------------ turns

    def _explain_turn(self, call: Call, start: int) -> set[int]:
        may_be_nothing, closes = _ways_of_turn(call)
        ends = {start} if may_be_nothing else set[int]()
        opened = self._log.effect(start)
        if opened is None or opened.kind != "open" or opened.text != call.content:
            return ends
        place = start + 1
        while (closed := self._log.effect(place)) is not None and closed.kind == "checkpoint":
            place += 1
        if closed is not None and closed.kind == "close" and closed.text in closes:
            self._check_turn(call, start, closed, place + 1)
            ends.add(place + 1)
        return ends

    def _check_turn(self, call: Call, start: int, closed: Effect, end: int) -> None:
        state = self._log.states[start]
        expected = state.prompt(call.content)
        asked = self._world.prompts.get(call.content)
        if asked is not None:
            if asked != expected:
                self._bad(f"G4: the provider was asked {asked}, not {expected}", call)
            resumed = self._world.resumed.get(call.content)
            if resumed != state.conversation:
                self._bad(f"G4: went on with {resumed!r}, not {state.conversation!r}", call)
        self._check_answer(call, closed, answer_to(expected))
        self._check_context(call, state)
        for misfit in self._misfits(call, start, end):
            self._bad(misfit, call)

    def _check_answer(self, call: Call, closed: Effect, answer: str) -> None:
        if closed.text == COMPLETED and closed.answer != answer:
            self._bad(f"G5: the answer {closed.answer!r} is stored, not {answer!r}", call)
        if closed.text == INTERRUPTED and closed.answer is not None:
            pieces = pieces_of(answer)
            if closed.answer not in {"".join(pieces[:count]) for count in range(len(pieces) + 1)}:
                self._bad(f"G9: the partial answer {closed.answer!r}", call)
        if call.outcome is Outcome.OK and (call.value.seq, call.value.content) != (
            closed.seq,
            closed.answer,
        ):
            self._bad(f"G1: told {call.value!r}, stored was {closed}", call)

    def _check_context(self, call: Call, state: State) -> None:
        seen = self._world.contexts.get(call.content)
        if seen is None:
            return
        if (seen[0], set(seen[1])) != (state.context_version, set(state.context_keys)):
            expected = (state.context_version, state.context_keys)
            self._bad(f"G6: the turn saw the context {seen}, not {expected}", call)

    # ------------------------------------------------------------ everything else

    def _explain_change(self, call: Call, start: int) -> set[int]:
        may_be_nothing, may_be_done = _ways_of_change(call)
        kind = _EFFECTS.get(call.step.verb, call.step.verb)
        status = self._log.states[start].status.value
        if may_be_done and kind == ("archived" if status == "archived" else "reopened"):
            return {start}  # it had that status already, so there was nothing to write
        ends = {start} if may_be_nothing else set[int]()
        effect = self._log.effect(start)
        if may_be_done and effect is not None and effect.kind == kind:
            text = {
                "note": call.content,
                "put": call.content,
                "conf": str(int(call.step.value or 1)),
            }
            if effect.text == text.get(kind, "") and self._fits_the_answer(call, start, kind):
                ends.add(start + 1)
        return ends

    def _fits_the_answer(self, call: Call, start: int, kind: str) -> bool:
        """Updates and notes are one of a kind: theirs must fit. Another may be somebody else's."""
        misfits = self._misfits(call, start, start + 1)
        if kind in {"note", "put"}:
            for misfit in misfits:
                self._bad(misfit, call)
            return True
        return not misfits

    # ------------------------------------------------------------ what callers were told, and when

    def _misfits(self, call: Call, start: int, end: int) -> list[str]:
        if start < call.begun_at:
            return ["a call was done before it was made"]
        if call.outcome is Outcome.OK and call.told_at < end:
            return [f"G3: the caller was told after {call.told_at} commits, it took {end}"]
        if call.outcome is Outcome.OK and call.header_revision < end:
            return [f"G3: the handle showed revision {call.header_revision}, not {end}"]
        return []

    def _bad(self, text: str, call: Call) -> None:
        self.violations.append(f"{text}; {call} in {self._log}")


def _ways_of_turn(call: Call) -> tuple[bool, set[str]]:
    """Whether the call may have left nothing, and how its turn may have ended else."""
    if call.withdrawn:
        return True, set()
    if call.outcome is Outcome.OK:
        return False, {COMPLETED}
    if call.error is None:
        return True, {COMPLETED, FAILED, INTERRUPTED}
    return _ways_of_failed_turn(call.error, veto=call.step.how == "veto")


def _ways_of_failed_turn(error: Exception, *, veto: bool) -> tuple[bool, set[str]]:
    match error:
        case TurnInterruptedError():
            return False, {INTERRUPTED}
        case ProviderError():
            return False, {FAILED}
        case MessageRefused():
            return (False, {FAILED}) if veto else (True, set())
        case StorageError():
            # The question may be stored although the end of its turn could not be.
            unknown = {COMPLETED} if error.outcome == "unknown" else set[str]()
            return True, {FAILED, INTERRUPTED} | unknown
        case _:
            never_ran = isinstance(error, (*_NEVER_RAN, MiddlewareError)) or _is_planned(error)
            return never_ran, set()


def _ways_of_change(call: Call) -> tuple[bool, bool]:
    """Whether the call may have done nothing, and whether it may have been done."""
    error = call.error
    if call.outcome is Outcome.OK:
        return False, True
    if call.outcome is not Outcome.ERROR:
        return True, True
    if isinstance(error, StorageError):
        return True, error.outcome == "unknown"
    return isinstance(error, _NEVER_RAN) or _is_planned(error), False


def _is_planned(error: BaseException | None) -> bool:
    """An actor that a program crashed may say that it failed; no other may."""
    return isinstance(error, RuntimeBugError) and isinstance(error.__cause__, PlannedCrashError)


def _refused_creation(call: Call) -> bool:
    if call.outcome is not Outcome.ERROR:
        return call.outcome is not Outcome.OK
    return isinstance(call.error, (SessionExistsError, StorageError, *_NEVER_RAN))


def _check_read(read: Read, log: Log) -> list[str]:
    """A read shows the session as it was at one moment while it ran: never older, never half."""
    found: list[str] = []
    moments = log.states[read.begun_at : read.ended_at + 1]
    if all(read.lines != state.lines() for state in moments):
        found.append(f"G3: a read gave {read.lines}, the history was {moments[-1].lines()}")
    contexts = [(state.context_version, set(state.context_keys)) for state in moments]
    if (read.context[0], set(read.context[1])) not in contexts:
        found.append(f"G6: a read gave the context {read.context}, which was {contexts[-1]}")
    if read.total not in {state.total() for state in moments}:
        found.append(f"G5: a read counted {read.total} messages, not {moments[-1].total()}")
    return found
