"""What can be set for the HTTP connection to a service; every value is checked at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, Final, cast
from urllib.parse import urlsplit

import attrs

from ...actors.errors import ConfigurationError
from ...actors.values import shown
from .secret import Secret, SecretTexts, is_possible_secret

MAX_SECONDS: Final = 86_400.0
MAX_CONNECTIONS: Final = 10_000
MAX_PER_MINUTE: Final = 10**12
MAX_HEADERS: Final = 64
MAX_HEADER_CHARACTERS: Final = 8_192
LIBRARIES: Final = ("httpx", "httpx2")

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding"}
)
_SECRET_NAMES = re.compile(r"(?i)auth|key|token|secret|password|cookie|credential")


def _number(low: float, high: float, unit: str) -> Any:
    def check(options: object, field: attrs.Attribute[Any], value: object) -> None:
        del options
        if isinstance(value, bool) or not isinstance(value, int | float):
            _refuse(field, f"a number of {unit}", value)
        elif not low <= value <= high:  # NaN is refused too
            _refuse(field, f"{low:g} to {high:g} {unit}", value)

    return check


def _count(low: int, high: int, unit: str) -> Any:
    def check(options: object, field: attrs.Attribute[Any], value: object) -> None:
        del options
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            _refuse(field, f"a whole number of {unit}, {low} to {high}", value)

    return check


def _refuse(field: attrs.Attribute[Any], wanted: str, value: object) -> None:
    raise ConfigurationError(f"{field.name} must be {wanted}, not {shown(value)}")


def _checked_url(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        raise ConfigurationError("base_url must be a URL such as https://api.example.com/v1")
    if "@" in value:  # in the path as well: a password may have a slash in it
        raise ConfigurationError(
            "base_url must hold no user and password: they would be in every log; use api_key "
            "(an @ that belongs to the path is %40)"
        )
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:  # its text may show what was taken for a port: a part of a password
        raise ConfigurationError("base_url is no URL: its host or port cannot be read") from None
    if not host or parts.scheme not in {"https", "http"}:
        raise ConfigurationError("base_url must begin with https:// and name a host")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ConfigurationError("base_url must hold no query and no fragment")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigurationError(
            f"base_url must be https: over http the key and every message to {host!r} could be "
            "read on the way; http is for localhost, 127.0.0.1 and [::1] only"
        )
    return parts.scheme + value[len(parts.scheme) :].rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_library(options: object, field: attrs.Attribute[Any], value: object) -> None:
    del options
    if value not in LIBRARIES:
        _refuse(field, f"one of {', '.join(LIBRARIES)}", value)
    if find_spec(str(value)) is None:
        raise ConfigurationError(
            f"http_library={value!r} is not installed: pip install 'langswarm-session[{value}]'"
        )


def library_of(client: object) -> str | None:
    """The library that a client comes from; None: it is none of the asynchronous clients."""
    for kind in type(client).__mro__:
        name = kind.__module__.partition(".")[0]
        if kind.__name__ == "AsyncClient" and name in LIBRARIES:
            return name
    return None


def _check_client(options: object, field: attrs.Attribute[Any], value: object) -> None:
    del options
    if value is not None and library_of(value) is None:
        raise ConfigurationError(
            f"{field.name} must be an httpx.AsyncClient or httpx2.AsyncClient, not a "
            f"{type(value).__name__}"
        )


def _checked_headers(value: Any) -> Mapping[str, str]:
    given = cast("Mapping[Any, Any]", value)
    if not isinstance(value, Mapping) or len(given) > MAX_HEADERS:
        raise ConfigurationError(f"headers must be a mapping of at most {MAX_HEADERS} texts")
    checked: dict[str, str] = {}
    for name, text in given.items():
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            raise ConfigurationError(f"headers: {shown(name)} is no name of a header")
        if name.lower() in _OURS:
            raise ConfigurationError(f"headers may not set {name!r}: the connection needs it")
        if (
            not isinstance(text, str)
            or len(text) > MAX_HEADER_CHARACTERS
            or not text.isascii()
            or not (text.isprintable() or not text)
        ):
            raise ConfigurationError(
                f"headers[{name!r}] must be a text of printable ASCII, at most "
                f"{MAX_HEADER_CHARACTERS} characters"
            )
        checked[name.lower()] = text.strip()
    return SecretTexts(checked)


@attrs.frozen(kw_only=True)
class HttpOptions:
    """How to reach a service and how long to wait for it. Times are in seconds.

    Raises ConfigurationError that names the option, what is wanted and what was given.
    """

    base_url: str = attrs.field(converter=_checked_url)
    """https, or http to a loopback host; without user, query and fragment."""
    timeout: float = attrs.field(default=600.0, validator=_number(0.001, MAX_SECONDS, "seconds"))
    """Of one attempt as a whole, to the last byte of its answer."""
    connect_timeout: float = attrs.field(
        default=5.0, validator=_number(0.001, MAX_SECONDS, "seconds")
    )
    """For the TCP connection, and again for TLS."""
    stall_timeout: float = attrs.field(
        default=60.0, validator=_number(0.001, MAX_SECONDS, "seconds")
    )
    """A streamed answer ends as code `timeout` when nothing came for so long: neither its first
    headers, nor a whole event, nor a comment."""
    queue_timeout: float = attrs.field(default=60.0, validator=_number(0, MAX_SECONDS, "seconds"))
    """For a free connection and for the limits per minute, together."""
    max_retries: int = attrs.field(default=2, validator=_count(0, 100, "retries"))
    """Further attempts after the first one."""
    max_retry_wait: float = attrs.field(default=60.0, validator=_number(0, MAX_SECONDS, "seconds"))
    """A service that asks for a longer pause is not asked again: the error goes up."""
    max_connections: int = attrs.field(
        default=100, validator=_count(1, MAX_CONNECTIONS, "connections")
    )
    """Open at once; further requests wait in the order in which they came."""
    requests_per_minute: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_count(1, MAX_PER_MINUTE, "requests"))
    )
    """None: as many as the service's headers allow. A minute's worth may go at once."""
    tokens_per_minute: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_count(1, MAX_PER_MINUTE, "tokens"))
    )
    """As `requests_per_minute`, by an estimate of each request's tokens."""
    breaker_failures: int = attrs.field(default=10, validator=_count(0, 10_000, "failures"))
    """So many in a row that say "the service is down" stop all requests; 0: never."""
    breaker_pause: float = attrs.field(
        default=10.0, validator=_number(0.001, MAX_SECONDS, "seconds")
    )
    """For so long; then one request is let through to see."""
    http_library: str = attrs.field(default="httpx", validator=_check_library)
    """"httpx" or "httpx2"."""
    http_client: Any = attrs.field(default=None, validator=_check_client, repr=False)
    """An AsyncClient of either library to use as it is, for proxies and certificates of one's own;
    it is never closed here."""
    headers: Mapping[str, str] = attrs.field(
        factory=dict[str, str], converter=_checked_headers, repr=False
    )
    """Sent with every request. Not shown, since a gateway's key may be among them."""

    def header_secrets(self) -> tuple[Secret, ...]:
        """The values of headers that are keys by their names, those of `http_client` included."""
        of_client: Mapping[str, str] = {} if self.http_client is None else self.http_client.headers
        return tuple(
            Secret(text, f"headers[{name!r}]")
            for name, text in (*self.headers.items(), *of_client.items())
            if _SECRET_NAMES.search(name) and is_possible_secret(text)
        )
