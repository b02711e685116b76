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

import math
from collections import Counter
from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.errors import (
    CapacityError,
    DeadlineExceededError,
    IdempotencyConflictError,
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
    TurnNotFoundError,
    TurnStateError,
    WithdrawnError,
)
from langswarm.core.session.actors.model import SessionStatus

from .calls import Outcome
from .following import check_views
from .guests import answer_to
from .history import Log
from .keys import (
    check_sharers,
    first_sharer,
    is_legitimate_conflict,
    key_of,
    runs_again,
    sharers,
    told_by_the_first,
)
from .process import PlannedCrashError
from .program import ADDED, AGAIN, MIDDLEWARE, SHOWING, TALKING
from .workload import WRITES

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import Role

    from .calls import Call, Read
    from .guests import Asked
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
    forks = {fork.name for fork in world.forks}
    counted = Counter[str](total_sessions=sum(map(bool, map(world.disk.written, forks))))
    for number in range(world.program.settings.sessions):
        session_id = f"s{number}"
        log = Log(session_id, world.disk.journal.get(session_id, ()))
        found += log.violations
        found += Explanation(world, log).violations
        found += check_views(world, log)
        found += _check_forks(world, log)
        counted.update(_usage_of(log))
        for read in world.reads:
            if read.session_id == session_id:
                found += _check_read(read, log)
    found += [
        f"G5: the figures have {name}={getattr(world.usage, name)}, it were {number}"
        for name, number in counted.items()
        if getattr(world.usage, name) != number
    ]
    return found + _check_tidyings(world)


