"""The HTTP client: the only module that loads httpx or httpx2, and only when it is used.

Why not one client for all: httpx is slow with many connections in one pool (each request walks
them all several times: 11 ms of CPU at 100 concurrent requests, 1.5 ms with pools of 20, 0.6 ms
with pools of 10), and a pool of its version 0.28 loses places for ever when requests are cancelled
while they wait for a connection. So connections are spread over small pools, and the service has a
line of its own in front of them, no longer than their places: nobody ever waits in a pool. If
somebody has to wait there all the same, that proves that the pool has lost a place: it is replaced,
and the request, which was not sent yet, goes to the new one.

What is used is the library's transport. A client would add cookies, redirects and hooks, none of
which is wanted here, and a third of the CPU of a request. A client that is handed in is used as
it is, with all it has.
"""

from __future__ import annotations

import logging
import ssl
from functools import lru_cache
from importlib import import_module
from socket import gaierror
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import urlsplit

import attrs

from ...actors.errors import ConfigurationError
from .inflating import PackingError
from .options import library_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

    from ...actors.errors import ProviderCode
    from .options import HttpOptions

CONNECTIONS_PER_POOL: Final = 10
POOL_SECONDS: Final = 0.05
"""Nobody waits in a pool that is sound; so long is waited for a place in one that is not."""
KEEPALIVE_SECONDS: Final = 30.0
"""An idle connection is closed then. Most services keep theirs longer, so that no request meets
the closing of its connection."""
_MAX_CHAIN: Final = 12
_KEPT_URLS: Final = 256

Kind = Literal[
    "pool",
    "refused",
    "dns",
    "certificate",
    "tls",
    "connect_timeout",
    "connect",
    "local",
    "packing",
    "protocol",
    "timeout",
    "lost",
    "guest",
]

logger = logging.getLogger("langswarm.core.session")

_contexts: dict[str, ssl.SSLContext] = {}
_contexts_lock = Lock()


@attrs.frozen
class Manner:
    """What a kind of failure means: its code, whether to repeat it, and what to tell."""

    code: ProviderCode
    retryable: bool
    ambiguous: bool
    text: str


MANNERS: Final[dict[Kind, Manner]] = {
    "refused": Manner(
        "connection",
        retryable=True,
        ambiguous=False,
        text="the connection to {origin} was refused; check base_url, and that the service runs",
    ),
    "dns": Manner(
        "connection",
        retryable=True,
        ambiguous=False,
        text="the name of {origin} was not found; check base_url and this machine's DNS",
    ),
    "certificate": Manner(
        "connection",
        retryable=False,
        ambiguous=False,
        text="the certificate of {origin} is not trusted; check base_url; for a certificate "
        "authority of your own hand in an http_client that trusts it",
    ),
    "tls": Manner(
        "connection",
        retryable=True,
        ambiguous=False,
        text="no TLS connection to {origin} could be made; check that base_url names an https port",
    ),
    "connect_timeout": Manner(
        "timeout",
        retryable=True,
        ambiguous=False,
        text="no connection to {origin} within connect_timeout={connect:g} s; check the network "
        "and base_url",
    ),
    "connect": Manner(
        "connection",
        retryable=True,
        ambiguous=False,
        text="no connection to {origin}; check the network and base_url",
    ),
    "pool": Manner(
        "overloaded",
        retryable=True,
        ambiguous=False,
        text="no connection to {origin} became free; raise the limits of http_client to at least "
        "max_connections={connections}, or lower that",
    ),
    "local": Manner(
        "invalid_request",
        retryable=False,
        ambiguous=False,
        text="the request to {origin} cannot be written as HTTP; check the headers and base_url",
    ),
    "packing": Manner(
        "protocol",
        retryable=True,
        ambiguous=True,
        text="{origin} compressed its answer, which it was asked not to, and it cannot be "
        "unpacked; check what stands between",
    ),
    "protocol": Manner(
        "connection",
        retryable=True,
        ambiguous=True,
        text="{origin} ended the connection within its answer, or spoke no HTTP; if this happens "
        "again, check what stands between",
    ),
    "timeout": Manner(
        "timeout",
        retryable=True,
        ambiguous=True,
        text="{origin} did not go on in time; raise the timeouts of http_client, if they are short",
    ),
    "lost": Manner(
        "connection",
        retryable=True,
        ambiguous=True,
        text="the connection to {origin} was lost; send it again, or check the network",
    ),
    "guest": Manner(
        "internal",
        retryable=False,
        ambiguous=True,
        text="the HTTP client failed with an error of its own or of a hook of http_client's; see "
        "the cause",
    ),
}


