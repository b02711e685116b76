"""Short ways to ask a provider, as the runtime does it, and to look at what it said."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import attrs
from langswarm.core.session.actors.errors import ProviderError
from langswarm.core.session.actors.model import PromptMessage, Role
from langswarm.core.session.actors.ports import (
    Completed,
    ConversationStarted,
    ProviderRequest,
    TextDelta,
)
from langswarm.core.session.testing.expectations import expect, expect_equal
from langswarm.core.session.testing.provider_contract.harness import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langswarm.core.session.actors.ports import ProviderEvent
    from langswarm.core.session.testing.provider_contract.harness import ProviderHarness

TURN_SECONDS = 10.0
"""How long a turn may take whose vendor answers at once."""
RELEASE_SECONDS = 5.0
"""How long it may take to close, to obey a cancellation, to release what a turn held."""

PIECES = ("One ", "two ", "and ", "three.")

_numbers = count(1)


@attrs.define
class Heard:
    """What came of one turn."""

    events: list[ProviderEvent] = attrs.field(factory=list["ProviderEvent"])
    error: Exception | None = None

    @property
    def text(self) -> str:
        """All the text that arrived."""
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def completed(self) -> Completed | None:
        """The last event, if it says that the answer is complete."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Completed) else None

    @property
    def started(self) -> list[str]:
        """The ids of the conversations that were begun."""
        return [
            event.provider_session_id
            for event in self.events
            if isinstance(event, ConversationStarted)
        ]


def a_question(about: str = "that") -> str:
    """A question that nobody has asked before."""
    return f"What about {about}? (question {next(_numbers)})"


def user(content: str) -> PromptMessage:
    """What the user said."""
    return PromptMessage(role=Role.USER, content=content)


def assistant(content: str, provider_message_id: str | None = None) -> PromptMessage:
    """What was answered."""
    return PromptMessage(
        role=Role.ASSISTANT, content=content, provider_message_id=provider_message_id
    )


def request_of(
    harness: ProviderHarness,
    question: str,
    *,
    before: Sequence[PromptMessage] = (),
    session_id: str | None = None,
    provider_session_id: str | None = None,
) -> ProviderRequest:
    """A turn that asks this, in a session of its own if none is named."""
    number = next(_numbers)
    session_id = session_id or f"contract-{number}"
    return ProviderRequest(
        session_id=session_id,
        turn_id=f"{session_id}/{number}",
        model=harness.model,
        messages=(*before, user(question)),
        config=dict(harness.config_of(question)),
        provider_session_id=provider_session_id,
    )


async def listen(harness: ProviderHarness, request: ProviderRequest, heard: Heard) -> None:
    """Ask as the runtime does: iterate in one task, always close. Raises what the provider does."""
    stream: Any = harness.provider.stream(request)
    try:
        async for event in stream:
            heard.events.append(event)
    finally:
        await stream.aclose()


async def ask(harness: ProviderHarness, request: ProviderRequest | str) -> Heard:
    """One turn, whatever comes of it, in at most 10 seconds."""
    if isinstance(request, str):
        request = request_of(harness, request)
    heard = Heard()
    with anyio.move_on_after(TURN_SECONDS) as scope:
        try:
            await listen(harness, request, heard)
        except Exception as error:  # noqa: BLE001 - looked at by the case
            heard.error = error
    late = scope.cancelled_caught
    expect("the turn ends", not late, f"nothing more within {TURN_SECONDS} s after {heard.events}")
    return heard


async def answered(harness: ProviderHarness, request: ProviderRequest | str) -> Heard:
    """One turn that must go well: its events, the last of which is `Completed`."""
    heard = await ask(harness, request)
    if heard.error is not None:
        raise heard.error
    expect("the last event is Completed", heard.completed is not None, heard.events)
    return heard


async def still_answers(harness: ProviderHarness, after: str) -> None:
    """That the provider is as good as new."""
    question = a_question("now")
    harness.answer(question, PIECES)
    heard = await answered(harness, question)
    expect_equal(f"the answer {after}", heard.text, "".join(PIECES))


async def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it holds within so many seconds; it is looked at again and again."""
    with anyio.move_on_after(seconds):
        while not holds():  # noqa: ASYNC110 - the vendor may be another thread
            await anyio.sleep(0.005)
    return holds()


async def released(harness: ProviderHarness, after: str) -> None:
    """That the vendor works at nothing any more, or that nobody can see it."""
    if missing(harness, ("open_requests",)):
        return
    await until(lambda: not harness.open_requests(), RELEASE_SECONDS)
    expect_equal(f"requests that the vendor works at {after}", harness.open_requests(), 0)


def expect_prefix(what: str, found: str, whole: str) -> None:
    """That it is the beginning of the whole."""
    expect(f"{what} is the beginning of {whole!r}", whole.startswith(found), found)


def expect_provider_error(what: str, error: Exception | None) -> ProviderError:
    """That it failed, and with a ProviderError."""
    expect(f"{what} raises ProviderError", isinstance(error, ProviderError), error)
    assert isinstance(error, ProviderError)  # noqa: S101 - for type checkers
    return error