class Explanation:
    """Reads the commits of one session as the work of its calls."""

    def __init__(self, world: World, log: Log) -> None:
        self._world = world
        self._log = log
        self.violations: list[str] = []
        self._rejected: list[str] = []
        self._calls = [call for call in world.calls if call.session_id == log.session_id]
        positions = self._tidied({1})  # the creation
        for call in self._calls:
            if first_sharer(call, self._calls) is not call:
                continue
            self.violations += check_sharers(call, sharers(call, self._calls))
            following = {end for start in positions for end in self._explain(call, start)}
            if not following:
                self._unexplained(call, positions)
                return
            positions = self._tidied(following)
        if len(log.effects) not in positions:
            rest = log.effects[max(positions) :]
            text = f"G4: lost or doubled: no call explains {rest} of {log}"
            self.violations.append(f"{text} {self._rejected or ''}")

    def _tidied(self, positions: set[int]) -> set[int]:
        """And where they are after clean-ups, which take their places between the calls."""
        found = set(positions)
        for place in positions:
            effect, before = self._log.effect(place), self._log.states[place]
            if effect is not None and effect.kind == "archived":
                facts = self._log.session_id, place, before.updated_us
                if any(tidying.may_archive(*facts) for tidying in self._world.tidyings):
                    found.add(place + 1)
        return found

    def _unexplained(self, call: Call, positions: set[int]) -> None:
        place = max(positions)
        there = self._log.effect(place)
        status = self._log.states[place].status.value
        self.violations.append(
            f"no commit fits the call {call} after {place} commits ({status}), where {there} is; "
            f"{self._log} {self._rejected or ''}"
        )

    def _explain(self, call: Call, start: int) -> set[int]:
        """Where the commits of the call may end if they begin at `start`."""
        told = self._told(call)
        if isinstance(told.error, SessionArchivedError):
            archived = self._log.states[start].status is SessionStatus.ARCHIVED
            return {start} if archived else set()
        if isinstance(told.error, TurnStateError | TurnNotFoundError) and not key_of(call):
            return {start} if self._has_nothing_to_replay(told, start) else set()
        if key_of(call):
            return self._explain_keyed(call, told, start)
        if call.step.verb in {*TALKING, *AGAIN}:
            return self._explain_turn(told, start)
        if call.step.verb == "make":
            return {start} if _refused_creation(call) else set()
        return self._explain_change(call, start)

    def _told(self, call: Call) -> Call:
        """Of those who share its ticket the one that was told most."""
        group = sharers(call, self._calls)
        told = [each for each in group if each.outcome in {Outcome.OK, Outcome.ERROR}]
        withdrawn = [each for each in group if each.withdrawn]
        return attrs.evolve((told or withdrawn or [call])[0], begun_at=call.begun_at)

    # ------------------------------------------------------------ turns

    def _has_nothing_to_replay(self, call: Call, start: int) -> bool:
        state = self._log.states[start]
        turn = self._log.turns.get(state.last_turn_no)
        if isinstance(call.error, TurnStateError):
            is_done = turn is not None and turn.state == COMPLETED
            return call.step.verb == "retry" and is_done
        return turn is None or not state.shows(turn.seq)

    def _explain_keyed(self, call: Call, told: Call, start: int) -> set[int]:
        state = self._log.states[start]
        if isinstance(told.error, IdempotencyConflictError):
            return {start} if is_legitimate_conflict(call, state, self._calls) else set()
        done = state.done.get(key_of(call))
        if done is None:
            return self._explain_turn(told, start)
        same = done.content == call.content
        if same and runs_again(done, state, self._log):
            return self._explain_turn(told, start)
        misfit = told_by_the_first(told, done, state, self._log)
        if misfit is not None and told.outcome in {Outcome.OK, Outcome.ERROR}:
            may_be_nothing, _ = _ways_of_turn(told)
            if not may_be_nothing:
                self._rejected.append(misfit)
                return set()
        return {start}

    def _explain_turn(self, call: Call, start: int) -> set[int]:
        may_be_nothing, closes = _ways_of_turn(call)
        ends = {start} if may_be_nothing else set[int]()
        if not self._is_opened_by(call, start):
            return ends
        place = start + 1
        while (closed := self._log.effect(place)) is not None and closed.kind == "checkpoint":
            place += 1
        if closed is not None and closed.kind == "close" and closed.text in closes:
            told = len(self.violations)
            self._check_turn(call, start, closed, place + 1)
            if call.step.verb in AGAIN or key_of(call):
                # It has no text of its own, so this may be the turn of another call.
                misfits = self.violations[told:]
                del self.violations[told:]
                self._rejected += misfits
                if misfits:
                    return ends
            ends.add(place + 1)
        return ends

    def _is_opened_by(self, call: Call, start: int) -> bool:
        """Whether the commit there begins the turn of this call."""
        opened, state = self._log.effect(start), self._log.states[start]
        if opened is None or opened.kind not in {"open", "again"} or opened.key != key_of(call):
            return False
        if call.step.verb in AGAIN:
            turn = self._log.turns.get(state.last_turn_no)
            is_done = turn is not None and turn.state == COMPLETED
            return opened.kind == "again" and not (call.step.verb == "retry" and is_done)
        is_repeated = bool(opened.key) and opened.key in state.done
        expected = "again" if is_repeated else "open"
        return (opened.kind, opened.text) == (expected, call.content)

    def _check_turn(self, call: Call, start: int, closed: Effect, end: int) -> None:
        before, state = self._log.states[start : start + 2]
        turn_id = f"{self._log.session_id}/{state.last_turn_no}"
        question, conversation = state.messages[-1].content, before.conversation
        if before.is_full():
            conversation = None
        if self._log.effects[start].kind == "again":
            before, conversation = before.without_turn(before.last_turn_no), None
        expected = before.prompt(question)
        asked = self._world.evidence.asked.get(turn_id)
        if asked is not None:
            if asked.prompt != expected:
                self._bad(f"G4: the provider was asked {asked.prompt}, not {expected}", call)
            if asked.resumed != conversation:
                self._bad(f"G4: went on with {asked.resumed!r}, not {conversation!r}", call)
        self._check_answer(call, closed, answer_to(turn_id, expected))
        if closed.text == INTERRUPTED:
            self._check_partial_answer(call, closed.answer or "", asked)
        self._check_in_time(call, turn_id, asked)
        self._check_halt(call, state.last_turn_no, start)
        self._check_context(call, before, (turn_id, question))
        for misfit in self._misfits(call, start, end):
            self._bad(misfit, call)

    def _check_answer(self, call: Call, closed: Effect, answer: str) -> None:
        if closed.text == COMPLETED and closed.answer != answer:
            self._bad(f"G5: the answer {closed.answer!r} is stored, not {answer!r}", call)
        if call.outcome is Outcome.OK and (call.value.seq, call.value.content) != (
            closed.seq,
            closed.answer,
        ):
            self._bad(f"G1: told {call.value!r}, stored was {closed}", call)

    def _check_partial_answer(self, call: Call, stored: str, asked: Asked | None) -> None:
        """All that was said; of a process that was killed, what was said before a checkpoint."""
        said = "" if asked is None else asked.text()
        if not said.startswith(stored):
            self._bad(f"G9: the partial answer {stored!r} of {said!r}", call)
        if _was_interrupted(call.error) and stored != said:
            self._bad(f"G9: interrupted, the answer is {stored!r} and not {said!r}", call)
        settings = self._world.program.settings
        sees_all = not settings.guests & MIDDLEWARE or settings.guests & SHOWING
        died_at = None if asked is None else self._world.deaths.get(asked.process)
        is_stored = all(fault.method not in WRITES for fault in settings.faults)
        is_prompt = settings.check and not settings.latency and is_stored
        if asked is None or died_at is None or asked.ended_at < died_at:
            return  # its text is with the middleware, or stored
        if sees_all and is_prompt:
            least = asked.text(before=died_at - settings.check - 1e-6)
            if not stored.startswith(least):
                self._bad(f"G5: killed, the answer is {stored!r} and not even {least!r}", call)

    def _check_in_time(self, call: Call, turn_id: str, asked: Asked | None) -> None:
        """After its timeout nothing begins; a provider that hears of it ends."""
        if call.deadline == math.inf or self._world.program.settings.latency:
            return
        opened_at = self._world.disk.opened_at[turn_id]
        if opened_at > call.deadline:
            self._bad(f"G11: opened at {opened_at}, the timeout was at {call.deadline}", call)
        if asked is not None and call.deadline < asked.ended_at < math.inf:
            self._bad(f"G11: asked until {asked.ended_at}, timeout {call.deadline}", call)

    def _check_halt(self, call: Call, turn_no: int, start: int) -> None:
        """Who was stopped is who ran when stop() was called, and had ended when it returned."""
        halts = [
            halt
            for halt in self._world.halts
            if (halt.session_id, halt.turn_no) == (self._log.session_id, turn_no)
        ]
        turn = self._log.turns[turn_no]
        late = turn.closed is None or any(halt.told_at <= turn.closed for halt in halts)
        if halts and late and not turn.is_lost:
            self._bad(f"G9: stop() returned before the turn had ended: {halts}", call)
        stopped = _was_interrupted(call.error) and "stop() was called" in str(call.error)
        if stopped and not halts and call.process not in self._world.deaths:
            self._bad(f"G9: nobody stopped turn {turn_no}, opened by commit {start}", call)

    def _check_context(self, call: Call, state: State, turn: tuple[str, str]) -> None:
        seen = self._world.evidence.contexts.get(turn)
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
        if call.step.verb == "rew":
            kind = "rewound"
        ends = {start} if may_be_nothing else set[int]()
        effect = self._log.effect(start)
        if may_be_done and effect is not None and effect.kind == kind:
            text = {
                **dict.fromkeys(ADDED, call.content),
                "put": call.content,
                "conf": str(int(call.step.value or 1)),
                "rewound": str(int(call.step.value or 0)),
            }
            if effect.text == text.get(kind, "") and self._fits_the_answer(call, start, kind):
                ends.add(start + 1)
        return ends

    def _fits_the_answer(self, call: Call, start: int, kind: str) -> bool:
        """Updates and notes are one of a kind: theirs must fit. Another may be somebody else's."""
        misfits = self._misfits(call, start, start + 1)
        if kind in {*ADDED, "put"}:
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
    return _ways_of_failed_turn(call.error, veto=call.step.how == "veto" or call.step.verb in AGAIN)


