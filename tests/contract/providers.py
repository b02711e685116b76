"""The providers of this project that need no vendor, each with what its harness can arrange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import anyio
import anyio.lowlevel
from langswarm.core.session import ConfigurationError, ProviderError
from langswarm.core.session.actors.errors import ProviderCode
from langswarm.core.session.providers import (
    MockProvider,
    NativeMockProvider,
    SimpleProvider,
    fault,
    hang,
    reply,
    truncate,
)
from langswarm.core.session.runtime.config import refuse_unknown
from langswarm.core.session.testing import ScriptedProvider, ScriptedTurn
from langswarm.core.session.testing.provider_contract import ProviderHarness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from langswarm.core.session.actors.ports import ProviderRequest

CODES: tuple[ProviderCode, ...] = get_args(ProviderCode)
CANARY = "sk-canary-4f3c2b1a"


class MockHarness(ProviderHarness):
    """The mock is steered by the config of each request."""

    fault_codes = CODES

    def __init__(self) -> None:
        super().__init__(MockProvider())
        self._configs: dict[str, dict[str, Any]] = {}

    def config_of(self, question: str) -> Mapping[str, Any]:
        return self._configs.get(question, {})

    def answer(self, question: str, pieces: Sequence[str]) -> None:
        # Short waits, so that there are points to cancel at.
        self._play(question, reply(chunks=list(pieces), delay_ms=0.01), chunk_delay_ms=0.01)

    def fail(self, question: str, code: ProviderCode, pieces: Sequence[str]) -> None:
        self._say_then(question, pieces, fault(code, after_chunks=len(pieces)))

    def truncate(self, question: str, pieces: Sequence[str]) -> None:
        self._play(question, truncate("".join(pieces)))

    def stall(self, question: str, pieces: Sequence[str]) -> None:
        self._say_then(question, pieces, hang(after_chunks=len(pieces)))

    def _say_then(self, question: str, pieces: Sequence[str], end: Mapping[str, Any]) -> None:
        text = "".join(pieces)
        self._play(question, end, response_pattern=text)

    def _play(self, question: str, item: Mapping[str, Any], **options: Any) -> None:
        script = {"id": len(self._configs) + 1, "items": [item]}  # one of its own for each turn
        self._configs[question] = {"script": script, **options}


class NativeMockHarness(MockHarness):
    """As the mock, with conversations."""

    def __init__(self) -> None:
        super().__init__()
        self.native = NativeMockProvider()
        self.provider = self.native

    def conversations(self) -> Mapping[str, Sequence[str]]:
        return {name: [text for text in texts if text] for name, texts in self._kept().items()}

    def _kept(self) -> Mapping[str, Sequence[str]]:
        return self.native.conversations

    def forget(self, provider_session_id: str) -> None:
        del self.native.conversations[provider_session_id]


class Vendor:
    """Says to each question what it was told to; counts the questions that it works at."""

    def __init__(self) -> None:
        self.plays: dict[str, Callable[[], Awaitable[str]]] = {}
        self.open = 0

    async def ask(self, question: str) -> str:
        self.open += 1
        try:
            await anyio.lowlevel.checkpoint()
            return await self.plays[question]()
        finally:
            self.open -= 1


class Target:
    """A client of that vendor, as somebody might write it."""

    def __init__(self, vendor: Vendor, key: str) -> None:
        self._vendor = vendor
        self._key = key

    async def send_message(
        self, messages: list[dict[str, str]], config: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        config["seen"] = messages.pop()["content"]  # both are its own
        text = await self._vendor.ask(config["seen"])
        return text, {"input_tokens": 3, "output_tokens": 4}

    def check_config(self, config: Mapping[str, Any]) -> None:
        refuse_unknown(config, ["temperature"], "provider_config")
        if not isinstance(config.get("temperature", 0.0), float):
            raise ConfigurationError("temperature must be a float")


class SimpleHarness(ProviderHarness):
    """One async function, wrapped."""

    fault_codes = CODES
    secrets = (CANARY,)
    options = {"temperature": 0.5}  # noqa: RUF012 - nobody changes it
    streams = False

    def __init__(self) -> None:
        self._vendor = Vendor()
        super().__init__(SimpleProvider(Target(self._vendor, CANARY)))

    def answer(self, question: str, pieces: Sequence[str]) -> None:
        async def say() -> str:
            return "".join(pieces)

        self._vendor.plays[question] = say

    def fail(self, question: str, code: ProviderCode, pieces: Sequence[str]) -> None:
        async def fail() -> str:
            raise ProviderError(f"a failure of code {code}", code=code)

        self._vendor.plays[question] = fail

    def fail_oddly(self, question: str) -> None:
        async def fail() -> str:
            raise KeyError("no such key")

        self._vendor.plays[question] = fail

    def stall(self, question: str, pieces: Sequence[str]) -> None:
        async def wait() -> str:
            await anyio.sleep_forever()
            return ""

        self._vendor.plays[question] = wait

    def open_requests(self) -> int:
        return self._vendor.open


class ScriptedHarness(ProviderHarness):
    """The provider of the test tools."""

    fault_codes = CODES

    def __init__(self) -> None:
        self._turns: dict[str, ScriptedTurn] = {}
        self.scripted = ScriptedProvider(self._turn)
        super().__init__(self.scripted)

    def _turn(self, request: ProviderRequest) -> ScriptedTurn:
        self.scripted.requests.clear()  # it keeps them on purpose, the contract forbids it
        return self._turns[request.messages[-1].content]

    def answer(self, question: str, pieces: Sequence[str]) -> None:
        self._turns[question] = ScriptedTurn(text="".join(pieces), chunks=max(1, len(pieces)))

    def fail(self, question: str, code: ProviderCode, pieces: Sequence[str]) -> None:
        end = ProviderError("a failure", code=code)
        self._turns[question] = ScriptedTurn(text="".join(pieces), end=end)

    def truncate(self, question: str, pieces: Sequence[str]) -> None:
        self._turns[question] = ScriptedTurn(text="".join(pieces), end="truncate")

    def stall(self, question: str, pieces: Sequence[str]) -> None:
        self._turns[question] = ScriptedTurn(text="".join(pieces), end="hang")

    def open_requests(self) -> int:
        return sum(self.scripted.running.values())


ALONE: dict[str, Callable[[], ProviderHarness]] = {
    "mock": MockHarness,
    "native_mock": NativeMockHarness,
    "simple": SimpleHarness,
    "scripted": ScriptedHarness,
}
