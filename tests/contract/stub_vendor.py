"""A vendor in a few lines, a provider for it that keeps the whole contract, and its harness."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs
from langswarm.core.session import ConfigurationError, ProviderError
from langswarm.core.session.providers import (
    Completed,
    ConversationStarted,
    IProvider,
    TextDelta,
)
from langswarm.core.session.runtime.config import refuse_unknown
from langswarm.core.session.testing.provider_contract import ProviderHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from langswarm.core.session.actors.errors import ProviderCode
    from langswarm.core.session.providers import ProviderEvent, ProviderRequest

KEY = "sk-canary-9d8c7b6a"
SILENCE_SECONDS = 0.15
PATIENCE_SECONDS = 30.0
"""With a vendor that is not silent on purpose: the machine may be slow."""


class VendorError(Exception):
    """What its library raises."""

    def __init__(self, code: ProviderCode) -> None:
        super().__init__(f"the vendor says {code}")
        self.code: ProviderCode = code


@attrs.define
class Play:
    """What the vendor does about one question."""

    pieces: Sequence[str]
    end: str | VendorError = "good"


class Vendor:
    """Knows what to say to each question, and keeps conversations."""

    def __init__(self) -> None:
        self.plays: dict[str, Play] = {}
        self.kept: dict[str, list[str]] = {}
        self.open = 0
        self._numbers = count(1)

    def create(self, texts: Sequence[str]) -> str:
        name = f"conv_{next(self._numbers):08d}"
        self.kept[name] = list(texts)
        return name

    async def say(self, question: str) -> AsyncIterator[str]:
        """The pieces, as JSON; the last line says that the answer is complete."""
        play = self.plays[question]
        self.open += 1
        try:
            await anyio.lowlevel.checkpoint()
            for piece in play.pieces:
                yield json.dumps({"text": piece})
                await anyio.lowlevel.checkpoint()
            if isinstance(play.end, VendorError):
                raise play.end
            if play.end == "silent":
                await anyio.sleep_forever()
            if play.end == "odd":
                yield "<html>"
            if play.end == "good":
                yield json.dumps({"end": True})
        finally:
            self.open -= 1


class Good(IProvider):
    """Right in every way; the wrong ones differ from it in one."""

    keeps_conversations = True

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.slots: anyio.Semaphore | None = None  # of the event loop that it is used on

    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderEvent]:
        name = request.provider_session_id
        question = request.messages[-1].content
        if name is None or name not in self.vendor.kept:
            name = self.vendor.create([message.content for message in request.messages[:-1]])
            yield ConversationStarted(name)
        if self.slots is None:
            self.slots = anyio.Semaphore(50)
        said = ""
        async with self.slots:
            lines: Any = self.vendor.say(question)
            try:
                while (text := await self.next_text(lines)) is not None:
                    said += text
                    yield TextDelta(text)
            finally:
                await lines.aclose()
        self.vendor.kept[name] += [question, said]
        yield self.last(name)

    def last(self, name: str) -> Completed:
        return Completed(input_tokens=3, output_tokens=4, provider_session_id=name)

    async def next_text(self, lines: AsyncIterator[str]) -> str | None:
        """None: the answer is complete."""
        try:
            with anyio.fail_after(self.patience()):
                line = await anext(lines, None)
        except TimeoutError as error:
            raise ProviderError("the vendor is silent", code="timeout") from error
        except VendorError as error:
            raise self.translated(error) from error
        return self.cut_off() if line is None else self.read(line)

    def patience(self) -> float:
        latest = list(self.vendor.plays.values())[-1]
        return SILENCE_SECONDS if latest.end == "silent" else PATIENCE_SECONDS

    async def aclose(self) -> None:
        self.slots = None

    def cut_off(self) -> str | None:
        raise ProviderError("the answer was cut off", code="truncated", retryable=True)

    def translated(self, error: VendorError) -> Exception:
        return ProviderError(str(error), code=error.code, retryable=True)

    def read(self, line: str) -> str | None:
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise ProviderError("the vendor says no JSON", code="protocol") from error
        text: str | None = found.get("text")
        return text

    def check_config(self, config: Mapping[str, Any]) -> None:
        refuse_unknown(config, ["temperature", "region"], "provider_config")
        for key, kind in (("temperature", (int, float)), ("region", str)):
            if key in config and not isinstance(config[key], kind):
                raise ConfigurationError(f"{key} has a wrong type")

    async def delete_conversation(self, provider_session_id: str) -> None:
        self.vendor.kept.pop(provider_session_id, None)


class StubHarness(ProviderHarness):
    """Arranges everything."""

    fault_codes = ("auth", "rate_limit", "overloaded")
    secrets = (KEY,)
    options = {"temperature": 0.5, "region": "eu"}  # noqa: RUF012 - nobody changes it
    stall_seconds = 1.0

    def __init__(self, kind: type[Good] = Good) -> None:
        self.vendor = Vendor()
        super().__init__(kind(self.vendor))

    def _play(self, question: str, pieces: Sequence[str], end: str | VendorError) -> None:
        self.vendor.plays[question] = Play(pieces, end)

    def answer(self, question: str, pieces: Sequence[str]) -> None:
        self._play(question, pieces, "good")

    def fail(self, question: str, code: ProviderCode, pieces: Sequence[str]) -> None:
        self._play(question, pieces, VendorError(code))

    def fail_oddly(self, question: str) -> None:
        self._play(question, (), "odd")

    def truncate(self, question: str, pieces: Sequence[str]) -> None:
        self._play(question, pieces, "cut")

    def stall(self, question: str, pieces: Sequence[str]) -> None:
        self._play(question, pieces, "silent")

    def open_requests(self) -> int:
        return self.vendor.open

    def conversations(self) -> Mapping[str, Sequence[str]]:
        return self.vendor.kept

    def forget(self, provider_session_id: str) -> None:
        del self.vendor.kept[provider_session_id]