def _ways_of_failed_turn(error: Exception, *, veto: bool) -> tuple[bool, set[str]]:
    match error:
        case TurnInterruptedError() | DeadlineExceededError():
            is_stored = "in the history" in str(error)
            return not is_stored, {INTERRUPTED} if is_stored else set()
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


def _was_interrupted(error: BaseException | None) -> bool:
    """The caller was told so, by a process that lived on."""
    told = isinstance(error, TurnInterruptedError | DeadlineExceededError)
    return told and "was interrupted" in str(error)


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


def _check_forks(world: World, log: Log) -> list[str]:
    """A copy is what the session was at one moment, without the turn that ran (G5)."""
    found: list[str] = []
    for fork in world.forks:
        writes = world.disk.journal.get(fork.name, ())
        if fork.session_id != log.session_id or not writes:
            continue
        copied = [(each.role, each.content, each.finish_reason) for each in writes[0].messages]
        moments = log.states[fork.begun_at : fork.ended_at + 1]
        if all(copied != _prefix(state, fork.at) for state in moments):
            lines = moments[-1].lines()
            found.append(f"G5: the copy {fork} has {copied}, the history was {lines}")
    return found


def _prefix(state: State, at: int | None) -> list[tuple[Role, str, str | None]]:
    return [
        (message.role, message.content, message.finish_reason)
        for message in state.messages
        if (at is None or message.seq <= at)
        and not (state.open_turn_no and message.turn_no == state.open_turn_no)
    ]


def _usage_of(log: Log) -> dict[str, int]:
    """What the figures must have of the session: all that ever happened to it."""
    counters = attrs.asdict(log.states[-1].counters)
    del counters["response_us"]
    return {"total_sessions": 1, **counters}


def _check_tidyings(world: World) -> list[str]:
    """Who was told that so many were archived: they are (G3)."""
    found: list[str] = []
    for tidying in world.tidyings:
        most = world.program.settings.sessions + len(world.forks)
        if tidying.told_at is not None and not tidying.is_dry:
            writes = world.disk.writes[tidying.first_write : tidying.last_write]
            most = sum(write.after.record.status is SessionStatus.ARCHIVED for write in writes)
        if tidying.count > most:
            found.append(f"G3: {tidying}, it were {most}")
    return found
