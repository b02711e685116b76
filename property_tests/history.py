"""A session's history as its commits tell it, each commit checked on the way (G1, G5).

`Log.states[n]` is the session after n commits: whatever the runtime shows or does must fit one of
these states.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.model import Counters, Role, SessionStatus, TurnState

from .guests import conversation_of
from .program import ADDED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langswarm.core.session.actors.model import (
        MessageRecord,
        SessionDocuments,
        SessionRecord,
        SessionWrite,
    )

DEFAULT_MAX_MESSAGES = 100
_ADDS = {Role.SYSTEM: "note", Role.USER: "say", Role.ASSISTANT: "reply"}
MAY_PASS = {"overloaded", "connection", "truncated", "timeout"}
"""Of a turn that failed so, the next one may fare better."""
_ROLES: dict[str, list[list[Role]]] = {
    "open": [[Role.USER]],
    "again": [[Role.USER]],
    "note": [[Role.SYSTEM]],
    "say": [[Role.USER]],
    "reply": [[Role.ASSISTANT]],
    TurnState.COMPLETED: [[Role.ASSISTANT]],
    TurnState.FAILED: [[]],
    TurnState.INTERRUPTED: [[], [Role.ASSISTANT]],
}
"""Whose messages a commit may insert."""


@attrs.frozen(kw_only=True)
class Done:
    """What was done under an idempotency key."""

    content: str
    turn_no: int


@attrs.define(kw_only=True)
class LoggedTurn:
    """One turn, as its commits tell it."""

    seq: int
    """Of its question."""
    question: str
    replaces: int
    opened: int
    """The number of the commit."""
    closed: int | None = None
    state: str = ""
    """completed, failed, interrupted."""
    answer: str | None = None
    may_pass: bool = False
    """It could be run again under its key."""
    is_lost: bool = False
    """Nobody ran it any more when it was closed."""


@attrs.frozen(kw_only=True)
class State:
    """A session, as far as users can tell."""

    status: SessionStatus = SessionStatus.ACTIVE
    messages: tuple[MessageRecord, ...] = ()
    """The visible ones."""
    cleared_through: int = 0
    """Messages up to this seq are gone."""
    done: Mapping[str, Done] = attrs.field(factory=dict[str, Done])
    """By idempotency key."""
    last_seq: int = 0
    last_turn_no: int = 0
    open_turn_no: int = 0
    context_version: int = 0
    context_keys: tuple[str, ...] = ()
    max_messages: int = DEFAULT_MAX_MESSAGES
    conversation: str | None = None
    """The provider's own that holds exactly this history, and may be gone on with."""
    resuming: str | None = None
    """The one that the open turn goes on with."""
    counters: Counters = attrs.field(factory=Counters)
    updated_us: int = 0
    """When it was last committed to, by the runtime's clock."""

    def lines(self) -> tuple[tuple[int, str, str, str | None], ...]:
        """The history as a read gives it."""
        return tuple(
            (message.seq, message.role.value, message.content, message.finish_reason)
            for message in self.messages
        )

    def prompt(self, question: str) -> tuple[tuple[str, str], ...]:
        """What a provider must be asked with: a function of the history alone (G4).

        The newest `max_messages` system messages; of the rest without failed turns, as many of the
        newest as fit beside the question, and no answer without its question.
        """
        seen = [message for message in self.messages if message.finish_reason != "failed"]
        system = [message for message in seen if message.role is Role.SYSTEM]
        system = system[-self.max_messages :]
        recent = [message for message in seen if message.role is not Role.SYSTEM]
        recent = recent[max(0, len(recent) + 1 - self.max_messages) :]
        while recent and recent[0].role is not Role.USER:
            del recent[0]
        before = [(message.role.value, message.content) for message in (*system, *recent)]
        return (*before, ("user", question))

    def is_full(self) -> bool:
        """Whether the next question begins another conversation: a longer one would be too long.

        Each begins with whole steps of half of `max_messages` left out, as few as will do.
        """
        step = max(1, self.max_messages // 2)

        def left_out(messages: int) -> int:
            return next(k for k in range(messages + 1) if messages - k * step <= self.max_messages)

        asked = len(self.messages) + 1
        return left_out(asked) != left_out(max(0, asked - 2))

    def without_turn(self, turn_no: int) -> State:
        """Its messages hidden."""
        rest = tuple(message for message in self.messages if message.turn_no != turn_no)
        return attrs.evolve(self, messages=rest)

    def shows(self, seq: int) -> bool:
        """Whether this message is visible."""
        return any(message.seq == seq for message in self.messages)

    def total(self) -> int:
        """All messages ever."""
        counters = self.counters
        return counters.user_messages + counters.assistant_messages + counters.system_messages


@attrs.frozen
class Effect:
    """What one commit did."""

    kind: str
    """create, open, again, checkpoint, close, note, say, reply, put, conf, cleared, rewound,
    archived, reopened."""
    text: str = ""
    """open, again, note, say, reply: the message; checkpoint: the answer so far; put: the new key;
    close: the state; conf, rewound: the number."""
    answer: str | None = None
    """close: the text it left."""
    seq: int = 0
    key: str = ""
    """open, again: the idempotency key."""


class Log:
    """The commits of one session, read one after the other."""

    def __init__(self, session_id: str, writes: Sequence[SessionWrite]) -> None:
        self.session_id = session_id
        self.effects: list[Effect] = []
        self.states = [State()]
        self.turns: dict[int, LoggedTurn] = {}
        self.violations: list[str] = []
        for write in writes:
            self._read(write)

    def __str__(self) -> str:
        effects = " ".join(
            f"{number}:{effect.kind}({effect.text})" for number, effect in enumerate(self.effects)
        )
        return f"{self.session_id} committed {effects}"

    def effect(self, position: int) -> Effect | None:
        """The commit at this position, if there is one."""
        return self.effects[position] if position < len(self.effects) else None

    # ------------------------------------------------------------ one commit

    def _read(self, write: SessionWrite) -> None:
        before = self.states[-1]
        effect = _effect_of(write, before)
        after = _after(write, before, effect)
        self.effects.append(effect)
        self.states.append(after)
        self._note_turn(write, effect)
        self._check_numbers(write, before)
        self._check_turn(write, before, effect)
        self._check_record(write.after.record, after, effect)

    def _note_turn(self, write: SessionWrite, effect: Effect) -> None:
        turn, place = write.turn, len(self.effects) - 1
        if turn is None:
            return
        if write.opens_turn:
            self.turns[turn.turn_no] = LoggedTurn(
                seq=effect.seq, question=effect.text, replaces=turn.replaces, opened=place
            )
        elif effect.kind == "close" and turn.turn_no in self.turns:
            logged = self.turns[turn.turn_no]
            logged.closed, logged.state, logged.answer = place, effect.text, effect.answer
            interrupted = turn.state is TurnState.INTERRUPTED
            logged.may_pass = interrupted or turn.error_code in MAY_PASS
            logged.is_lost = interrupted and "cut off before" in (turn.error_text or "")

    def _bad(self, text: str) -> None:
        place = len(self.effects) - 1
        self.violations.append(f"{text} in commit {place} ({self.effects[place]}) of {self}")

    def _check_numbers(self, write: SessionWrite, before: State) -> None:
        revision = len(self.effects)
        if (write.expected_revision, write.after.record.revision) != (revision - 1, revision):
            self._bad(f"G1: revision {write.after.record.revision} instead of {revision}")
        for place, message in enumerate(write.messages, 1):
            if message.seq != before.last_seq + place:
                self._bad(f"G1: seq {message.seq} after {before.last_seq}")

    def _check_turn(self, write: SessionWrite, before: State, effect: Effect) -> None:
        opens = effect.kind in {"open", "again"}
        if opens and before.open_turn_no:
            self._bad("G2: a turn was opened while another was open")
        elif effect.kind == "close" and not before.open_turn_no:
            self._bad("G2: a turn was closed that was not open")
        elif effect.kind == "checkpoint" and not before.open_turn_no:
            self._bad("G2: a checkpoint of no turn")
        elif effect.kind not in {"close", "checkpoint"} and not opens and before.open_turn_no:
            self._bad("G2: something was committed in the middle of a turn")
        if effect.kind == "again":
            self._check_replacement(write, before, effect)
        roles = [message.role for message in write.messages]
        if roles not in _ROLES.get(effect.text if effect.kind == "close" else effect.kind, [[]]):
            self._bad(f"G5: the messages {roles}")
        if before.status is not SessionStatus.ACTIVE and effect.kind != "reopened":
            self._bad("G8: a write to an archived session")
        claim, session_id = write.claim, self.session_id
        if claim is not None:
            told = claim.scope, claim.method, claim.session_id, claim.result
            expected = session_id, "send_message", session_id, before.last_turn_no + 1
            if not opens or told != expected:
                self._bad(f"G7: the claim {told} instead of {expected}")

    def _check_replacement(self, write: SessionWrite, before: State, effect: Effect) -> None:
        turn = self.turns.get(before.last_turn_no)
        replaced = write.turn.replaces if write.turn is not None else 0
        if turn is None or replaced != before.last_turn_no:
            self._bad(f"G5: turn {replaced} is run again, not {before.last_turn_no}")
        elif effect.text != turn.question:
            self._bad(f"G5: the question of turn {replaced} was {turn.question!r}")
        elif not before.shows(turn.seq):
            self._bad(f"G5: turn {replaced} is run again, whose question is hidden")

    def _check_record(self, record: SessionRecord, after: State, effect: Effect) -> None:
        told = attrs.evolve(record.counters, response_us=0)
        if told != after.counters:
            self._bad(f"G5: counters {told} instead of {after.counters}")
        facts = (record.last_seq, record.last_turn_no, record.open_turn_no, record.visible_messages)
        expected = (after.last_seq, after.last_turn_no, after.open_turn_no, len(after.messages))
        if facts != expected:
            self._bad(f"G5: (last seq, last turn, open turn, visible) {facts}, not {expected}")
        if record.status is not after.status:
            self._bad(f"the status {record.status}")


def _effect_of(write: SessionWrite, before: State) -> Effect:
    if write.expected_revision == 0:
        return Effect("create")
    if write.opens_turn:
        message, key = write.messages[0], "" if write.claim is None else write.claim.key
        again = write.turn is not None and write.turn.replaces > 0
        return Effect("again" if again else "open", message.content, seq=message.seq, key=key)
    if write.turn is not None and write.turn.state is TurnState.OPEN:
        return Effect("checkpoint", write.turn.partial_text)
    if write.turn is not None:
        state = write.turn.state.value
        if not write.messages:
            return Effect("close", state)
        answer = write.messages[0]
        return Effect("close", state, answer=answer.content, seq=answer.seq)
    return _change_of(write, before)


def _change_of(write: SessionWrite, before: State) -> Effect:
    record = write.after.record
    if write.messages:
        added = write.messages[0]
        return Effect(_ADDS[added.role], added.content, seq=added.seq)
    if record.status is not before.status:
        return Effect("archived" if record.status is SessionStatus.ARCHIVED else "reopened")
    if write.documents_changed:
        return _document_change(write.after.documents, before)
    if write.clear_through_seq:
        return Effect("cleared")
    return Effect("rewound", str(write.hides[0][0] - 1)) if write.hides else Effect("cleared")


def _document_change(documents: SessionDocuments, before: State) -> Effect:
    if documents.context_version != before.context_version:
        new = [key for key in json.loads(documents.context) if key not in before.context_keys]
        return Effect("put", ",".join(new))
    return Effect("conf", str(json.loads(documents.config).get("max_messages")))


def _after(write: SessionWrite, before: State, effect: Effect) -> State:
    opens = effect.kind in {"open", "again"}
    if effect.kind == "again":
        before = before.without_turn(before.last_turn_no)
    messages: tuple[MessageRecord, ...] = (*before.messages, *write.messages)
    if effect.kind == "cleared":
        messages = ()
    if effect.kind == "rewound":
        messages = tuple(message for message in messages if message.seq <= int(effect.text))
    for seq, reason in write.marks:
        messages = tuple(
            attrs.evolve(message, finish_reason=reason) if message.seq == seq else message
            for message in messages
        )
    keys = before.context_keys
    status = before.status
    if effect.kind in {"archived", "reopened"}:
        status = SessionStatus.ARCHIVED if effect.kind == "archived" else SessionStatus.ACTIVE
    turn_no = before.last_turn_no + opens
    done = before.done
    if effect.key:
        done = {**done, effect.key: Done(content=effect.text, turn_no=turn_no)}
    conversation = before.conversation
    if effect.kind in {"open", "again", "close", *ADDED, "cleared", "rewound"}:
        conversation = None
    if effect.kind == "conf" and int(effect.text) != before.max_messages:
        conversation = None
    if effect.text == TurnState.COMPLETED and before.messages:
        turn_id = f"{write.after.record.session_id}/{turn_no}"
        conversation = before.resuming or conversation_of(turn_id)
    return State(
        status=status,
        messages=messages,
        last_seq=before.last_seq + len(write.messages),
        last_turn_no=turn_no,
        open_turn_no=turn_no if opens or effect.kind == "checkpoint" else 0,
        cleared_through=before.last_seq if effect.kind == "cleared" else before.cleared_through,
        done=done,
        context_version=before.context_version + (effect.kind == "put"),
        context_keys=(*keys, effect.text) if effect.kind == "put" else keys,
        max_messages=int(effect.text) if effect.kind == "conf" else before.max_messages,
        conversation=conversation,
        resuming=_resuming(before, effect),
        updated_us=write.after.record.updated_us,
        counters=_counted(before.counters, write, effect),
    )


def _resuming(before: State, effect: Effect) -> str | None:
    if effect.kind == "checkpoint":
        return before.resuming
    return None if effect.kind != "open" or before.is_full() else before.conversation


def _counted(before: Counters, write: SessionWrite, effect: Effect) -> Counters:
    closed = effect.text if effect.kind == "close" else ""
    turn = write.turn if closed else None
    return Counters(
        user_messages=before.user_messages + (effect.kind in {"open", "again", "say"}),
        assistant_messages=before.assistant_messages
        + (effect.answer is not None or effect.kind == "reply"),
        system_messages=before.system_messages + (effect.kind == "note"),
        completed_turns=before.completed_turns + (closed == TurnState.COMPLETED),
        failed_turns=before.failed_turns + (closed == TurnState.FAILED),
        interrupted_turns=before.interrupted_turns + (closed == TurnState.INTERRUPTED),
        input_tokens=before.input_tokens + (turn.input_tokens if turn else 0),
        output_tokens=before.output_tokens + (turn.output_tokens if turn else 0),
    )
