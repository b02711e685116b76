"""A class with `async def send_message(...)` is a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from langswarm.core.session import ConfigurationError, ProviderError, create_session_manager
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.providers import (
    Completed,
    ProviderRequest,
    SimpleProvider,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from langswarm.core.session.providers import ProviderEvent

    Messages = list[dict[str, str]]


class Returns:
    """Whatever it was made with."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[Messages] = []

    async def send_message(self, messages: Messages) -> object:
        self.asked.append(messages)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def request(**changes: Any) -> ProviderRequest:
    plain: dict[str, Any] = {
        "session_id": "s",
        "turn_id": "s/1",
        "model": "grey",
        "messages": (
            PromptMessage(role=Role.SYSTEM, content="Be brief."),
            PromptMessage(role=Role.USER, content="Hello"),
        ),
        "config": {},
        "provider_session_id": None,
    }
    return ProviderRequest(**{**plain, **changes})


async def events_of(target: object, **changes: Any) -> list[ProviderEvent]:
    return [event async for event in SimpleProvider(target, name="mine").stream(request(**changes))]


class TestAnswers:
    async def test_a_text_is_the_answer(self) -> None:
        target = Returns("Hello to you")
        assert await events_of(target) == [TextDelta("Hello to you"), Completed()]
        assert target.asked == [
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        ]
        assert type(target.asked[0][0]["role"]) is str

    async def test_an_empty_text_is_an_answer(self) -> None:
        assert await events_of(Returns("")) == [Completed()]

    async def test_details_stand_beside_the_text(self) -> None:
        details = {
            "input_tokens": 3,
            "output_tokens": 4,
            "finish_reason": "length",
            "provider_message_id": "m1",
            "metadata": {"region": "eu"},
        }
        [_, last] = await events_of(Returns(("Hello", details)))
        assert last == Completed(
            finish_reason="length",
            input_tokens=3,
            output_tokens=4,
            provider_message_id="m1",
            metadata={"region": "eu"},
        )

    async def test_it_is_given_what_it_has_parameters_for(self) -> None:
        given: list[object] = []

        class All:
            async def send_message(self, messages: Messages, **extras: object) -> str:
                given.append(extras)
                return ""

        class Some:
            async def send_message(
                self, messages: Messages, model: str, *, turn_id: str, retries: int = 3
            ) -> str:
                given.append((model, turn_id, retries))
                return ""

        config = {"temperature": 0.2}
        await events_of(All(), config=config)
        await events_of(Some())
        assert given == [
            {"model": "grey", "config": config, "session_id": "s", "turn_id": "s/1"},
            ("grey", "s/1", 3),
        ]
        assert isinstance(given[0], dict)
        assert given[0]["config"] is not config

    async def test_a_whole_session_uses_it(self) -> None:
        target = Returns(("Hello", {"input_tokens": 3, "output_tokens": 4}))
        provider = SimpleProvider(target)
        async with create_session_manager(providers={"mine": provider}) as manager:
            session = await manager.create_session("ada", "mine", "grey")
            answer = await session.send_message("One")
            assert (answer.content, answer.token_count) == ("Hello", 4)
            await session.send_message("Two")
        assert [message["content"] for message in target.asked[-1]] == ["One", "Hello", "Two"]


class TestErrors:
    async def test_an_error_of_its_own_is_internal_with_the_cause_and_without_its_text(
        self,
    ) -> None:
        cause = ValueError("header 'sk-canary'")
        with pytest.raises(ProviderError) as caught:
            await events_of(Returns(cause))
        assert (caught.value.code, caught.value.provider) == ("internal", "mine")
        assert caught.value.__cause__ is cause
        assert "ValueError" in str(caught.value)
        assert "sk-canary" not in str(caught.value)

    async def test_a_provider_error_passes(self) -> None:
        error = ProviderError("later", code="overloaded", retryable=True)
        with pytest.raises(ProviderError) as caught:
            await events_of(Returns(error))
        assert caught.value is error

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (None, "not NoneType"),
            (b"text", "not bytes"),
            (("text",), r"not \(str\)"),
            (("text", 3), r"not \(str, int\)"),
            ((3, {"a": 1}), r"not \(int, dict\)"),
            (("text", {"output_token": 3}), "did it mean 'output_tokens'"),
            (("text", {"provider_session_id": "c"}), "unknown detail 'provider_session_id'"),
            (("text", {5: 3}), "unknown detail 5"),
        ],
    )
    async def test_what_is_no_answer_is_named(self, answer: object, said: str) -> None:
        with pytest.raises(ProviderError, match=said) as caught:
            await events_of(Returns(answer))
        assert caught.value.code == "internal"

    async def test_cancellation_passes(self) -> None:
        ended: list[str] = []

        class Waits:
            async def send_message(self, messages: Messages) -> str:
                try:
                    await anyio.sleep_forever()
                finally:
                    ended.append("ended")
                return ""

        with anyio.move_on_after(0.01) as scope:
            await events_of(Waits())
        assert scope.cancelled_caught
        assert ended == ["ended"]


class TestTargets:
    def test_a_target_without_send_message_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="not one of object"):
            SimpleProvider(object())

    def test_a_class_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="not the class Returns"):
            SimpleProvider(Returns)

    def test_a_plain_function_is_refused(self) -> None:
        class Plain:
            def send_message(self, messages: Messages) -> str:
                return ""

        with pytest.raises(ConfigurationError, match="must be an `async def`"):
            SimpleProvider(Plain())

    def test_a_generator_is_refused_with_the_way_out(self) -> None:
        class Yields:
            async def send_message(self, messages: Messages) -> AsyncIterator[str]:
                yield ""

        with pytest.raises(ConfigurationError, match="derive from IProvider"):
            SimpleProvider(Yields())

    def test_a_parameter_that_nobody_gives_is_named(self) -> None:
        class Wants:
            async def send_message(self, messages: Messages, user: str) -> str:
                return user

        with pytest.raises(ConfigurationError, match="wants 'user'"):
            SimpleProvider(Wants())

    def test_a_function_without_room_for_messages_is_refused(self) -> None:
        class Takes:
            async def send_message(self) -> str:
                return ""

        with pytest.raises(ConfigurationError, match="first parameter"):
            SimpleProvider(Takes())

    def test_a_config_that_nobody_reads_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="not 'temperature'"):
            SimpleProvider(Returns("")).check_config({"temperature": 1})
        SimpleProvider(Returns("")).check_config({})

    def test_a_target_checks_its_own_config(self) -> None:
        class Careful:
            async def send_message(self, messages: Messages, config: Mapping[str, Any]) -> str:
                return ""

            def check_config(self, config: Mapping[str, Any]) -> None:
                if "bad" in config:
                    raise ConfigurationError("bad")

        provider = SimpleProvider(Careful())
        provider.check_config({"good": 1})
        with pytest.raises(ConfigurationError):
            provider.check_config({"bad": 1})

    async def test_it_is_closed_with_the_provider(self) -> None:
        class Closes(Returns):
            closed = 0

            async def aclose(self) -> None:
                self.closed += 1

        target = Closes("")
        await SimpleProvider(target).aclose()
        assert target.closed == 1
        await SimpleProvider(Returns("")).aclose()