def load_library(options: HttpOptions) -> Any:
    """The module that is wanted: httpx or httpx2."""
    name = library_of(options.http_client) or options.http_library
    return import_module(name)


def check_url(library: Any, options: HttpOptions) -> None:
    """That the library reads base_url as the options were checked: ConfigurationError."""
    try:
        read = library.URL(options.base_url)
    except Exception:  # noqa: BLE001 - it raises errors of several other libraries
        raise ConfigurationError("base_url is no URL: its host cannot be looked up") from None
    host = urlsplit(options.base_url).hostname
    if read.scheme == "http" and read.host != host:
        raise ConfigurationError("base_url is no URL that is read in one way only")


def _context(library: Any, *, secure: bool) -> ssl.SSLContext:
    if not secure:
        # It trusts nobody: nothing but plain http to a loopback host will be asked of it.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name: str = library.__name__
    with _contexts_lock:  # made once: reading the certificates costs 27 ms
        if name not in _contexts:
            _contexts[name] = library.create_ssl_context(trust_env=False)
        return _contexts[name]


class _Pieces:
    """The content of a request, in one piece."""

    __slots__ = ("_left",)

    def __init__(self, content: bytes) -> None:
        self._left: bytes | None = content

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        left, self._left = self._left, None
        if left is None:
            raise StopAsyncIteration
        return left


@lru_cache
def _stream_type(library: Any) -> Any:
    """The library's type for a content, iterated without a generator.

    httpx has a generator for it that nobody closes when a request is cancelled while it is sent:
    trio warns of each such one.
    """

    def init(stream: Any, content: bytes) -> None:
        stream.content = content

    def pieces(stream: Any) -> _Pieces:
        return _Pieces(stream.content)

    names = {"__init__": init, "__aiter__": pieces}
    return type("Content", (library.AsyncByteStream,), names)


