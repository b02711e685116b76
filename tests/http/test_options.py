"""What can be set is checked at once, and the error names the option."""

from __future__ import annotations

from typing import Any

import attrs
import httpx
import pytest
from langswarm.core.session import ConfigurationError
from langswarm.core.session.adapters.http.options import HttpOptions

from .wire import new_service

URL = "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (URL, URL),
        (URL + "///", URL),
        ("https://api.example.com", "https://api.example.com"),
        ("https://10.0.0.1:8443/v1", "https://10.0.0.1:8443/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("HTTPS://api.example.com/V1", "https://api.example.com/V1"),
        ("Http://LOCALHOST:8000", "http://LOCALHOST:8000"),
    ],
)
def test_a_base_url_is_https_or_a_loopback_host(given: str, used: str) -> None:
    assert HttpOptions(base_url=given).base_url == used


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("http://api.example.com/v1", "must be https"),
        ("http://10.0.0.1", "must be https"),
        ("http://localhost.example.com", "must be https"),
        ("http://127.0.0.1.example.com", "must be https"),
        ("http://2130706433/", "must be https"),
        ("http://localhost./", "must be https"),
        ("http://0.0.0.0/", "must be https"),
        ("http://[::]/", "must be https"),
        ("http://127.1/", "must be https"),
        ("http://\uff4c\uff4f\uff43alhost/", "must be https"),
        ("http://localhost\u3002example.com/", "must be https"),
        ("http://localhost%00.example.com/", "must be https"),
        ("ftp://localhost", "begin with https"),
        ("api.example.com", "begin with https"),
        ("https:///v1", "name a host"),
        ("https://user:canary@example.com", "no user and password"),
        ("http://canary@localhost", "no user and password"),
        ("https://example.com/v1?key=canary", "no query"),
        ("https://example.com/v1#canary", "no query and no fragment"),
        ("https://example.com/?", "no query"),
        ("https://example.com:port", "no URL"),
        ("https://exa mple.com", "must be a URL"),
        ("https://example.com\n", "must be a URL"),
        ("", "must be a URL"),
        (None, "must be a URL"),
    ],
)
def test_another_base_url_is_refused_without_showing_a_key_in_it(given: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"base_url .*{problem}") as caught:
        HttpOptions(base_url=given)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "http://[::1]evil.example.com",
        "http://[::1].example.com",
        "https://\uff2c\uff2f\uff23alhost",
        URL + "x" * 70_000,
    ],
)
def test_a_base_url_that_the_library_reads_otherwise_is_refused(given: str, library: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        new_service(given, library)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", "5"),
        ("timeout", True),
        ("timeout", None),
        ("connect_timeout", 0),
        ("stall_timeout", 0),
        ("queue_timeout", -1),
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("max_retry_wait", -1),
        ("max_connections", 0),
        ("max_connections", 10_001),
        ("requests_per_minute", 0),
        ("tokens_per_minute", 1.5),
        ("breaker_failures", -1),
        ("breaker_pause", 0),
        ("http_library", "requests"),
        ("http_library", None),
        ("http_client", object()),
        ("http_client", httpx.Client),
        ("headers", ["x"]),
        ("headers", {"x y": "1"}),
        ("headers", {"": "1"}),
        ("headers", {"x": 1}),
        ("headers", {"x": "a\nb"}),
        ("headers", {"x": "ü"}),
        ("headers", {"Host": "example.com"}),
        ("headers", {"Content-Length": "1"}),
        ("headers", {f"x{number}": "" for number in range(65)}),
    ],
)
def test_a_wrong_value_is_refused_with_the_options_name(name: str, value: Any) -> None:
    given: dict[str, Any] = {"base_url": URL, name: value}
    with pytest.raises(ConfigurationError, match=name):
        HttpOptions(**given)


def test_a_library_that_is_not_installed_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(_name: str) -> None:
        return None

    monkeypatch.setattr("langswarm.core.session.adapters.http.options.find_spec", find)
    with pytest.raises(ConfigurationError, match=r"pip install 'langswarm-session\[httpx2\]'"):
        HttpOptions(base_url=URL, http_library="httpx2")


def test_a_synchronous_client_is_refused() -> None:
    with httpx.Client() as client, pytest.raises(ConfigurationError, match="AsyncClient"):
        HttpOptions(base_url=URL, http_client=client)


def test_headers_are_kept_in_lower_case_and_not_shown() -> None:
    options = HttpOptions(base_url=URL, headers={"X-Gateway-Key": " canary-key ", "X-Team": "a"})
    assert options.headers == {"x-gateway-key": "canary-key", "x-team": "a"}
    assert "canary" not in repr(options)
    assert [each.reveal() for each in options.header_secrets()] == ["canary-key"]


def test_the_defaults_are_those_that_are_documented() -> None:
    options = attrs.asdict(HttpOptions(base_url=URL))
    assert options == {
        "base_url": URL,
        "timeout": 600.0,
        "connect_timeout": 5.0,
        "stall_timeout": 60.0,
        "queue_timeout": 60.0,
        "max_retries": 2,
        "max_retry_wait": 60.0,
        "max_connections": 100,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "breaker_failures": 10,
        "breaker_pause": 10.0,
        "http_library": "httpx",
        "http_client": None,
        "headers": {},
    }
