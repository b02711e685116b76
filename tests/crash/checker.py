"""Opens what a process has left behind, through the API, and compares it with its journal.

What the journal calls done must be there, whole and in order (G3, G4). What it only calls begun may
be there or not, but not half (G5). What it calls failed with the outcome `failed` must have left no
answer.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langswarm.core.session import (
    Role,
    Session,
    SessionError,
    SessionManager,
    SessionMessage,
    SessionNotFoundError,
    SQLiteSessionStorage,
    create_session_manager,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .order import Line

Place = tuple[int, str, str]
"""(seq, role, content)"""


def answer_to(text: str) -> str:
    """What the mock answers."""
    return f"Mock response to: {text}"


@dataclass
class Report:
    """What was found. `acknowledged` counts turns."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list[str])
    half: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    unopened: list[str] = field(default_factory=list[str])
    """It does not open, but nothing had been acknowledged yet."""
    interrupted: int = 0
    """Turns that were closed when the storage opened, or before."""

    @property
    def faults(self) -> list[str]:
        """Everything that should not be."""
        return self.lost + self.half + self.wrong


@dataclass
class Expected:
    """One session as the journal tells it."""

    created: bool = False
    places: list[Place] = field(default_factory=list[Place])
    cut: int = 0
    """So many of `places` were cleared for certain ..."""
    cuts: set[int] = field(default_factory=set[int])
    """... and perhaps so many."""
    contexts: list[str] = field(default_factory=lambda: [""])
    """The last one that is certain, and those that may have come after it."""
    statuses: list[str] = field(default_factory=lambda: ["active"])
    in_doubt: bool = False
    """An outcome was unknown: what came after it does not settle it, until a commit does."""
    refused: set[str] = field(default_factory=set[str])
    """Texts whose callers were told that nothing was stored."""

    def take(self, line: Line) -> None:
        """One line of the journal, in their order."""
        kind = line.get("do") or line.get("done") or line.get("failed")
        done = "done" in line
        self.in_doubt |= line.get("outcome") == "unknown"
        if kind == "create":
            self.created = self.created or done
        elif kind == "clear":
            self.cuts.add(len(self.places))
            self.cut = len(self.places) if done else self.cut
        elif kind == "context":
            self.contexts = [line["text"]] if done else [*self.contexts, line["text"]]
        elif kind in {"archive", "reopen"}:
            status = "archived" if kind == "archive" else "active"
            settled = done and not self.in_doubt
            self.statuses = [status] if settled else [*self.statuses, status]
        elif kind in {"send", "system"}:
            self._take_message(kind, line)

    def _take_message(self, kind: str, line: Line) -> None:
        text = line["text"]
        if line.get("outcome") == "failed":
            self.refused.add(text)
        if "done" in line:
            seq = line["seq"]
            if kind == "send":
                self.places += [(seq - 1, "user", text), (seq, "assistant", line["content"])]
            else:
                self.places.append((seq, "system", text))


def expectations(lines: Sequence[Line]) -> dict[str, Expected]:
    """By session."""
    found: dict[str, Expected] = {}
    for line in lines:
        name = line.get("session")
        if name:
            found.setdefault(name, Expected()).take(line)
    return found