class Pool:
    """Some connections, and how many of them are in use."""

    __slots__ = ("_transport", "in_use", "is_retired", "places")

    def __init__(self, transport: httpx.AsyncHTTPTransport, places: int) -> None:
        self._transport = transport
        self.places = places
        self.in_use = 0
        self.is_retired = False

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer."""
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        """Close all connections, those in use as well."""
        await self._transport.aclose()


class Client:
    """Requests in, answers out, in one event loop."""

    def __init__(self, library: Any, options: HttpOptions) -> None:
        self._library = library
        self._options = options
        self._given: httpx.AsyncClient | None = options.http_client
        self._pools: list[Pool] = []
        self._retired: list[Pool] = []
        self._unmade = options.max_connections  # places of pools that nobody needed yet
        self._make_url = lru_cache(_KEPT_URLS)(library.URL)
        self._timeouts = {
            "connect": options.connect_timeout,
            "read": None,
            "write": None,
            "pool": POOL_SECONDS if self._given is None else options.queue_timeout,
        }

    def request(
        self, method: str, url: str, headers: dict[str, str], content: bytes | None
    ) -> httpx.Request:
        """A request; with a client that was handed in, by its own ways."""
        extensions = {"timeout": self._timeouts}
        build = self._library.Request if self._given is None else self._given.build_request
        made: httpx.Request = build(
            method,
            self._make_url(url) if self._given is None else url,
            headers=headers,
            content=content,
            extensions=extensions,
        )
        if content is not None:
            made.stream = _stream_type(self._library)(content)
        return made

    def choose(self) -> Pool | None:
        """The pool with the fewest requests, for one more; None: a client was handed in."""
        if self._given is not None:
            return None
        pool = min(self._pools, key=_load, default=None)
        if self._unmade and (pool is None or pool.in_use):
            pool = self._make_pool(min(self._unmade, CONNECTIONS_PER_POOL))
            self._unmade -= pool.places
            self._pools.append(pool)
        assert pool is not None  # noqa: S101 - there is at least one connection
        pool.in_use += 1
        return pool

    async def send(self, request: httpx.Request, pool: Pool | None) -> httpx.Response:
        """The head of the answer; raises whatever the library does."""
        if pool is not None:
            return await pool.send(request)
        assert self._given is not None  # noqa: S101 - choose() gave no pool
        return await self._given.send(request, stream=True, follow_redirects=False)

    def body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The bytes of an answer, as they came."""
        if response.is_stream_consumed:  # a client that was handed in has read it
            return response.aiter_bytes()
        stream: Any = response.stream if self._given is None else response.aiter_raw()
        found: AsyncIterator[bytes] = stream.__aiter__()
        return found

    def retire(self, pool: Pool) -> None:
        """Replace a pool that has lost places; those who use it may finish."""
        if pool.is_retired:
            return
        pool.is_retired = True
        if pool in self._pools:
            self._pools[self._pools.index(pool)] = self._make_pool(pool.places)
            self._retired.append(pool)

    def give_back(self, pool: Pool | None) -> None:
        """A request has ended. Plain."""
        if pool is not None:
            pool.in_use -= 1

    @property
    def has_retired(self) -> bool:
        """Whether there are pools to `sweep`."""
        return bool(self._retired)

    async def sweep(self) -> None:
        """Close the replaced pools that nobody uses any more."""
        done = [pool for pool in self._retired if not pool.in_use]
        self._retired = [pool for pool in self._retired if pool.in_use]
        for pool in done:
            try:
                await pool.close()
            except Exception as error:  # noqa: BLE001 - nothing hangs on it, the next is to be closed
                logger.debug("connections were not closed in order: %s", type(error).__name__)

    async def close(self) -> None:
        """Close all connections of our own; one that is in use by `sweep`, after its request."""
        for pool in self._pools:
            pool.is_retired = True
        self._retired += self._pools
        self._pools = []
        self._unmade = self._options.max_connections
        await self.sweep()

    def kind_of(self, error: Exception) -> Kind:
        """What kind of failure an exception of the library's is."""
        lib = self._library
        if isinstance(error, lib.ConnectError | lib.ProxyError):
            return _kind_of_connect_error(error)
        if isinstance(error, PackingError):
            return "packing"
        kinds: tuple[tuple[Any, Kind], ...] = (
            (lib.PoolTimeout, "pool"),
            (lib.ConnectTimeout, "connect_timeout"),
            (lib.TimeoutException, "timeout"),
            (lib.LocalProtocolError | lib.UnsupportedProtocol | lib.InvalidURL, "local"),
            (lib.RemoteProtocolError | lib.DecodingError, "protocol"),
            (lib.TransportError | OSError, "lost"),
        )
        for types, kind in kinds:
            if isinstance(error, types):
                return kind
        is_loops = type(error).__module__.partition(".")[0] in {"anyio", "trio"}
        return "lost" if is_loops else "guest"

    def _make_pool(self, places: int) -> Pool:
        lib = self._library
        limits = lib.Limits(
            max_connections=places,
            max_keepalive_connections=places,
            keepalive_expiry=KEEPALIVE_SECONDS,
        )
        secure = self._options.base_url.startswith("https:")
        return Pool(
            lib.AsyncHTTPTransport(
                verify=_context(lib, secure=secure),
                trust_env=False,
                http1=True,
                http2=False,
                limits=limits,
            ),
            places,
        )


def _load(pool: Pool) -> float:
    return pool.in_use / pool.places


def _kind_of_connect_error(error: Exception) -> Kind:
    for each in _chain(error):
        if isinstance(each, gaierror):
            return "dns"
        if isinstance(each, ssl.SSLCertVerificationError):
            return "certificate"
        if isinstance(each, ssl.SSLError):
            return "tls"
        if isinstance(each, ConnectionRefusedError):
            return "refused"
    return "connect"


def _chain(error: BaseException) -> Iterator[BaseException]:
    todo: list[BaseException] = [error]
    seen: list[BaseException] = []
    while todo and len(seen) < _MAX_CHAIN:
        each = todo.pop(0)
        if any(each is other for other in seen):
            continue
        seen.append(each)
        yield each
        if isinstance(each, BaseExceptionGroup):
            todo.extend(cast("BaseExceptionGroup[BaseException]", each).exceptions)
        todo.extend(near for near in (each.__cause__, each.__context__) if near is not None)
