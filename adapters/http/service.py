"""Requests to one service with one key: limits, retries, a breaker, and no key in any text.

A request goes this way: the breaker (refuses at once), the service's and one's own limits per
minute, the line for a connection, a pool, the wire. `queue_timeout` bounds the waits in between.
What it holds is given back by plain code, whatever happens; closing what was begun is shielded
from cancellation and takes two seconds at most.

Breaker and buckets belong to the service and outlive an event loop; connections and lines belong
to the loop they were made in, and each loop has its own, one after another or at the same time in
several threads. Their clock is the loop's, moved so that it goes on where it was in the one before.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from contextlib import suppress
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import anyio
import attrs

from ...actors.errors import ProviderError
from .breaker import Breaker
from .buckets import Meter
from .client import check_url, load_library
from .library_logs import keep_out_of_logs
from .loop_state import LoopState, LoopStates
from .retries import Attempts, hinted_seconds
from .secret import scrub, scrub_value
from .stream import CLOSING_SECONDS, HttpAnswer, HttpStream, Lease, raise_if
from .trouble import (
    SERVER_ERROR,
    HttpStatusError,
    HttpTroubleError,
    is_ambiguous,
    scrub_error,
)
from .troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    import httpx

    from .options import HttpOptions
    from .secret import Secret

    ReadError = Callable[[int, Mapping[str, str], object], ProviderError]
    """From status, headers (names in lower case) and body (parsed JSON, or text) to an error."""

MAX_MODELS: Final = 64
"""Models whose limits are kept; those of the one that is longest unused are forgotten."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Of an answer that is not streamed."""
MAX_ERROR_BYTES: Final = 65_536
"""Of an error's body; the rest is not read."""
MAX_MODEL_CHARACTERS: Final = 200
_HEADERS: Final = {"user-agent": "langswarm-session", "accept-encoding": "identity"}
_SHOWN_BYTES: Final = 200
_ID_CHARACTERS: Final = 200
_REDIRECTS: Final = range(300, 400)
_SUCCESS: Final = range(200, 300)
_POOL_TRIES: Final = 3
_PATH = re.compile(r"(?:[A-Za-z0-9/_.:~@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class HttpCall:
    """One request."""

    method: str
    path: str
    """Joined to `base_url`. Ids in it are to be quoted."""
    body: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    """Sent as JSON."""
    query: Mapping[str, str] = attrs.field(factory=dict[str, str])
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    tokens: int = 0
    """An estimate, for the limits per minute."""
    repeatable: bool = True
    """False: after an ambiguous failure it must not be sent again blindly."""
    takes_document: bool = False
    """True: a service that does not stream may answer with one JSON document, which is one event
    then."""


class HttpService:
    """All requests of one provider object. Made in plain code, used in any event loops.

    `max_connections` holds for each loop, the limits per minute for all of them together.

    Args:
        provider: the name that errors carry.
        options: where and how long.
        auth: the headers that hold the key, asked for at each request.
        read_error: makes an error out of an answer whose status is no success.
        secrets: taken out of every text that leaves.
        rng: where the pauses come from; None: from the system, so that processes that were forked
            do not all make the same.
    """

    def __init__(
        self,
        *,
        provider: str,
        options: HttpOptions,
        auth: Callable[[], Mapping[str, str]],
        read_error: ReadError,
        secrets: Sequence[Secret] = (),
        rng: Random | None = None,
    ) -> None:
        self.provider = provider
        self.options = options
        self._auth = auth
        self._read_error = read_error
        self._secrets = (*secrets, *options.header_secrets())
        self._rng = SystemRandom() if rng is None else rng
        self._library = load_library(options)
        check_url(self._library, options)
        keep_out_of_logs(self._library.__name__, self._secrets)
        self._troubles = Troubles(provider, options, self._secrets)
        self._breaker = Breaker(failures=options.breaker_failures, pause=options.breaker_pause)
        self._own = Meter(requests=options.requests_per_minute, tokens=options.tokens_per_minute)
        self._models: OrderedDict[str, Meter] = OrderedDict()
        self._states = LoopStates()

    async def fetch(self, call: HttpCall) -> HttpAnswer:
        """Send a request and read its whole answer, again and again where that is right.

        Raises ProviderError.
        """
        attempts = self.attempts()
        while True:
            try:
                return await self._fetch_once(call)
            except ProviderError as error:
                blind = not call.repeatable and is_ambiguous(error)
                if blind or not await attempts.again(error):
                    # Without the frames below, whose locals hold what the service said.
                    raise error.with_traceback(None)  # noqa: B904 - it is the same error

    def open(self, call: HttpCall) -> Opening:
        """One attempt of a call whose answer is streamed: `async with service.open(call) as s`.

        Entering raises ProviderError where the answer is no stream of events.
        """
        return Opening(self, call)

    def attempts(self) -> Attempts:
        """The attempts of one call, to be made with `open`."""
        options = self.options
        return Attempts(
            max_retries=options.max_retries, max_wait=options.max_retry_wait, rng=self._rng
        )

    async def aclose(self) -> None:
        """Close the connections made in this event loop, within two seconds. Usable again after.

        Requests that run or wait are not disturbed: theirs are closed when they have ended.
        """
        state = self._states.current()
        if state is not None:
            with state.backend.scope(state.backend.now() + CLOSING_SECONDS, shield=True):
                await state.client.close()

    def without_secrets(self, value: Any) -> Any:
        """A JSON value, or a tuple of them, without the keys in its texts."""
        return scrub_value(value, self._secrets)

    def scrub_error(self, error: ProviderError) -> None:
        """Take the keys out of an error's texts, in place."""
        scrub_error(error, self._secrets)

    async def begin(self, call: HttpCall, *, streamed: bool) -> HttpStream:
        """The head of an answer that is a success; see `open`, which closes it as well."""
        state = self._here()
        url, content = self._write(call)
        meter = self._meter_for(call)
        await self._admit(state, call, meter)
        lease = Lease(
            gate=state.gate,
            client=state.client,
            meter=meter,
            tokens=call.tokens,
            permit=self._breaker.enter(),
        )
        meter.depart(call.tokens)
        stream: HttpStream | None = None
        try:
            total_at = state.backend.now() + self.options.timeout
            response = await self._send(
                state, lease, (call, url, content), total_at, streamed=streamed
            )
            stream = HttpStream(
                response,
                backend=state.backend,
                now=state.now,
                lease=lease,
                troubles=self._troubles,
                total_at=total_at,
                stall=self.options.stall_timeout,
            )
            await self._look_at(state, call, stream, lease, streamed=streamed)
        except BaseException:
            if stream is None:
                lease.end()
                await lease.tidy(state.backend)
            else:
                await stream.aclose()
            raise
        return stream

    async def _fetch_once(self, call: HttpCall) -> HttpAnswer:
        stream = await self.begin(call, streamed=False)
        try:
            content = await stream.read(MAX_BODY_BYTES)
        finally:
            await stream.aclose()
        body: Any = None
        trouble: HttpTroubleError | None = None
        if content.strip():
            try:
                body = json.loads(content)
            except (ValueError, RecursionError):
                kind = stream.headers.get("content-type", "no type")[:100]
                trouble = self._troubles.malformed(f"an answer that is no JSON ({kind})")
        raise_if(trouble)
        return HttpAnswer(status=stream.status, headers=stream.headers, body=body)

    async def _send(
        self,
        state: LoopState,
        lease: Lease,
        request: tuple[HttpCall, str, bytes | None],
        total_at: float,
        *,
        streamed: bool,
    ) -> httpx.Response:
        backend = state.backend
        for tries_left in reversed(range(_POOL_TRIES)):
            lease.pool = state.client.choose()
            deadline = total_at
            if streamed:
                deadline = min(total_at, backend.now() + self.options.stall_timeout)
            trouble: HttpTroubleError | None = None
            kind = ""
            response: httpx.Response | None = None
            try:
                with backend.scope(deadline) as scope:
                    response = await state.client.send(
                        self._request(state, *request, streamed=streamed), lease.pool
                    )
                if scope.cancelled_caught:
                    trouble = self._troubles.too_late(is_total=deadline == total_at)
            except Exception as error:  # noqa: BLE001 - mapped, whatever it is
                kind = state.client.kind_of(error)
                trouble = self._troubles.failed(state.client, error)
            if response is not None:
                return response
            if kind == "pool" and lease.pool is not None and tries_left:
                state.client.give_back(lease.pool)
                state.client.retire(lease.pool)
                lease.pool = None
                await state.client.sweep()
                continue
            if kind not in {"pool", "local", "guest", "certificate"}:
                lease.permit.failed(state.now())
            raise_if(trouble)
        raise AssertionError  # pragma: no cover - the last try returns or raises

    async def _look_at(
        self,
        state: LoopState,
        call: HttpCall,
        stream: HttpStream,
        lease: Lease,
        *,
        streamed: bool,
    ) -> None:
        """Learn from the head; raise the error that it is, if it is one."""
        wall_now = time.time()
        lease.landed()
        now = state.now()
        lease.meter.learn(stream.status, stream.headers, now, wall_now)
        if stream.status >= SERVER_ERROR:
            lease.permit.failed(now)
        if stream.status in _SUCCESS:
            if not streamed:
                lease.permit.succeeded()
                return
            kind = stream.headers.get("content-type", "")
            essence = kind.partition(";")[0].strip().lower()
            if not kind or essence == "text/event-stream":
                return
            if call.takes_document and essence == "application/json":
                stream.is_document = True
                return
            said = scrub(_text(await stream.read(_SHOWN_BYTES, cut=True)), self._secrets)
            raise self._troubles.malformed(f"no stream of events but {kind[:100]}: {said!r}")
        lease.permit.succeeded()
        if stream.status in _REDIRECTS:
            location = stream.headers.get("location", "")
            raise self._troubles.redirected(stream.status, location)
        text = ""
        with suppress(HttpTroubleError):  # the status says enough
            text = scrub(_text(await stream.read(MAX_ERROR_BYTES, cut=True)), self._secrets)
        error = self._error_of(stream, text, wall_now)
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def _error_of(self, stream: HttpStream, text: str, wall_now: float) -> ProviderError:
        headers = stream.headers
        body: object = text
        # Not an error, because what stands between a service and us answers in HTML.
        with suppress(ValueError, RecursionError):
            body = json.loads(text)
        try:
            error = self._read_error(stream.status, headers, body)
        except Exception as failed:  # noqa: BLE001 - whatever it is, it is no answer
            error = self._troubles.unreadable(stream.status, failed)
        self.scrub_error(error)
        request_id = request_id_of(headers)
        name = f", request {request_id}" if request_id else ""
        cause = HttpStatusError(f"HTTP status {stream.status}{name}", stream.status, headers)
        if not isinstance(error, HttpTroubleError):
            error.__cause__ = cause
        hint = hinted_seconds(headers, wall_now)
        if hint is not None and error.retry_after_seconds is None:
            error.retry_after_seconds = hint
        if cause.should_retry is not None:
            error.retryable = cause.should_retry
        return error

    async def _admit(self, state: LoopState, call: HttpCall, meter: Meter) -> None:
        """Wait for the limits and a connection; a place in the gate is held afterwards."""
        self._refuse_if_broken(state)
        backend = state.backend
        deadline = backend.now() + self.options.queue_timeout
        for each in (meter, self._own):
            await self._wait_for_meter(state, each, call, deadline)
        try:
            await self._enter_gate(state, deadline)
        except BaseException:
            self._own.put_back(call.tokens)
            raise

    async def _enter_gate(self, state: LoopState, deadline: float) -> None:
        if not await state.gate.enter(deadline):
            raise self._troubles.queued_too_long()
        try:
            self._refuse_if_broken(state)
        except BaseException:
            state.gate.leave()
            raise

    async def _wait_for_meter(
        self, state: LoopState, meter: Meter, call: HttpCall, deadline: float
    ) -> None:
        is_own = meter is self._own
        line = state.line(meter)
        if not await line.enter(deadline):
            raise self._troubles.limited(1.0, own=is_own)
        try:
            while (delay := meter.delay(call.tokens, state.now())) > 0:
                if state.backend.now() + delay > deadline:
                    raise self._troubles.limited(delay, own=is_own)
                await anyio.sleep(delay)
            meter.take(call.tokens, state.now())
        finally:
            line.leave()

    def _refuse_if_broken(self, state: LoopState) -> None:
        seconds = self._breaker.refused_for(state.now())
        if seconds is not None:
            raise self._troubles.broken(seconds)

    def _write(self, call: HttpCall) -> tuple[str, bytes | None]:
        """URL and body, or ProviderError of code `invalid_request`."""
        path = call.path.lstrip("/")
        if _PATH.fullmatch(path) is None or _DOTS.search(path):
            raise self._troubles.unwritable(f"{path[:200]!r} is no path; ids in it must be quoted")
        url = f"{self.options.base_url}/{path}"
        if call.query:
            url = f"{url}?{urlencode(call.query)}"
        if call.body is None:
            return url, None
        trouble: HttpTroubleError | None = None
        try:
            text = json.dumps(call.body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return url, text.encode()
        except (ValueError, TypeError, RecursionError) as error:
            trouble = self._troubles.unwritable(f"its body is no JSON ({error})")
        raise_if(trouble)
        raise AssertionError  # pragma: no cover

    def _request(
        self, state: LoopState, call: HttpCall, url: str, content: bytes | None, *, streamed: bool
    ) -> httpx.Request:
        headers = {**_HEADERS, **self.options.headers, **call.headers}
        headers["accept"] = "text/event-stream" if streamed else "application/json"
        if content is not None:
            headers["content-type"] = "application/json"
        headers.update(self._auth())
        return state.client.request(call.method, url, headers, content)

    def _meter_for(self, call: HttpCall) -> Meter:
        named = None if call.body is None else call.body.get("model")
        model = named[:MAX_MODEL_CHARACTERS] if isinstance(named, str) else ""
        meter = self._models.get(model)
        if meter is None:
            meter = self._models[model] = Meter()
            if len(self._models) > MAX_MODELS:
                self._models.popitem(last=False)
        with suppress(KeyError):  # another thread may have dropped it at this moment
            self._models.move_to_end(model)
        return meter

    def _here(self) -> LoopState:
        """The state of the running loop."""
        return self._states.here(lambda: LoopState(self._library, self.options))


class Opening:
    """A streamed call about to be made: an asynchronous context manager."""

    __slots__ = ("_call", "_service", "_stream")

    def __init__(self, service: HttpService, call: HttpCall) -> None:
        self._service = service
        self._call = call
        self._stream: HttpStream | None = None

    async def __aenter__(self) -> HttpStream:
        try:
            self._stream = await self._service.begin(self._call, streamed=True)
        except ProviderError as error:
            # Without the frames below, whose locals hold what the service said.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        return self._stream

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """What the service calls the request, for its support; at most 200 characters."""
    found = headers.get("x-request-id") or headers.get("request-id")
    return found[:_ID_CHARACTERS] if found else None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
