"""One streamed turn over HTTP: what all vendors have in common.

A vendor brings a call and a reader. The reader is pure: events in, texts and the end out. Here is
the rest: attempts, deltas joined per read of the socket, the request's id and limits.
"""

from __future__ import annotations

from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import attrs

from ...actors.errors import ProviderError
from ...actors.ports import Completed, TextDelta, Usage
from ..http.buckets import limit_headers
from ..http.service import request_id_of
from ..http.trouble import HttpTroubleError, is_ambiguous

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from ...actors.ports import ProviderEvent
    from ..http.retries import Attempts
    from ..http.service import HttpCall, HttpService
    from ..http.sse import ServerSentEvent
    from ..http.stream import HttpStream

_MAX_LIMITS = 40
"""Headers about limits that are kept with an answer; vendors send a dozen."""
_NAME_CHARACTERS = 50


class Reader(Protocol):
    """Understands one vendor's stream; a new one for each attempt."""

    def feed(self, event: ServerSentEvent) -> Iterable[str | Usage | Completed]:
        """The texts of an event, the tokens so far, and the end if it is that.

        Raises ProviderError for an error.
        """
        ...

    def end(self) -> Completed:
        """The body has ended: the end, if that is all right, else ProviderError `truncated`."""
        ...


async def ask(
    service: HttpService,
    call: HttpCall,
    new_reader: Callable[[], Reader],
    attempts: Attempts | None = None,
) -> AsyncGenerator[ProviderEvent]:
    """Stream the answer to a call: text deltas, one per read of the socket, then `Completed`.

    A failure is repeated as `HttpService.attempts` says, but never after a text was given out, and
    not where the call must not be repeated and the service may have received it: then the
    ProviderError goes up, and `is_ambiguous` of it tells. `attempts`: those of a caller that goes
    on from there, so that all its calls together are no more; None: this call's own.
    """
    attempts = service.attempts() if attempts is None else attempts
    while True:
        has_spoken = False
        try:
            async with aclosing(_attempt(service, call, new_reader())) as events:
                async for event in events:
                    has_spoken = has_spoken or not isinstance(event, Usage)
                    yield event
            return
        except ProviderError as error:
            service.scrub_error(error)
            blind = not call.repeatable and is_ambiguous(error)
            if has_spoken or blind or not await attempts.again(error):
                # Without the frames below, whose locals hold what the service said.
                raise error.with_traceback(None)  # noqa: B904 - it is the same error


async def _attempt(
    service: HttpService, call: HttpCall, reader: Reader
) -> AsyncGenerator[ProviderEvent]:
    completed: Completed | None = None
    async with service.open(call) as stream:
        while (events := await _next(stream, reader)) is not None:
            said, completed, trouble = _read(reader, events)
            for each in said:
                yield each
            if trouble is not None:
                raise trouble
            if completed is not None:
                await stream.finish()
                break
        if completed is None:
            completed = reader.end()
        facts = _facts(stream)
    # The connection is free by now, whatever the receiver of this takes its time for.
    yield _told(service, completed, facts)


def _told(service: HttpService, completed: Completed, facts: dict[str, object]) -> Completed:
    """The end with these facts; a key that the service put anywhere but into the text is gone."""
    reason, message_id, metadata = service.without_secrets(
        (completed.finish_reason, completed.provider_message_id, {**facts, **completed.metadata})
    )
    return attrs.evolve(
        completed, finish_reason=reason, provider_message_id=message_id, metadata=metadata
    )


async def _next(stream: HttpStream, reader: Reader) -> list[ServerSentEvent] | None:
    """The next events; None at the end. A connection that breaks behind it does not matter."""
    try:
        return await anext(stream, None)
    except HttpTroubleError:
        if not _is_complete(reader):
            raise
        return None


def _is_complete(reader: Reader) -> bool:
    try:
        reader.end()
    except ProviderError:
        return False
    return True


def _read(
    reader: Reader, events: Iterable[ServerSentEvent]
) -> tuple[list[TextDelta | Usage], Completed | None, ProviderError | None]:
    """What all these events say, and how they end: what came before an error is given out."""
    texts: list[str] = []
    usage: Usage | None = None
    completed: Completed | None = None
    trouble: ProviderError | None = None
    try:
        for each in (each for event in events for each in reader.feed(event)):
            if isinstance(each, str):
                texts.append(each)
            elif isinstance(each, Usage):
                usage = each
            else:
                completed = each
                break
    except ProviderError as error:
        trouble = error
    said: list[TextDelta | Usage] = [] if usage is None or completed is not None else [usage]
    text = "".join(texts)
    if text:
        said.append(TextDelta(text))
    return said, completed, trouble


def _facts(stream: HttpStream) -> dict[str, object]:
    facts: dict[str, object] = {}
    request_id = request_id_of(stream.headers)
    if request_id is not None:
        facts["request_id"] = request_id
    limits = limit_headers(stream.headers)
    shown = islice(((name[:_NAME_CHARACTERS], limits[name]) for name in limits), _MAX_LIMITS)
    if limits:
        facts["rate_limits"] = dict(shown)
    return facts
