"""The server: a thread of its own with an event loop of its own, on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self

import anyio.to_thread
import attrs

from .answers import echo
from .connection import Connection
from .faults import Fault, hold
from .gates import PATIENCE_SECONDS, Gate
from .state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .answers import Says
    from .exchange import Exchange
    from .http1 import HttpRequest
    from .values import Json

MAX_RECORDED = 100_000
START_SECONDS = 40.0


@attrs.define(kw_only=True, eq=False)
class Seen:
    """A request as the server saw it."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """Parsed JSON; None: there was none."""
    content: bytes
    connection: int
    """Number of the connection that it came on."""
    status: int = 0
    """Of the answer; 0: no headers were sent."""
    events: int = 0
    """How many were sent whole."""
    outcome: str = "open"
    """`open`, `answered`, `aborted` (by the client), `failed` (in the server's own code)."""

    @property
    def key(self) -> str | None:
        """The API key that was shown."""
        bearer = self.headers.get("authorization", "")
        if bearer.lower().startswith("bearer "):
            return bearer[len("bearer ") :]
        return self.headers.get("x-api-key")


@attrs.define
class _Script:
    path: str | None
    method: str | None
    faults: list[Fault]


class VendorServer:
    """Answers as the vendors do. Every method is for the test's threads.

    `answer`, `headers`, `finishes_aborted` and the fields of `state` may be set at any time; they
    hold for the requests that come then.
    """

    def __init__(self, *, record: bool = True) -> None:
        self.state = State()
        self.answer: Says = echo
        """What the model says: an Answer, a text, or a function of what it is asked."""
        self.headers: dict[str, str] = {}
        """Sent with every answer."""
        self.finishes_aborted = False
        """Whether a turn goes on when its client is gone: its answer is stored then."""
        self.requests: list[Seen] = []
        self.open_connections = 0
        self.connections = 0
        """How many were ever accepted."""
        self.aborted = 0
        """Answers that the client broke off: it closed the connection before their end."""
        self.failures: list[BaseException] = []
        """Errors in the server's own code; leaving the context raises the first."""
        self.url = ""
        self._record = record
        self._received = 0
        self._scripts: list[_Script] = []
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: set[Connection] = set()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="vendor server", daemon=True)

    # ------------------------------------------------------------ life

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or not self.url:
            raise RuntimeError("the vendor server did not start") from next(
                iter(self.failures), None
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the vendor server did not stop")
        if kind is None and self.failures:
            raise RuntimeError("the vendor server itself failed") from self.failures[0]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the test's thread
            self.failures.append(error)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(
            lambda: Connection(self), "127.0.0.1", 0, backlog=1024
        )
        port: int = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [task for each in self._live if (task := each.close()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    @property
    def openai_url(self) -> str:
        """The base_url for OpenAI's API and for servers compatible with it."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base_url for Anthropic's API."""
        return self.url

    # ------------------------------------------------------------ what a test says

    def script(self, *faults: Fault, path: str | None = None, method: str | None = None) -> None:
        """One fault for each of the next requests whose path begins with `path`, in this order."""
        with self._changed:
            self._scripts.append(_Script(path, method, list(faults)))

    def hold(
        self,
        path: str | None = None,
        *,
        method: str | None = None,
        events: int | None = None,
        after_bytes: int | None = None,
    ) -> Gate:
        """Hold the next such request: before its headers, or after so many events or bytes."""
        gate = Gate()
        self.script(hold(gate, events=events, after_bytes=after_bytes), path=path, method=method)
        return gate

    def clear_scripts(self) -> None:
        """Faults that were not used yet are forgotten."""
        with self._changed:
            self._scripts.clear()

    def drop_idle(self) -> None:
        """Close the connections that wait for a request, as servers do after a while."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._drop_idle(), self._loop).result(START_SECONDS)

    async def _drop_idle(self) -> None:
        for connection in list(self._live):
            connection.drop_if_idle()

    @property
    def faults_left(self) -> int:
        with self._changed:
            return sum(len(script.faults) for script in self._scripts)

    # ------------------------------------------------------------ what a test asks

    def seen(self, path: str | None = None, method: str | None = None) -> list[Seen]:
        """The requests so far whose path begins with `path`."""
        with self._changed:
            return [each for each in self.requests if _matches(each, path, method)]

    @property
    def last(self) -> Seen:
        """The latest request."""
        return self.requests[-1]

    def wait_for(
        self, count: int, path: str | None = None, seconds: float = PATIENCE_SECONDS
    ) -> list[Seen]:
        """The requests, as soon as there are `count` of them. TimeoutError after `seconds`."""
        self.wait_until(lambda: len(self.seen(path)) >= count, seconds)
        return self.seen(path)

    def wait_until(self, holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Until `holds()`; it is asked whenever something happens here. TimeoutError after it."""
        with self._changed:
            if not self._changed.wait_for(holds, seconds):
                raise TimeoutError(
                    f"not so after {seconds} s: {len(self.requests)} requests, "
                    f"{self.open_connections} open connections, {self.aborted} aborted"
                )

    async def until(self, holds: Callable[[], bool]) -> None:
        """`wait_until` for async tests."""
        await anyio.to_thread.run_sync(self.wait_until, holds, abandon_on_cancel=True)

    @property
    def orphaned_items(self) -> Sequence[Json]:
        """Items of deleted conversations: nobody can list or delete them any more."""
        return self.state.conversations.orphans

    # ------------------------------------------------------------ from connections

    @contextlib.contextmanager
    def changing(self) -> Generator[None, None, None]:
        with self._changed:
            yield
            self._changed.notify_all()

    def receive(self, request: HttpRequest, connection: int) -> Seen:
        with self.changing():
            self._received += 1
            seen = Seen(
                number=self._received,
                method=request.method,
                path=request.path,
                query=dict(request.query),
                headers=dict(request.headers),
                body=request.json(),
                content=request.content,
                connection=connection,
            )
            if self._record and len(self.requests) < MAX_RECORDED:
                self.requests.append(seen)
            return seen

    def fault_for(self, seen: Seen) -> Fault:
        with self._changed:
            for script in self._scripts:
                if script.faults and _matches(seen, script.path, script.method):
                    fault = script.faults.pop(0)
                    self._scripts = [each for each in self._scripts if each.faults]
                    return fault
        return _NO_FAULT

    def settle(self, seen: Seen, exchange: Exchange, outcome: str) -> None:
        with self.changing():
            if seen.outcome != "open":
                return
            seen.status = exchange.status
            seen.events = exchange.events
            seen.outcome = outcome
            self.aborted += outcome == "aborted"

    def join(self, connection: Connection) -> int:
        with self.changing():
            self._live.add(connection)
            self.open_connections += 1
            self.connections += 1
            return self.connections

    def leave(self, connection: Connection) -> None:
        with self.changing():
            self._live.discard(connection)
            self.open_connections -= 1


_NO_FAULT = Fault()


def _matches(seen: Seen, path: str | None, method: str | None) -> bool:
    return (path is None or seen.path.startswith(path)) and (
        method is None or seen.method == method
    )


def vendor_server(*, record: bool = True) -> VendorServer:
    """A server: `with vendor_server() as server:`. `record=False`: it keeps no requests."""
    return VendorServer(record=record)
