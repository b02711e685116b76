"""How an OpenAIProvider is made, and that its key shows up nowhere."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest
from langswarm.core.session.adapters.providers.openai import OpenAIProvider
from langswarm.core.session.errors import ConfigurationError, ProviderError

from ...vendors.faults import in_stream_error, raw, reset, status, truncate
from .helpers import KEY, Chat

if TYPE_CHECKING:
    from ...vendors import VendorServer
    from ...vendors.faults import Fault
    from .helpers import Connect


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def test_the_vendors_base_url_needs_a_key_and_says_where_from() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAIProvider()
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAIProvider("", base_url="https://eu.api.openai.com/v1")


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "http://example.com/v1"},
        {"organization": ""},
        {"project": "a\nb"},
        {"organization": 7},
        {"timeout": -1},
        {"api_key": "sk-a\nb"},
    ],
)
def test_a_wrong_keyword_is_refused_without_showing_the_key(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAIProvider(**{"api_key": KEY, **options})
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert "sk-a" not in str(caught.value)


async def test_key_and_base_url_come_from_the_environment(
    vendor: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.openai_url + "/")
    provider = OpenAIProvider()
    await Chat(provider).ask("Hello")
    assert {seen.key for seen in vendor.requests} == {KEY}
    await provider.aclose()


async def test_a_server_of_ones_own_may_need_no_key(vendor: VendorServer, connect: Connect) -> None:
    await Chat(connect(api_key=None)).ask("Hello")
    assert {seen.key for seen in vendor.requests} == {None}


async def test_the_account_is_named_with_each_request(
    vendor: VendorServer, connect: Connect
) -> None:
    await Chat(connect(organization="org-1", project="proj_1")).ask("Hello")
    for seen in vendor.requests:
        assert seen.headers["openai-organization"] == "org-1"
        assert seen.headers["openai-project"] == "proj_1"


ECHO = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "x", "code": KEY}}


@pytest.mark.parametrize("way", [{}, {"state": "local"}, {"assistant_id": "asst_1"}])
@pytest.mark.parametrize(
    "fault",
    [
        status(401, ECHO),
        status(500, ECHO),
        status(400, f"bad {KEY}"),
        reset(),
        truncate(events=3),
        raw(KEY.encode()),
        in_stream_error({"type": "error", **ECHO}, events=3, name="error"),
    ],
)
async def test_a_key_shows_up_in_no_error_whatever_fails(
    vendor: VendorServer, connect: Connect, way: dict[str, Any], fault: Fault
) -> None:
    provider = connect(max_retries=0)
    for path in ("/v1/responses", "/v1/threads/", "/v1/conversations", "/v1/threads"):
        vendor.clear_scripts()
        vendor.script(*[fault] * 5, path=path)
        try:
            await Chat(provider, **way).ask("Hello")
        except ProviderError as error:
            shown = "".join(traceback.format_exception(error)) + repr(vars(error))
            assert KEY not in shown
    assert KEY not in repr(provider) + repr(vars(provider))
