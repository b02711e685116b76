"""Our requests are those that OpenAI's own client sends for the same call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from langswarm.core.session.actors.ports import ProviderRequest
from langswarm.core.session.adapters.providers.openai_chat import OpenAIChatProvider

from ...vendors.sdks import KEY, openai_request_of, sent
from .test_requests import WINDOW

if TYPE_CHECKING:
    from ...vendors import VendorServer
    from ...vendors.sdks import Sent

SAID: Any = [{"role": each.role.value, "content": each.content} for each in WINDOW]


async def ours(vendor: VendorServer, options: dict[str, Any], **config: Any) -> Sent:
    provider = OpenAIChatProvider(KEY, base_url=vendor.openai_url + "/", **options)
    request = ProviderRequest(
        session_id="s",
        turn_id="s/1",
        model="gpt-5",
        messages=WINDOW,
        config=config,
        provider_session_id=None,
    )
    try:
        async for _ in provider.stream(request):
            pass
    finally:
        await provider.aclose()
    return agreed(sent(vendor.last))


def agreed(request: Sent) -> Sent:
    """`accept` tells a stream from a document here; their client asks for JSON always."""
    shown = {name: value for name, value in request.headers.items() if name != "accept"}
    return attrs.evolve(request, headers=shown)


async def test_a_plain_call(vendor: VendorServer) -> None:
    wanted = await openai_request_of(
        vendor,
        lambda client: client.chat.completions.create(
            model="gpt-5",
            messages=SAID,
            stream=True,
            stream_options={"include_usage": True},
        ),
    )
    assert await ours(vendor, {}) == agreed(wanted)


async def test_every_option(vendor: VendorServer) -> None:
    wanted = await openai_request_of(
        vendor,
        lambda client: client.chat.completions.create(
            model="gpt-5",
            messages=SAID,
            stream=True,
            temperature=0.3,
            top_p=0.5,
            max_completion_tokens=7,
            stop=["END"],
            seed=5,
            extra_body={"top_k": 40},
        ),
        organization="org-1",
        project="proj-1",
    )
    made = await ours(
        vendor,
        {"organization": "org-1", "project": "proj-1"},
        temperature=0.3,
        top_p=0.5,
        max_completion_tokens=7,
        stop="END",
        seed=5,
        include_usage=False,
        extra_body={"top_k": 40},
    )
    assert made == agreed(wanted)
