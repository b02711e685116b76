"""Threads and runs: the Assistants API, as servers of one's own still offer it.

A thread takes the place of a conversation, a run that of a response. A run goes on when its stream
is closed, and holds its thread until it has ended: so it is cancelled then.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import attrs

from ....actors.errors import ProviderError
from ....actors.ports import Completed, ConversationStarted
from ....actors.prompt import split_system
from ...http.service import HttpCall
from ..asking import ask
from ..reading import (
    Pieces,
    count_of,
    cut_off,
    details_of,
    id_of,
    items,
    malformed,
    mapping,
    mended,
    name_of,
    parse,
)
from .config import NAME
from .conversations import described, segment
from .errors import error_of
from .requests import (
    MESSAGES_PER_THREAD,
    estimated_tokens,
    message_body,
    run_body,
    thread_body,
)
from .responses import MAX_REASON_CHARACTERS
from .uninterrupted import make

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from ....actors.model import PromptMessage
    from ....actors.ports import ProviderEvent, ProviderRequest
    from ...http.service import HttpService
    from ...http.sse import ServerSentEvent
    from .config import Options

HEADERS = {"OpenAI-Beta": "assistants=v2"}
CANCEL_SECONDS = 3.0
"""How long a run may take to be cancelled; it ends by itself in ten minutes."""
BETWEEN_MESSAGES = "\n\n"
FINISH_REASONS = {"max_completion_tokens": "length", "max_prompt_tokens": "length"}
_THREAD = "thread_"


def is_thread(provider_session_id: str) -> bool:
    """Whether an id is a thread's, not a conversation's."""
    return provider_session_id.startswith(_THREAD)


class RunReader:
    """Reads the stream of a run. Pure: events in, texts and the end out."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.is_over = False
        """Whether the vendor has said that the run ended, well or not."""
        self._said: dict[tuple[str, int], tuple[Pieces, list[str]]] = {}
        self._message_id: str | None = None
        self._speaking: str | None = None
        self._completed: Completed | None = None

    def feed(self, event: ServerSentEvent) -> Iterable[str | Completed]:
        """What one event says. Raises ProviderError for an error, and for what cannot be right."""
        if self._completed is not None or not event.data or event.data == "[DONE]":
            return ()
        data = parse(event.data, NAME)
        if not isinstance(data, Mapping):
            raise malformed(NAME, "an event that is no JSON object")
        return self._read(event.event, cast("Mapping[str, Any]", data))

    def end(self) -> Completed:
        """The body has ended: well after the end of the run only."""
        if self._completed is None:
            raise cut_off(NAME, "the end of the run")
        return self._completed

    def _read(self, kind: str, data: Mapping[str, Any]) -> Iterable[str | Completed]:
        if kind == "thread.message.delta":
            return self._delta(data)
        if kind == "thread.message.completed":
            return self._done(data)
        if kind == "error" or (data.get("error") and not data.get("object")):
            raise error_of(mapping(data.get("error")) or data)
        if kind.startswith("thread.run.") and not kind.startswith("thread.run.step."):
            self.run_id = self.run_id or id_of(data.get("id"))
            return self._run(kind.removeprefix("thread.run."), data)
        return ()

    def _run(self, state: str, run: Mapping[str, Any]) -> Iterable[str | Completed]:
        match state:
            case "completed" | "incomplete":
                return self._end(run)
            case "failed" | "cancelled" | "expired":
                self.is_over = True
                error = mapping(run.get("last_error"))
                raise error_of(error or {"message": f"the run is {state}", "code": "server_error"})
            case "requires_action":
                raise ProviderError(
                    "the assistant asks for the result of a function, which nobody here can give; "
                    "take the functions out of it",
                    code="invalid_request",
                    provider=NAME,
                )
            case _:
                return ()

    def _delta(self, data: Mapping[str, Any]) -> Iterable[str]:
        message_id = id_of(data.get("id")) or ""
        self._message_id = message_id or self._message_id
        texts: list[str] = []
        for part in map(mapping, items(mapping(data.get("delta")).get("content"))):
            value = _text_of(part)
            if value is None:
                continue
            pieces, said = self._said.setdefault(
                (message_id, count_of(part.get("index")) or 0), (Pieces(), [])
            )
            texts += self._say(message_id, said, pieces.take(value))
        return texts

    def _say(self, message_id: str, said: list[str], text: str) -> Sequence[str]:
        if not text:
            return ()
        said.append(text)
        before = self._speaking
        self._speaking = message_id
        return (text,) if before in {None, message_id} else (BETWEEN_MESSAGES, text)

    def _done(self, message: Mapping[str, Any]) -> Iterable[str]:
        message_id = id_of(message.get("id")) or ""
        texts: list[str] = []
        if message.get("role") == "user":
            return texts
        for index, part in enumerate(map(mapping, items(message.get("content")))):
            value = _text_of(part)
            if value is None:
                continue
            pieces, said = self._said.get((message_id, index), (Pieces(), []))
            texts += self._say(message_id, said, pieces.rest())
            if "".join(said) != mended(value):
                raise malformed(NAME, "a text that is not what its pieces were")
        return texts

    def _end(self, run: Mapping[str, Any]) -> Iterable[Completed]:
        self.is_over = True
        given_up = mapping(run.get("incomplete_details")).get("reason")
        reason = name_of(given_up, MAX_REASON_CHARACTERS)
        usage = mapping(run.get("usage"))
        noted = {
            "run_id": id_of(run.get("id")),
            "assistant_id": id_of(run.get("assistant_id")),
            "model": name_of(run.get("model")),
            "status": name_of(run.get("status")),
            "usage": details_of(usage) or None,
        }
        self._completed = Completed(
            finish_reason="stop" if reason is None else FINISH_REASONS.get(reason, reason),
            input_tokens=count_of(usage.get("prompt_tokens")) or 0,
            output_tokens=count_of(usage.get("completion_tokens")) or 0,
            provider_message_id=self._message_id,
            metadata={name: value for name, value in noted.items() if value is not None},
        )
        return (self._completed,)


