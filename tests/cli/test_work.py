import contextlib
from pathlib import Path
from typing import Any

import pytest
from langswarm.core.session import Role, SessionNotFoundError
from langswarm.core.session.cli.conversations import read_conversations, users_of
from langswarm.core.session.cli.work import Job, Part, ReplayProvider, work
from langswarm.core.session.providers import (
    Completed,
    PromptMessage,
    ProviderEvent,
    ProviderRequest,
    TextDelta,
)

USERS = 40  # ten of each conversation: 80 turns, 50 of them before the change of processes


async def run(part: Part, input_file: Path, backend: str, **changes: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    fields: dict[str, Any] = {
        "part": part,
        "input_file": input_file,
        "users": USERS,
        "max_live": 4,
        "idle_ms": 1.0,
        "backend": backend,
        "database": input_file.parent / "work.db",
        **changes,
    }
    await work(Job(**fields), messages.append)
    return messages


async def test_more_users_than_places_are_evicted_and_come_back(
    input_file: Path, anyio_backend: str
) -> None:
    progress, first = (await run(Part.FIRST, input_file, anyio_backend))[-2:]
    second = (await run(Part.SECOND, input_file, anyio_backend))[-1]["result"]
    verified = (await run(Part.VERIFY, input_file, anyio_backend))[-1]["result"]
    first = first["result"]
    assert 1 <= progress["done"] <= 50
    assert (len(first["turn_ms"]), len(second["turn_ms"])) == (50, 30)
    assert 1 <= first["most_live"] <= 4
    assert first["evicted"] >= USERS - 4
    assert first["rehydrated"] > 0
    assert second["rehydrated"] >= 30  # nothing was in memory
    assert first["writes"] >= first["commits"] > 0
    assert first["failures"] == second["failures"] == []
    assert verified == {"sessions": USERS, "messages": 180, "differences": []}


async def test_what_the_second_half_has_not_said_is_a_difference(
    input_file: Path, anyio_backend: str
) -> None:
    await run(Part.FIRST, input_file, anyio_backend, users=4)
    [*_, last] = await run(Part.VERIFY, input_file, anyio_backend, users=5)
    assert last["result"] == {
        "sessions": 1,
        "messages": 2,
        "differences": [
            "session 'greetings#1': it has 5 messages, the conversation 7",
            "session '日本語#2': it has 2 messages, the conversation 4",
            "session 'שלום#3': it has 3 messages, the conversation 5",
            f"session 'greetings#5': SessionNotFoundError: {SessionNotFoundError('greetings#5')}",
        ],
    }


def first_turn(input_file: Path, *texts: str) -> tuple[ReplayProvider, ProviderRequest]:
    users = users_of(read_conversations(input_file), 1)
    roles = (Role.SYSTEM, *(Role.USER, Role.ASSISTANT) * 3)
    request = ProviderRequest(
        session_id=users[0].session_id,
        turn_id=f"{users[0].session_id}/1",
        model="replay",
        messages=tuple(
            PromptMessage(role=role, content=text) for role, text in zip(roles, texts, strict=False)
        ),
        config={},
        provider_session_id=None,
    )
    return ReplayProvider(users), request


async def test_answers_of_the_input_are_streamed_in_chunks(input_file: Path) -> None:
    provider, request = first_turn(input_file, "You are brief.\nAlways.", "Hello!")
    events: list[ProviderEvent] = [event async for event in provider.stream(request)]
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(pieces) == "Hello {input}, how can I help? " * 40
    assert len(pieces) > 10
    assert isinstance(events[-1], Completed)


@pytest.mark.parametrize(
    "texts", [("Hello!",), ("You are brief.\nAlways.", "Hello"), ("You are brief.\nAlways.",)]
)
async def test_prompt_that_is_not_the_conversation_is_refused(
    input_file: Path, texts: tuple[str, ...]
) -> None:
    provider, request = first_turn(input_file, *texts)
    with pytest.raises(Exception, match="the prompt of turn 1 is not the conversation"):
        await anext(provider.stream(request))


async def test_answer_that_nobody_wants_any_more_is_closed(input_file: Path) -> None:
    provider, request = first_turn(input_file, "You are brief.\nAlways.", "Hello!")
    stream: Any = provider.stream(request)
    async with contextlib.aclosing(stream) as events:
        assert isinstance(await anext(events), TextDelta)
