"""Random histories, and what a provider must be asked next after each step of them.

The oracle keeps what is to be shown by its own account, turn by turn; it looks at no mark of any
record and tries every way of cutting. The windows under test are made at once from all records,
and as a session makes them: cached, grown by appending, dropped, read again page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar
from unittest.mock import patch

import attrs
from langswarm.core.session.actors import prompt, window_cache
from langswarm.core.session.actors.model import MessageQuery, MessageRecord, PromptMessage, Role
from langswarm.core.session.actors.prompt import PromptWindow
from langswarm.core.session.actors.window_cache import WindowCache

from .running import BrokenPromiseError

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Sequence

    Line = tuple[Role, str]

T = TypeVar("T")

Verb = Literal[
    "send", "fail", "stop", "halt", "mute", "blank", "retry", "rewind", "clear", "note", "import",
    "fork", "evict", "resize",
]  # fmt: skip

_USUAL: tuple[Verb, ...] = ("send", "fail", "stop", "halt", "note", "retry", "evict")
_ALL: tuple[Verb, ...] = (
    *_USUAL,
    *_USUAL,
    *("mute", "blank", "rewind", "clear", "import", "fork", "resize"),
)
_SIZES = (1, 2, 3, 4, 5, 8, 100)
_IMPORTS = ("a", "aau", "uuaa", "sua", "uaaau", "aaaaaa", "uuuuuu", "ua ua", "s s", "ua aa uu a")
_ROLES = {"u": Role.USER, "a": Role.ASSISTANT, "s": Role.SYSTEM}
_BLANKS = ("", " ", "\n\t\u2003")
_QUESTION = "what comes next"


@attrs.frozen
class Act:
    """One step of a session. `value`: how far a rewind goes, what is imported, which size, ...

    send: a turn that completes. fail, stop, halt, mute: a turn that fails, is stopped after some
    text or before any, or completes with a blank answer. blank: a question of white space. retry:
    the last turn is hidden and its question asked again, in a turn that ends in one of these ways.
    note: a system message. import: foreign messages, in any order of roles. fork: the session goes
    on as a copy of itself.
    """

    verb: Verb
    session: int
    value: int


@attrs.frozen
class Histories:
    """A program: what a few sessions with one cache do."""

    max_messages: int
    budget_bytes: int
    page_messages: int
    acts: tuple[Act, ...]


def random_histories(source: random.Random) -> Histories:
    """A program of a few steps, or of many."""
    verbs = source.choice((_USUAL, _ALL))
    sessions = source.choice((1, 1, 2))
    acts = tuple(
        Act(source.choice(verbs), source.randrange(sessions), source.randrange(100))
        for _ in range(source.choice((4, 8, 16)))
    )
    return Histories(
        max_messages=source.choice(_SIZES),
        budget_bytes=source.choice((0, 1200, 2500, 1_000_000)),
        page_messages=source.choice((1, 2, 3, 1000)),
        acts=acts,
    )


def check_prompts(program: Histories) -> None:
    """Raises BrokenPromiseError with the program and the step that went wrong."""
    world = _World(program)
    with patch.object(window_cache, "_PAGE_MESSAGES", program.page_messages):
        for number, act in enumerate(program.acts):
            world.do(act)
            try:
                world.check(act.session)
            except AssertionError as error:
                done = attrs.evolve(program, acts=program.acts[: number + 1])
                raise BrokenPromiseError(f"{error}\nafter {done}") from error


# ---------------------------------------------------------------- what is stored, what is shown


class _Session:
    """What the storage holds of a session; and beside it, in `shown`, what a provider may see."""

    def __init__(self, session_id: str, max_messages: int) -> None:
        self.session_id = session_id
        self.max_messages = max_messages
        self.records: list[MessageRecord] = []
        self.shown: list[tuple[int, Line]] = []
        self.last_seq = 0
        self.last_turn_no = 0

    def add(
        self, role: Role, content: str, *, turn_no: int = 0, failed: bool = False
    ) -> MessageRecord:
        """Store a message."""
        self.last_seq += 1
        record = MessageRecord(
            seq=self.last_seq,
            role=role,
            content=content,
            created_us=0,
            turn_no=turn_no,
            finish_reason="failed" if failed else None,
        )
        self.records.append(record)
        if not failed and content not in _BLANKS:
            self.shown.append((record.seq, (role, content)))
        return record

    def hide(self, seqs: set[int], by: int) -> None:
        """As the storage does, in their rows."""
        self.records = [
            attrs.evolve(record, hidden_by=by)
            if record.seq in seqs and not record.hidden_by
            else record
            for record in self.records
        ]
        self.shown = [(seq, line) for seq, line in self.shown if seq not in seqs]

    def last_turn(self) -> list[MessageRecord]:
        """The messages of the last turn, if it is the last that was said."""
        last = [each for each in self.records if each.role is not Role.SYSTEM]
        if not last or last[-1].hidden_by or not last[-1].turn_no:
            return []
        return [each for each in last if each.turn_no == last[-1].turn_no and not each.hidden_by]

    def copy(self, session_id: str) -> _Session:
        """A fork: what is visible, with numbers of its own."""
        fork = _Session(session_id, self.max_messages)
        for record in self.records:
            if not record.hidden_by:
                fork.add(record.role, record.content, failed=record.finish_reason == "failed")
        return fork

    async def read(self, query: MessageQuery) -> Sequence[MessageRecord]:
        """A storage as its contract says; the next question is stored already."""
        question = MessageRecord(
            seq=self.last_seq + 1, role=Role.USER, content=_QUESTION, created_us=0
        )
        assert query.before_seq is not None
        assert query.limit is not None
        found = [
            record
            for record in (*self.records, question)
            if record.seq < query.before_seq
            and not record.hidden_by
            and (query.role is None or record.role is query.role)
            and not (query.for_prompt and record.role is Role.SYSTEM)
            and not (query.for_prompt and record.finish_reason == "failed")
        ]
        return found[-query.limit :]

    def next_prompt(self) -> list[Line]:
        """The oracle: of all parts at the end of what was said the longest that is allowed."""
        lines = [line for _, line in self.shown]
        rules = [line for line in lines if line[0] is Role.SYSTEM]
        said = [line for line in lines if line[0] is not Role.SYSTEM]
        parts = [said[start:] for start in range(len(said) + 1)]
        fitting = [part for part in parts if len(part) < self.max_messages]
        begun_well = [part for part in fitting if not part or part[0][0] is Role.USER]
        longest = max(begun_well, key=len)
        return [*rules[-self.max_messages :], *longest, (Role.USER, _QUESTION)]


class _World:
    """The sessions and their cache, used as session actors use it."""

    def __init__(self, program: Histories) -> None:
        self._cache = WindowCache(program.budget_bytes)
        self._budget_bytes = program.budget_bytes
        self._sessions = [_Session(f"{name}", program.max_messages) for name in range(2)]
        self._forks = 0

    # ------------------------------------------------------------ steps

    def do(self, act: Act) -> None:
        session = self._sessions[act.session]
        if act.verb in {"send", "fail", "stop", "halt", "mute", "blank"}:
            self._turn(session, act.verb, _text(session, act.value))
        elif act.verb == "note":
            text = _BLANKS[0] if act.value % 10 == 0 else _text(session, act.value)
            self._grow(session, session.add(Role.SYSTEM, text))
        elif act.verb == "evict":
            self._cache.drop(session.session_id)
        else:
            self._change(session, act)
            self._cache.drop(session.session_id)
            if act.verb == "retry":
                self._ask_again(session, act.value)

    def _change(self, session: _Session, act: Act) -> None:
        """What more than appends: it makes windows anew."""
        if act.verb == "rewind":
            session.hide({each.seq for each in session.records[-(act.value % 9) :]}, by=-1)
        elif act.verb == "clear":
            session.records, session.shown = [], []
        elif act.verb == "resize":
            session.max_messages = _SIZES[act.value % len(_SIZES)]
        elif act.verb == "import":
            for letter in _IMPORTS[act.value % len(_IMPORTS)]:
                role = _ROLES.get(letter, Role.ASSISTANT)
                session.add(role, _text(session, act.value) if letter in _ROLES else "")
        elif act.verb == "fork":
            self._forks += 1
            self._sessions[act.session] = session.copy(f"fork {self._forks}")

    def _turn(self, session: _Session, verb: str, question: str) -> None:
        session.last_turn_no += 1
        turn_no = session.last_turn_no
        text = _BLANKS[turn_no % len(_BLANKS)] if verb == "blank" else question
        failed = verb == "fail"
        added = [session.add(Role.USER, text, turn_no=turn_no, failed=failed)]
        if verb in {"send", "stop", "blank"}:
            added.append(session.add(Role.ASSISTANT, f"re {text}", turn_no=turn_no))
        elif verb == "mute":
            blank = _BLANKS[turn_no % len(_BLANKS)]
            added.append(session.add(Role.ASSISTANT, blank, turn_no=turn_no))
        if not failed:
            self._grow(session, *added)

    def _ask_again(self, session: _Session, value: int) -> None:
        turn = session.last_turn()
        if turn:
            session.hide({each.seq for each in turn}, by=session.last_turn_no + 1)
            self._window(session)  # the opening commit hides, then the provider is asked
            self._turn(session, ("send", "fail", "halt")[value % 3], turn[0].content)

    def _grow(self, session: _Session, *records: MessageRecord) -> None:
        window = self._cache.get(session.session_id)
        if window is not None:
            for record in records:
                window.append(record, session.max_messages)
            self._cache.put(session.session_id, window)

    def _window(self, session: _Session) -> PromptWindow:
        window = self._cache.get(session.session_id)
        if window is None:
            window = _run_plain(
                window_cache.read_window(
                    session.read,
                    session.last_seq + 1,
                    session.max_messages,
                    has_system=any(each.role is Role.SYSTEM for each in session.records),
                )
            )
            self._cache.put(session.session_id, window)
        return window

    # ------------------------------------------------------------ checks

    def check(self, number: int) -> None:
        session = self._sessions[number]
        limit = session.max_messages
        at_once = PromptWindow.of(session.records, limit).with_user_message(_QUESTION, limit)
        grown = self._window(session).with_user_message(_QUESTION, limit)
        expected = session.next_prompt()
        assert _lines(at_once) == expected, f"made at once: {_lines(at_once)}, not {expected}"
        assert _lines(grown) == expected, f"grown or read: {_lines(grown)}, not {expected}"
        check_valid(grown, limit)
        self._check_bytes(limit)

    def _check_bytes(self, limit: int) -> None:
        entries = list(self._cache._windows.values())
        assert self._cache.bytes == sum(size for _, size in entries) <= self._budget_bytes
        for window, size in entries:
            held = (*window._system, *window._conversation)
            counted = prompt._WINDOW_OVERHEAD_BYTES + sum(map(prompt._size, held))
            assert window.bytes == size == counted, "a window's size is not what it holds"
        for session in self._sessions:
            window_of = self._cache.get(session.session_id)
            if window_of is not None and session.max_messages == limit:
                assert len(window_of._conversation) <= limit * 5 / 4, "a window without bound"


def check_valid(messages: Sequence[PromptMessage], max_messages: int) -> None:
    """Whether each family of vendors would take it."""
    roles = [message.role for message in messages]
    rules = roles.count(Role.SYSTEM)
    assert set(roles[:rules]) <= {Role.SYSTEM}, "system messages come first"
    assert rules <= max_messages, "system messages are bounded"
    assert len(roles) - rules <= max_messages, "the conversation is bounded"
    assert roles[rules] is Role.USER, "a conversation begins with a user message"
    assert (messages[-1].role, messages[-1].content) == (Role.USER, _QUESTION)
    assert all(message.content.strip() for message in messages), "no message is blank"
    texts, conversation = prompt.split_system(messages)
    assert list(texts) == [message.content for message in messages[:rules]]
    assert list(conversation) == list(messages[rules:])
    _check_merged(conversation)


def _check_merged(conversation: Sequence[PromptMessage]) -> None:
    merged = prompt.merge_adjacent(conversation)
    for place, message in enumerate(merged):
        assert message.role is (Role.ASSISTANT if place % 2 else Role.USER), "roles alternate"
    assert merged[-1].role is Role.USER
    for role in Role:
        before = "\n\n".join(each.content for each in conversation if each.role is role)
        after = "\n\n".join(each.content for each in merged if each.role is role)
        assert before == after, f"merging changed what was said by {role}"
    assert prompt.merge_adjacent(merged) == merged


def _text(session: _Session, value: int) -> str:
    return f"{session.last_seq}" + ("", "", "é", "語", "🎈")[value % 5] * (value // 10)


def _lines(messages: Sequence[PromptMessage]) -> list[Line]:
    return [(message.role, message.content) for message in messages]


def _run_plain(work: Coroutine[None, None, T]) -> T:
    """Run what awaits nothing that waits."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")
