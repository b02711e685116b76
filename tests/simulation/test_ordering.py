"""The ordering checker: right histories pass, each kind of wrong one is named by its promise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anyio
import pytest
from langswarm.core.session import (
    ISessionMiddleware,
    Session,
    SessionArchivedError,
    SessionContext,
    SessionError,
    SessionMessage,
    create_session_manager,
)
from langswarm.core.session.errors import RuntimeBugError
from langswarm.core.session.testing import (
    Backend,
    ScriptedProvider,
    ScriptedTurn,
    SendRecorder,
    Sent,
    Told,
    ordering_violations,
    simulate,
    told_by,
)


@dataclass
class Line:
    role: str
    content: str
    seq: int
    finish_reason: str | None = None


def lines(*texts: str) -> list[Line]:
    """`?text` is a question, `x?text` a failed one, `.text` a system message.

    `!text` is an answer, `~text` a part of one.
    """
    found: list[Line] = []
    for seq, text in enumerate(texts, 1):
        reason = {"x": "failed", "~": "interrupted"}.get(text[0])
        mark, content = text.removeprefix("x")[0], text.removeprefix("x")[1:]
        role = {"?": "user", "!": "assistant", "~": "assistant", ".": "system"}[mark]
        found.append(Line(role, content, seq, reason))
    return found


def sent(ticket: int, told: Told = Told.ANSWERED) -> Sent:
    answer = f"re {ticket}" if told is Told.ANSWERED else None
    return Sent(
        session_id="s",
        ticket=ticket,
        text=str(ticket),
        began=float(ticket),
        ended=ticket + 0.5,
        told=told,
        answer=answer,
    )


CALLS = [
    sent(1),
    sent(2, Told.NEVER_RAN),
    sent(3, Told.FAILED),
    sent(4, Told.UNKNOWN),
    sent(5),
]


@pytest.mark.parametrize(
    "history",
    [
        ("?1", "!re 1", "x?3", "?4", "~part", "?5", "!re 5"),
        ("?1", "!re 1", ".note", "x?3", "?5", "!re 5"),
        ("?1", ".note", "!re 1", "?3", "~part", "?4", "?5", "!re 5"),
    ],
)
def test_what_callers_may_find_passes(history: tuple[str, ...]) -> None:
    assert ordering_violations(CALLS, {"s": lines(*history)}) == []


@pytest.mark.parametrize(
    ("promise", "history"),
    [
        ("G1", ("x?3", "?1", "!re 1", "?5", "!re 5")),  # another order than that of the tickets
        ("G4", ("?1", "!re 1", "x?3", "?5", "!re 5", "?5", "!re 5")),  # twice
        ("G4", ("?1", "!re 1", "x?3", "?0", "!re 0", "?5", "!re 5")),  # nobody sent it
        ("G3", ("?1", "!re 1", "x?3")),  # an acknowledged one is lost
        ("G3", ("?1", "!re 1", "x?3", "?5", "!other")),  # with another answer
        ("G5", ("?1", "!re 1", "x?3", "?5")),  # without its answer
        ("G5", ("?1", "!re 1", "!re 1", "x?3", "?5", "!re 5")),  # an answer to nothing
        ("G5", ("?1", "!re 1", "x?3", "!late", "?5", "!re 5")),  # failed, and answered
        ("G3", ("?1", "!re 1", "?3", "!re 3", "?5", "!re 5")),  # told failed, and all is there
        ("G9", ("?1", "!re 1", "?2", "!re 2", "x?3", "?5", "!re 5")),  # ran all the same
    ],
)
def test_each_broken_promise_is_named(promise: str, history: tuple[str, ...]) -> None:
    found = ordering_violations(CALLS, {"s": lines(*history)})
    assert found
    assert all(text.startswith(promise) for text in found), found


@pytest.mark.parametrize(
    ("history", "problems"),
    [
        (("?1", "!re 1", "x?3", "?4", "!re 4", "?5", "!re 5"), []),
        (("?1", "!re 1", "?3", "~re", "?4", "~", "?5", "!re 5"), []),
        (("?1", "!re 1", "x?3", "?4", "!of another", "?5", "!re 5"), ["'4'"]),
        (("?1", "!re 1", "x?3", "?4", "~of another", "?5", "!re 5"), ["'4'"]),
        (("?1", "!re 1", "x?3", "?4", "!re", "?5", "!re 5"), ["'4'"]),
    ],
)
def test_an_answer_that_no_caller_got_is_checked_where_it_is_known(
    history: tuple[str, ...], problems: list[str]
) -> None:
    found = ordering_violations(
        CALLS, {"s": lines(*history)}, answer_to=lambda call: f"re {call.text}"
    )
    assert [text.split()[1] for text in found] == problems
    assert all(text.startswith("G5") for text in found)


def test_a_bug_of_the_runtime_is_a_violation_wherever_it_was_told() -> None:
    bug = sent(1, told_by(RuntimeBugError("a state that cannot be")))
    for history in ((), ("?1",), ("?1", "!re 1")):
        [text] = ordering_violations([bug], {"s": lines(*history)})
        assert "RuntimeBugError" in text


class Louder(ISessionMiddleware):
    """Changes what users send."""

    async def process_message(
        self, session_id: str, message: SessionMessage, context: SessionContext
    ) -> SessionMessage:
        if message.role == "user":
            message.content = message.content.upper()
        return message


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_texts_that_a_middleware_changes_are_recognised(backend: Backend) -> None:
    recorder = SendRecorder()

    async def main() -> list[SessionMessage]:
        async with create_session_manager(
            providers={"scripted": ScriptedProvider(lambda _: "answer")}, middleware=[Louder()]
        ) as manager:
            session = await manager.create_session("ada", "scripted", "m", session_id="s")
            for text in ("one", "two"):
                await recorder.send(session, text)
            return await session.get_messages()

    history = simulate(main, backend=backend, seed=5).value
    assert ordering_violations(recorder.sent, {"s": history}, stored_as=str.upper) == []
    assert len(ordering_violations(recorder.sent, {"s": history})) > 1
    late = [replace(message, seq=seq) for seq, message in enumerate(_lines_of(history[2:]), 1)]
    [lost] = ordering_violations(recorder.sent, {"s": late}, stored_as=str.upper)
    assert lost.startswith("G3: 'ONE'")


def _lines_of(history: list[SessionMessage]) -> list[Line]:
    return [Line(one.role, one.content, one.seq, one.finish_reason) for one in history]


def test_a_gap_and_a_number_that_is_used_twice_are_named() -> None:
    history = lines("?1", "!re 1")
    gap = [replace(line, seq=line.seq + 1) for line in history]
    double = [replace(line, seq=1) for line in history]
    for wrong in (gap, double):
        assert ordering_violations([sent(1)], {"s": wrong})[0].startswith("G1: seq is")


def test_tickets_that_contradict_the_time_are_named() -> None:
    """Who began when another had ended cannot have the earlier ticket."""
    calls = [replace(sent(1), began=9.0, ended=10.0), sent(2)]
    history = lines("?1", "!re 1", "?2", "!re 2")
    assert ordering_violations(calls, {"s": history})[0].startswith("G1: '1' began when '2'")


def test_a_missing_history_and_a_text_that_is_used_twice_are_named() -> None:
    assert "no history of session 's'" in ordering_violations([sent(1)], {})[0]
    calls = [sent(1), replace(sent(2), text="1", answer="re 1")]
    assert "'1' was sent 2 times" in ordering_violations(calls, {"s": lines("?1", "!re 1")})[0]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_recorder_tells_all_ends_apart(backend: Backend) -> None:
    """Answered, failed, cancelled while queued and while running, refused."""
    recorder = SendRecorder()
    provider = ScriptedProvider(
        lambda request: ScriptedTurn(
            text="answer",
            chunks=2,
            latency_seconds=1.0,
            end=ValueError("bug") if request.messages[-1].content == "fails" else "complete",
        )
    )

    async def send(session: Session, text: str, seconds: float = 100.0) -> None:
        with anyio.move_on_after(seconds):
            try:
                await recorder.send(session, text)
            except SessionError:
                assert text in {"fails", "refused"}

    async def main() -> list[str]:
        async with create_session_manager(providers={"scripted": provider}) as manager:
            session = await manager.create_session("ada", "scripted", "m", session_id="s")
            async with anyio.create_task_group() as group:
                for text, seconds in (("cut", 0.5), ("queued", 0.5), ("fails", 9.0), ("ok", 9.0)):
                    group.start_soon(send, session, text, seconds)
                    await anyio.sleep(0.01)
            await session.archive()
            with pytest.raises(SessionArchivedError):
                await recorder.send(session, "refused")
            return ordering_violations(recorder.sent, {"s": await session.get_messages()})

    assert simulate(main, backend=backend, seed=5).value == []
    assert {call.text: call.told for call in recorder.sent} == {
        "cut": Told.UNKNOWN,
        "queued": Told.NEVER_RAN,
        "fails": Told.FAILED,
        "ok": Told.ANSWERED,
        "refused": Told.NEVER_RAN,
    }
    assert [call.ticket for call in recorder.sent] == [1, 2, 3, 4, 5]
