"""The built-in middleware, in the real runtime."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import (
    ConfigurationError,
    MessageRefused,
    MockProvider,
    create_session_manager,
)
from langswarm.core.session.errors import RateLimitedError
from langswarm.core.session.interfaces import ISessionMiddleware, TurnText
from langswarm.core.session.middleware import (
    LengthLimitMiddleware,
    LoggingMiddleware,
    RateLimitMiddleware,
    RedactionMiddleware,
    Redactor,
)

from ..runtime.helpers import PATIENCE_SECONDS, Echo, new_session

if TYPE_CHECKING:
    from langswarm.core.session import Session, SessionManager

SECRET = "mail ada@example.org, card 4111 1111 1111 1111"
CLEAN = "mail [email], card [card]"


async def mock_session(manager: SessionManager, user_id: str = "ada", **keywords: Any) -> Session:
    return await manager.create_session(user_id, "mock", "mock-model", **keywords)


async def streamed(session: Session, text: str) -> list[str]:
    return [
        event.text async for event in session.stream_message(text) if isinstance(event, TurnText)
    ]


async def test_logging_tells_who_and_how_long_and_no_contents(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with create_session_manager(middleware=[LoggingMiddleware()]) as manager:
        session = await mock_session(manager)
        await session.send_message(SECRET)
        first, _ = await session.get_messages()
    question, answer = [r for r in caplog.records if r.name.endswith(".messages")]
    assert question.getMessage() == f"user message of {len(SECRET)} characters"
    assert question.__dict__["session_id"] == session.session_id
    assert question.__dict__["turn_id"] == answer.__dict__["turn_id"] == first.turn_id
    assert (answer.__dict__["role"], answer.__dict__["user_id"]) == ("assistant", "ada")
    assert "ada@example.org" not in caplog.text


async def test_logging_of_contents_is_one_short_line_whatever_is_in_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("tests.guests")
    middleware = LoggingMiddleware(logger, level=logging.DEBUG, contents=True, max_characters=20)
    async with create_session_manager(middleware=[middleware]) as manager:
        session = await mock_session(manager)
        await session.send_message("a\nFORGED\u2028b\x1b[31m" + "x" * 5_000)
    question = next(record for record in caplog.records if record.name == "tests.guests")
    text = question.getMessage()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert len(text) < 100


@pytest.mark.parametrize(
    "middleware",
    [
        LoggingMiddleware(),
        RateLimitMiddleware(),
        LengthLimitMiddleware(),
        RedactionMiddleware(answers=False),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_what_does_not_change_answers_does_not_hold_them_back(
    middleware: ISessionMiddleware,
) -> None:
    """The first piece is shown while the provider is held before the second."""
    provider = Echo()
    gate = provider.hold("hello")
    async with create_session_manager(
        middleware=[middleware], providers={"openai": provider}
    ) as manager:
        session = await new_session(manager)
        texts: list[str] = []
        with anyio.fail_after(PATIENCE_SECONDS):
            async for event in session.stream_message("hello"):
                if isinstance(event, TurnText):
                    texts.append(event.text)
                    gate.open()
        assert texts == ["answer ", "to hello"]


@pytest.mark.parametrize(
    "middleware",
    [RedactionMiddleware(), LengthLimitMiddleware(max_answer_characters=100)],
    ids=lambda each: type(each).__name__,
)
async def test_what_changes_answers_holds_them_back(middleware: ISessionMiddleware) -> None:
    provider = MockProvider(chunk_size=5)
    async with create_session_manager(
        middleware=[middleware], providers={"mock": provider}
    ) as manager:
        texts = await streamed(await mock_session(manager), "one two three")
        assert texts == ["Mock response to: one two three"]


async def test_redaction_of_questions_reaches_neither_provider_nor_history() -> None:
    middleware = RedactionMiddleware(answers=False)
    assert middleware.holds_back_answers is False
    async with create_session_manager(middleware=[middleware]) as manager:
        session = await mock_session(manager)
        answer = await session.send_message(SECRET, metadata={"kept": 1})
        question, stored = await session.get_messages()
    assert question.content == CLEAN
    assert question.metadata == {"kept": 1, "redacted": {"email": 1, "card": 1}}
    assert answer == stored
    assert answer.content == f"Mock response to: {CLEAN}"
    assert answer.metadata == {}


async def test_redaction_of_answers_shows_no_piece_of_what_it_takes_out() -> None:
    middleware = RedactionMiddleware(questions=False)
    async with create_session_manager(middleware=[middleware]) as manager:
        session = await mock_session(manager)
        assert await streamed(session, SECRET) == [f"Mock response to: {CLEAN}"]
        question, answer = await session.get_messages()
    assert question.content == SECRET
    assert answer.metadata == {"redacted": {"email": 1, "card": 1}}


async def test_redaction_of_a_long_text_is_done_in_a_thread() -> None:
    async with create_session_manager(middleware=[RedactionMiddleware()]) as manager:
        session = await mock_session(manager)
        await session.send_message("word " * 10_000 + SECRET)
        question = (await session.get_messages())[0]
    assert question.content.endswith(f"word {CLEAN}")


async def test_redaction_knows_patterns_of_ones_own() -> None:
    middleware = RedactionMiddleware(kinds=["email"], patterns={"ticket": r"T-\d{4}"})
    async with create_session_manager(middleware=[middleware]) as manager:
        session = await mock_session(manager)
        await session.send_message("T-1234 and T-9999 for 4111 1111 1111 1111")
        question = (await session.get_messages())[0]
    assert question.content == "[ticket] and [ticket] for 4111 1111 1111 1111"
    assert question.metadata == {"redacted": {"ticket": 2}}


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"kinds": ["mail"]}, "mail"),
        ({"patterns": {"a b": "x"}}, "a b"),
        ({"patterns": {"email": "x"}}, "email"),
        ({"patterns": {"ticket": "("}}, "ticket"),
        ({"patterns": {"ticket": "x*"}}, "ticket"),
    ],
)
def test_redaction_refuses_what_it_cannot_do(keywords: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Redactor(**keywords)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="answers"):
        RedactionMiddleware(questions=False, answers=False)
    with pytest.raises(ConfigurationError, match="max_characters"):
        LengthLimitMiddleware(0)
    with pytest.raises(ConfigurationError, match="rate"):
        RateLimitMiddleware(user_messages_per_minute=0)
    with pytest.raises(ConfigurationError, match="rate"):
        RateLimitMiddleware(session_messages_per_minute=float("nan"))
    with pytest.raises(ConfigurationError, match="burst"):
        RateLimitMiddleware(user_burst=0)
    with pytest.raises(ConfigurationError, match="remembered"):
        RateLimitMiddleware(max_remembered=0)


async def test_length_limit_refuses_a_long_question_and_stores_nothing() -> None:
    async with create_session_manager(middleware=[LengthLimitMiddleware(5)]) as manager:
        session = await mock_session(manager)
        with pytest.raises(MessageRefused, match="6 characters, 5 are allowed") as caught:
            await session.send_message("secret")
        assert "secret" not in str(caught.value)
        assert session.message_count == 0
        await session.send_message("short")
        assert session.message_count == 2


async def test_length_limit_cuts_a_long_answer_and_says_so() -> None:
    middleware = LengthLimitMiddleware(None, max_answer_characters=4)
    async with create_session_manager(
        middleware=[middleware], providers={"mock": MockProvider()}
    ) as manager:
        session = await mock_session(manager)
        answer = await session.send_message("x" * 10_000)
    assert answer.content == "Mock"
    assert answer.metadata == {"cut_from_characters": len("Mock response to: ") + 10_000}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_rate_limit_says_when_and_hands_the_message_back() -> None:
    """The caller gets RateLimitedError; nothing is stored; what it says about time holds."""
    clock = Clock()
    limit = RateLimitMiddleware(user_messages_per_minute=60, user_burst=2, clock=clock)
    async with create_session_manager(middleware=[limit]) as manager:
        one, two = await mock_session(manager), await mock_session(manager)
        await one.send_message("a")
        await two.send_message("b")
        for session in (one, two):
            with pytest.raises(RateLimitedError) as caught:
                await session.send_message("c")
            assert caught.value.retryable
            assert caught.value.content == "c"
            assert caught.value.retry_after_seconds == pytest.approx(1.0)
        assert one.message_count == 2
        await (await mock_session(manager, "bob")).send_message("another user")
        clock.now += 1.0
        await one.send_message("c")
        with pytest.raises(RateLimitedError):
            await two.send_message("d")


async def test_rate_limit_of_a_session_leaves_the_users_other_sessions_alone() -> None:
    clock = Clock()
    limit = RateLimitMiddleware(
        user_messages_per_minute=None,
        session_messages_per_minute=6,
        session_burst=1,
        clock=clock,
    )
    async with create_session_manager(middleware=[limit]) as manager:
        one, two = await mock_session(manager), await mock_session(manager)
        await one.send_message("a")
        with pytest.raises(RateLimitedError) as caught:
            await one.send_message("b")
        assert caught.value.retry_after_seconds == pytest.approx(10.0)
        await two.send_message("a")