class _Examination:
    """Of one session."""

    def __init__(self, name: str, expected: Expected, report: Report) -> None:
        self._name = name
        self._expected = expected
        self._report = report

    async def run(self, manager: SessionManager) -> None:
        expected, report = self._expected, self._report
        try:
            session = await manager.get_session(self._name)
        except SessionNotFoundError:
            if expected.created or expected.places:
                report.lost.append(f"{self._name}: the session itself")
            return
        messages = await session.get_messages()
        self._check_places(messages)
        self._check_pairs(messages)
        await self._check_counters(session, messages)
        await self._check_state(session)
        await self._use(session)

    def _say(self, text: str) -> None:
        self._report.wrong.append(f"{self._name}: {text}")

    def _check_places(self, messages: Sequence[SessionMessage]) -> None:
        """Everything acknowledged, or all of it from a clear that was begun."""
        expected = self._expected
        there = {(found.seq, str(found.role), found.content) for found in messages}
        present = [place in there for place in expected.places]
        cuts = {expected.cut, *(cut for cut in expected.cuts if cut > expected.cut)}
        if not any(present == [i >= cut for i in range(len(present))] for cut in cuts):
            missing = [
                place
                for place, is_there in zip(expected.places, present, strict=True)
                if not is_there
            ]
            self._report.lost.append(f"{self._name}: {missing[-3:]} (cleared: {cuts})")

    def _check_pairs(self, messages: Sequence[SessionMessage]) -> None:
        """No gap, nothing twice; every answer behind its own question; no refused answer."""
        seqs = [message.seq for message in messages]
        if seqs and seqs != list(range(seqs[0], seqs[-1] + 1)):
            self._report.half.append(f"{self._name}: seq {seqs}")
        texts = Counter(message.content for message in messages)
        if any(count > 1 for count in texts.values()):
            self._say(f"twice: {[text for text, count in texts.items() if count > 1]}")
        before: SessionMessage | None = None
        for message in messages:
            if message.role is Role.ASSISTANT:
                self._check_answer(before, message)
            before = message

    def _check_answer(self, question: SessionMessage | None, answer: SessionMessage) -> None:
        if question is None or question.role is not Role.USER:
            self._report.half.append(f"{self._name}: {answer!r} without its question")
        elif question.turn_id != answer.turn_id or answer.content != answer_to(question.content):
            self._report.half.append(f"{self._name}: {question!r} has the answer {answer!r}")
        elif question.content in self._expected.refused:
            self._say(f"{question!r} is answered, and its caller was told that it failed")

    async def _check_counters(self, session: Session, messages: Sequence[SessionMessage]) -> None:
        metrics = await session.get_metrics()
        roles = Counter(message.role for message in messages)
        self._report.interrupted += metrics.interrupted_turns
        last = messages[-1].seq if messages else metrics.total_messages
        ended = metrics.completed_turns + metrics.failed_turns + metrics.interrupted_turns
        counted = (metrics.total_messages, metrics.user_messages, session.message_count)
        if counted != (last, ended, len(messages)):
            self._say(f"the counters {metrics} do not fit {messages[-3:]}")
        if metrics.assistant_messages != metrics.completed_turns:
            self._report.half.append(f"{self._name}: {metrics}")
        lifetime = (metrics.user_messages, metrics.assistant_messages, metrics.system_messages)
        now = (roles[Role.USER], roles[Role.ASSISTANT], roles[Role.SYSTEM])
        cleared = bool(self._expected.cuts)
        if not all(a == b or (cleared and a > b) for a, b in zip(lifetime, now, strict=True)):
            self._say(f"the counters {metrics} do not fit the history of {now}")

    async def _check_state(self, session: Session) -> None:
        context = await session.get_context()
        text = context.get("text", "")
        if text not in self._expected.contexts:
            self._report.lost.append(
                f"{self._name}: context {text!r}, expected {self._expected.contexts}"
            )
        if session.status.value not in self._expected.statuses:
            self._report.lost.append(f"{self._name}: {session.status}")

    async def _use(self, session: Session) -> None:
        """It goes on where it was."""
        if session.status == "archived":
            await session.reopen()
        last = (await session.get_metrics()).total_messages
        text = f"still there after {last}?"
        answer = await session.send_message(text)
        if (answer.seq, answer.content) != (last + 2, answer_to(text)):
            self._say(f"after {last} messages the next answer is {answer!r}")


async def examine(path: Path, lines: Sequence[Line], **storage: object) -> Report:
    """Open the file as any user would, and compare."""
    report = Report(
        acknowledged=sum(line.get("done") == "send" for line in lines),
        wrong=[line["bug"] for line in lines if "bug" in line],
    )
    expected = expectations(lines)
    try:
        async with create_session_manager(SQLiteSessionStorage(path, **storage)) as manager:  # type: ignore[arg-type]
            for name, one in expected.items():
                await _Examination(name, one, report).run(manager)
        text = integrity(path)
        if text != "ok":
            report.wrong.append(f"integrity_check: {text}")
    except (SessionError, sqlite3.Error) as error:
        had_any = any("done" in line for line in lines)
        (report.lost if had_any else report.unopened).append(f"all, it is unusable: {error!r}")
    return report


def integrity(path: Path) -> str:
    """What SQLite itself says."""
    connection = sqlite3.connect(path)
    try:
        (text,) = connection.execute("PRAGMA integrity_check").fetchone()
        return str(text)
    finally:
        connection.close()