def _text_of(part: Mapping[str, Any]) -> str | None:
    kind = part.get("type")
    value: object = None
    if kind == "text":
        value = mapping(part.get("text")).get("value")
    elif kind == "refusal":
        value = part.get("refusal")
    return value if isinstance(value, str) else None


@attrs.define
class _Run:
    """The run of one turn, as far as it is known."""

    thread_id: str
    readers: list[RunReader] = attrs.field(factory=list[RunReader])

    def new_reader(self) -> RunReader:
        self.readers.append(RunReader())
        return self.readers[-1]


class Threads:
    """Answers turns in threads."""

    def __init__(self, service: HttpService) -> None:
        self._service = service

    async def stream(
        self, request: ProviderRequest, options: Options
    ) -> AsyncGenerator[ProviderEvent]:
        """Answer one turn; a thread that is gone is begun anew with the window."""
        _, window = split_system(request.messages)
        thread_id = request.provider_session_id
        if thread_id is not None and not await self._add(thread_id, window[-1]):
            thread_id = None
        if thread_id is None:
            thread_id = await make(partial(self._create, window[:-1], options), self.delete)
            yield ConversationStarted(thread_id)
            for message in window[MESSAGES_PER_THREAD:-1]:
                await self._fetch("POST", thread_id, "/messages", message_body(message))
            await self._fetch("POST", thread_id, "/messages", message_body(window[-1]))
        run = _Run(thread_id)
        try:
            async with aclosing(
                ask(self._service, _call(run, request, options), run.new_reader)
            ) as events:
                async for event in events:
                    if isinstance(event, Completed):
                        yield attrs.evolve(event, provider_session_id=thread_id)
                    else:
                        yield event
        finally:
            await self._cancel(run)

    async def read(self, thread_id: str) -> dict[str, Any]:
        """Its id, when it was made (seconds since 1970), and its metadata."""
        found = mapping(await self._fetch("GET", thread_id))
        return described(found, "thread_id", thread_id)

    async def delete(self, thread_id: str) -> None:
        """Delete a thread and what is in it; one that is gone already is deleted."""
        try:
            await self._fetch("DELETE", thread_id)
        except ProviderError as error:
            if error.code != "not_found":
                raise

    async def _create(self, history: Sequence[PromptMessage], options: Options) -> str:
        call = HttpCall(
            method="POST", path="/threads", body=thread_body(history, options), headers=HEADERS
        )
        thread_id = id_of(mapping((await self._service.fetch(call)).body).get("id"))
        if thread_id is None or not is_thread(thread_id):
            raise malformed(NAME, "a thread without an id that begins with 'thread_'")
        return thread_id

    async def _add(self, thread_id: str, question: PromptMessage) -> bool:
        """Add the question to a thread; False: there is no such thread."""
        try:
            await self._fetch("POST", thread_id, "/messages", message_body(question))
        except ProviderError as error:
            if error.code != "not_found":
                raise
            return False
        return True

    async def _fetch(
        self, method: str, thread_id: str, rest: str = "", body: Mapping[str, Any] | None = None
    ) -> object:
        # A message that may have arrived is not sent again: there would be two of it.
        call = HttpCall(
            method=method,
            path=f"/threads/{segment(thread_id)}{rest}",
            body=body,
            headers=HEADERS,
            repeatable=body is None,
        )
        return (await self._service.fetch(call)).body

    async def _cancel(self, run: _Run) -> None:
        """Cancel the run, unless it has ended or never began."""
        for reader in run.readers:
            if reader.run_id is None or reader.is_over:
                continue
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                try:
                    rest = f"/runs/{segment(reader.run_id)}/cancel"
                    await self._fetch("POST", run.thread_id, rest)
                except ProviderError:
                    return  # it has ended in the meantime, or ends by itself in ten minutes


def _call(run: _Run, request: ProviderRequest, options: Options) -> HttpCall:
    return HttpCall(
        method="POST",
        path=f"/threads/{segment(run.thread_id)}/runs",
        body=run_body(request, options),
        headers=HEADERS,
        tokens=estimated_tokens(request, options),
        repeatable=False,
    )
