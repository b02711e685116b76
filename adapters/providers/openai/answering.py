"""Answers turns with the Responses API, in a conversation of the vendor's or without one."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from ....actors.errors import ProviderError
from ....actors.ports import Completed, ConversationStarted, TextDelta
from ....actors.prompt import split_system
from ...http.service import HttpCall
from ...http.trouble import is_ambiguous
from ..asking import ask
from ..reading import mapping
from .config import NAME
from .conversations import segment
from .reading_back import Answered, Mark, NotArrived, Unfinished, mark_of, read_back
from .requests import ITEMS_PER_CALL, estimated_tokens, response_body
from .responses import ResponsesReader, completed_of
from .uninterrupted import make

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from ....actors.model import PromptMessage
    from ....actors.ports import ProviderEvent, ProviderRequest
    from ...http.retries import Attempts
    from ...http.service import HttpService
    from .config import Options
    from .conversations import Conversations

USAGE_SECONDS = 3.0
"""How long it may take to find out what an answer cost that was read back."""


@attrs.define
class _Turn:
    """One turn, as far as it has come."""

    request: ProviderRequest
    options: Options
    attempts: Attempts
    conversation_id: str | None = None
    """Where it is asked; None: a conversation is to be begun."""
    mark: Mark | None = None
    readers: list[ResponsesReader] = attrs.field(factory=list[ResponsesReader])
    shown: list[str] = attrs.field(factory=list[str])

    def ask_in(self, conversation_id: str, mark: Mark | None) -> None:
        """This is its conversation, and there it begins."""
        self.conversation_id, self.mark = conversation_id, mark

    def leave(self) -> None:
        """Its conversation is not gone on with."""
        self.conversation_id = self.mark = None

    def new_reader(self) -> ResponsesReader:
        self.readers.append(ResponsesReader())
        return self.readers[-1]

    def heard(self, event: ProviderEvent) -> ProviderEvent:
        """Note an event; the last one tells the conversation."""
        if isinstance(event, TextDelta):
            self.shown.append(event.text)
        elif isinstance(event, Completed):
            return attrs.evolve(event, provider_session_id=self.conversation_id)
        return event

    @property
    def response_id(self) -> str | None:
        return self.readers[-1].response_id if self.readers else None


class Answering:
    """The two ways of the Responses API."""

    def __init__(self, service: HttpService, conversations: Conversations) -> None:
        self._service = service
        self._conversations = conversations

    async def stream_local(
        self, request: ProviderRequest, options: Options
    ) -> AsyncGenerator[ProviderEvent]:
        """Answer one turn with the whole window; nothing is kept at the vendor."""
        async with aclosing(
            ask(self._service, _call(request, options, None), ResponsesReader)
        ) as events:
            async for event in events:
                yield event

    async def stream_native(
        self, request: ProviderRequest, options: Options
    ) -> AsyncGenerator[ProviderEvent]:
        """Answer one turn in the session's conversation, or in a new one with the window."""
        turn = _Turn(request, options, self._service.attempts())
        if request.provider_session_id is not None:
            turn.ask_in(request.provider_session_id, mark_of(request.messages))
        is_answered = False
        while not is_answered:
            if turn.conversation_id is None:
                async with aclosing(self._begin(turn)) as events:
                    async for event in events:
                        yield event
            async with aclosing(self._respond(turn)) as events:
                async for event in events:
                    yield event
            is_answered = turn.conversation_id is not None

    async def _begin(self, turn: _Turn) -> AsyncGenerator[ProviderEvent]:
        """Make a conversation with all of the window but the question."""
        _, window = split_system(turn.request.messages)
        history = window[:-1]
        conversation_id = await self._create(history, turn.options)
        yield ConversationStarted(conversation_id)
        last_id = await self._conversations.add_rest(conversation_id, history)
        mark: Mark | None = Mark(skip=len(history))
        if len(history) > ITEMS_PER_CALL:
            mark = None if last_id is None else Mark(after=last_id)
        turn.ask_in(conversation_id, mark)

    async def _respond(self, turn: _Turn) -> AsyncGenerator[ProviderEvent]:
        """Ask in the turn's conversation; leave that where it cannot be asked in, or not again.

        What may have arrived is looked up. Where nothing of it is there, it may still come: the
        vendor may be at work on it, whatever became of the connection. So it is asked again in
        another conversation only, or this one could hold the question twice.
        """
        conversation_id = turn.conversation_id or ""
        call = _call(turn.request, turn.options, conversation_id)
        try:
            events = ask(self._service, call, turn.new_reader, turn.attempts)
            async with aclosing(events):
                async for event in events:
                    yield turn.heard(event)
            return
        except ProviderError as error:
            failure = error
        if await self._is_gone(turn, failure):
            turn.leave()
            return
        found = await self._find(turn, failure)
        if isinstance(found, Answered):
            for event in await self._rest(turn, found):
                yield event
            return
        if turn.shown or not await turn.attempts.again(failure):
            raise failure
        turn.leave()

    async def _is_gone(self, turn: _Turn, failure: ProviderError) -> bool:
        """Whether it is the conversation that was not found; it may have been the model."""
        resumed_id = turn.request.provider_session_id
        if failure.code != "not_found" or turn.shown or turn.conversation_id != resumed_id:
            return False
        try:
            return await self._conversations.is_gone(resumed_id or "")
        except ProviderError:
            return False  # the failure that led here is told

    async def _find(self, turn: _Turn, failure: ProviderError) -> Answered | NotArrived:
        """What became of a turn that failed; raises the failure where it stands."""
        if not is_ambiguous(failure):
            raise failure
        question = turn.request.messages[-1].content
        verdict = await read_back(
            self._conversations, turn.conversation_id or "", turn.mark, question
        )
        if isinstance(verdict, Unfinished):
            raise failure
        if isinstance(verdict, Answered) and not verdict.text.startswith("".join(turn.shown)):
            raise failure
        return verdict

    async def _rest(self, turn: _Turn, answered: Answered) -> list[ProviderEvent]:
        """What was not shown yet of an answer that was read back, and its end."""
        rest = answered.text[sum(map(len, turn.shown)) :]
        completed = await self._completed(turn, answered)
        return [TextDelta(rest), completed] if rest else [completed]

    async def _completed(self, turn: _Turn, answered: Answered) -> Completed:
        """The end of an answer that was read back, with its costs where they can be found out."""
        completed = Completed(finish_reason="stop")
        if turn.response_id is not None:
            with anyio.move_on_after(USAGE_SECONDS):
                try:
                    path = f"/responses/{segment(turn.response_id)}"
                    answer = await self._service.fetch(HttpCall(method="GET", path=path))
                    completed = completed_of(mapping(answer.body))
                except ProviderError:
                    pass  # the answer is there, what it cost stays unknown
        return attrs.evolve(
            completed,
            provider_session_id=turn.conversation_id,
            finish_reason="refusal" if answered.refused else "stop",
            provider_message_id=answered.message_id,
            metadata=self._service.without_secrets({**completed.metadata, "read_back": True}),
        )

    async def _create(self, history: Sequence[PromptMessage], options: Options) -> str:
        try:
            return await make(
                partial(self._conversations.create, history, options), self._conversations.delete
            )
        except ProviderError as error:
            if error.code != "not_found":
                raise
            raise ProviderError(
                f"{error}. This server seems to have no Conversations API: set provider_config="
                "{'state': 'local'}, or use the provider 'openai_chat' where it has no Responses "
                "API either",
                code="not_found",
                provider=NAME,
            ) from error


def _call(request: ProviderRequest, options: Options, conversation_id: str | None) -> HttpCall:
    """In a conversation a call is not repeatable: the question would be in there twice."""
    return HttpCall(
        method="POST",
        path="/responses",
        body=response_body(request, options, conversation_id),
        tokens=estimated_tokens(request, options),
        repeatable=conversation_id is None,
    )
