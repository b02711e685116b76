"""Our requests are those that the vendor's own client sends for the same call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.ports import Completed, ProviderRequest
from langswarm.core.session.adapters.providers.anthropic import AnthropicProvider

from ...vendors.sdks import KEY, anthropic_request_of, sent
from .test_requests import assistant, system, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anthropic import AsyncAnthropic
    from langswarm.core.session.actors.ports import ProviderEvent

    from ...vendors import VendorServer
    from ...vendors.sdks import Sent

WINDOW = (system("Be brief."), user("1"), assistant("2"), user("3"))
SAID: Any = [
    {"role": "user", "content": "1"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "3"},
]


async def events_of(
    provider: AnthropicProvider, *messages: Any, session: str | None = None, **config: Any
) -> list[ProviderEvent]:
    request = ProviderRequest(
        session_id="s",
        turn_id="s/1",
        model="claude-sonnet-5",
        messages=messages,
        config=config,
        provider_session_id=session,
    )
    stream: AsyncIterator[ProviderEvent] = provider.stream(request)
    return [event async for event in stream]


async def ours(
    vendor: VendorServer, call: Callable[[AnthropicProvider], Awaitable[object]], **options: Any
) -> Sent:
    provider = AnthropicProvider(KEY, base_url=vendor.anthropic_url, auth="bearer", **options)
    try:
        await call(provider)
    finally:
        await provider.aclose()
    return sent(vendor.last)


async def theirs(
    vendor: VendorServer, call: Callable[[AsyncAnthropic], Awaitable[object]], **options: Any
) -> Sent:
    headers = {"anthropic-version": "2023-06-01"} | options.pop("default_headers", {})
    return await anthropic_request_of(vendor, call, default_headers=headers, **options)


def agreed(request: Sent) -> Sent:
    """`accept` tells a stream from a document here; their client asks for JSON always."""
    shown = {name: value for name, value in request.headers.items() if name != "accept"}
    return attrs.evolve(request, headers=shown)


async def test_a_plain_call(vendor: VendorServer) -> None:
    made = await ours(vendor, lambda provider: events_of(provider, user("Hello")))
    wanted = await theirs(
        vendor,
        lambda client: client.messages.create(
            model="claude-sonnet-5",
            max_tokens=4096,
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
        ),
    )
    assert agreed(made) == agreed(wanted)


async def test_every_option(vendor: VendorServer) -> None:
    made = await ours(
        vendor,
        lambda provider: events_of(
            provider,
            *WINDOW,
            max_tokens=7,
            temperature=0.3,
            top_p=0.5,
            top_k=4,
            stop=["END"],
            conversation_metadata={"user_id": "u", "topic": "t"},
            extra_body={"service_tier": "auto"},
        ),
    )
    sampling: dict[str, Any] = {"temperature": 0.3, "top_p": 0.5, "top_k": 4}
    wanted = await theirs(
        vendor,
        lambda client: client.messages.create(
            model="claude-sonnet-5",
            max_tokens=7,
            system="Be brief.",
            messages=SAID,
            stop_sequences=["END"],
            metadata={"user_id": "u"},
            service_tier="auto",
            stream=True,
            extra_body=sampling,
        ),
    )
    assert agreed(made) == agreed(wanted)


async def test_prompt_caching(vendor: VendorServer) -> None:
    made = await ours(vendor, lambda provider: events_of(provider, *WINDOW, prompt_caching=True))

    def marked(text: str) -> Any:
        return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]

    wanted = await theirs(
        vendor,
        lambda client: client.messages.create(
            model="claude-sonnet-5",
            max_tokens=4096,
            system=marked("Be brief."),
            messages=[
                {"role": "user", "content": marked("1")},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": marked("3")},
            ],
            stream=True,
        ),
    )
    assert agreed(made) == agreed(wanted)


async def test_another_version_and_features_to_switch_on(vendor: VendorServer) -> None:
    made = await ours(
        vendor,
        lambda provider: events_of(provider, user("Hello")),
        anthropic_version="2026-10-21",
        betas=["feature-a-2026-01-01", "feature-b-2026-01-01"],
    )
    wanted = await theirs(
        vendor,
        lambda client: client.beta.messages.create(
            model="claude-sonnet-5",
            max_tokens=4096,
            messages=[{"role": "user", "content": "Hello"}],
            betas=["feature-a-2026-01-01", "feature-b-2026-01-01"],
            stream=True,
        ),
        default_headers={"anthropic-version": "2026-10-21"},
    )
    # Their client marks beta calls in the URL too; the header is what counts.
    assert agreed(made) == attrs.evolve(agreed(wanted), query={})


async def test_counting_tokens(vendor: VendorServer) -> None:
    made = await ours(vendor, lambda provider: provider.count_tokens("claude-sonnet-5", WINDOW))
    wanted = await theirs(
        vendor,
        lambda client: client.messages.count_tokens(
            model="claude-sonnet-5",
            system="Be brief.",
            messages=SAID,
        ),
    )
    assert agreed(made) == agreed(wanted)


async def test_a_thread_that_begins_and_goes_on(vendor: VendorServer) -> None:
    made: list[Sent] = []

    async def two_turns(provider: AnthropicProvider) -> None:
        (*_, last) = await events_of(provider, *WINDOW, threads=True)
        made.append(sent(vendor.last))
        assert isinstance(last, Completed)
        name = last.provider_session_id
        window = (*WINDOW, assistant("4", name), user("5"))
        await events_of(provider, *window, threads=True, session=name)
        made.append(sent(vendor.last))

    await ours(vendor, two_turns, allow_threads=True)

    async def their_turns(client: AsyncAnthropic) -> None:
        thread = client.beta.messages.thread(
            model="claude-sonnet-5",
            max_tokens=4096,
            system="Be brief.",
            messages=SAID,
        )
        await thread.send()
        await thread.send({"role": "user", "content": "5"})

    before = len(vendor.requests)
    await theirs(vendor, their_turns)
    for mine, seen in zip(made, vendor.requests[before:], strict=True):
        wanted = sent(seen)
        body = {name: value for name, value in mine.body.items() if name != "stream"}
        if mine.body["thread"]["type"] == "continue":
            body["thread"] = {**body["thread"], "previous_message_id": None}
            wanted.body["thread"]["previous_message_id"] = None
        assert body == {name: value for name, value in wanted.body.items() if name != "stream"}
        assert agreed(mine).headers == agreed(wanted).headers
