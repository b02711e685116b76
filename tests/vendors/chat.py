"""Chat Completions: OpenAI's, and the dialects of the servers that are compatible with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .answers import text_of
from .replies import Comment, Event, Stream, openai_error, whole
from .state import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .answers import Answer, Asked
    from .replies import Reply
    from .state import Call
    from .values import Json

_FINISH = {"refusal": "stop", "stop_sequence": "stop"}


@attrs.frozen(kw_only=True)
class Dialect:
    """How a server differs from OpenAI's; set one as `server.state.chat`."""

    keepalives: bool = False
    """Comments between the events."""
    usage: bool = True
    """Usage is told where it is asked for."""
    usage_always: bool = False
    """Usage is told unasked, with the finish_reason."""
    done: bool = True
    """`[DONE]` ends a stream."""
    ids: bool = True
    """Ids are said; else they are empty."""
    role_first: bool = True
    """The first chunk has a role and no text."""
    reasoning_field: str | None = None
    """Where the thinking is said: `reasoning_content`, `reasoning`; None: nowhere."""
    null_content: bool = False
    """Chunks without text say `content: null`."""
    error_in_stream: bool = True
    """An answer that fails says so in an error object; else the stream just ends."""


def create(call: Call) -> Reply:
    body = call.body
    model = call.required("model", str)
    messages = call.required("messages", list)
    if not messages:
        raise openai_error(400, "[] is too short - 'messages'", param="messages")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    shown = [(str(each["role"]), text_of(each.get("content"))) for each in messages]
    asked, answer = call.ask(model, shown, limit, body.get("stop"))
    dialect = call.state.chat
    chat = _Chat(dialect, asked, answer, call.state.ids.new("chatcmpl"))
    if body.get("stream"):
        options: Any = body.get("stream_options") or {}
        return Stream(events=chat.events(with_usage=bool(options.get("include_usage"))))
    if answer.fails:
        raise openai_error(500, answer.error, type="server_error", code=answer.error_code)
    return whole(chat.completion())


class _Chat:
    def __init__(self, dialect: Dialect, asked: Asked, answer: Answer, chat_id: str) -> None:
        self._dialect = dialect
        self._asked = asked
        self._answer = answer
        self._id = chat_id if dialect.ids else ""
        self._created = now()

    @property
    def _finish(self) -> str:
        return _FINISH.get(self._answer.finish, self._answer.finish)

    def completion(self) -> Json:
        answer = self._answer
        refuses = answer.finish == "refusal"
        message: Json = {
            "role": "assistant",
            "content": None if refuses else answer.said,
            "refusal": answer.said if refuses else None,
            "annotations": [],
        }
        if self._dialect.reasoning_field and answer.thinking:
            message[self._dialect.reasoning_field] = answer.thinking
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self._finish,
        }
        found: Json = {**self._base("chat.completion"), "choices": [choice]}
        if self._dialect.usage:
            found["usage"] = _usage(self._asked, answer)
        return found

    def _base(self, kind: str) -> Json:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._asked.model,
            "service_tier": "default",
            "system_fingerprint": "fp_reference",
        }

    def events(self, *, with_usage: bool) -> Iterator[Event | Comment]:
        dialect = self._dialect
        tells_usage = with_usage and dialect.usage
        for delta in self._deltas():
            if dialect.keepalives:
                yield Comment("keepalive")
            yield self._chunk(delta, usage=tells_usage)
        if self._answer.fails:
            if dialect.error_in_stream:
                error = {"message": self._answer.error, "type": "server_error"}
                yield Event({"error": {**error, "param": None, "code": self._answer.error_code}})
            return
        yield self._last(usage=tells_usage)
        if tells_usage:
            usage = _usage(self._asked, self._answer)
            yield Event({**self._base("chat.completion.chunk"), "choices": [], "usage": usage})
        if dialect.done:
            yield Event("[DONE]")

    def _deltas(self) -> Iterator[Json]:
        dialect = self._dialect
        if dialect.role_first:
            yield {"role": "assistant", "content": None if dialect.null_content else ""}
        if dialect.reasoning_field and self._answer.thinking:
            thought: Json = {dialect.reasoning_field: self._answer.thinking}
            yield {**thought, "content": None} if dialect.null_content else thought
        field = "refusal" if self._answer.finish == "refusal" else "content"
        for piece in self._answer.pieces():
            yield {field: piece}

    def _chunk(self, delta: Json, *, usage: bool, finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        data: Json = {**self._base("chat.completion.chunk"), "choices": [choice]}
        if usage:
            data["usage"] = None
        return Event(data)

    def _last(self, *, usage: bool) -> Event:
        delta: Json = {"content": None} if self._dialect.null_content else {}
        last = self._chunk(delta, usage=usage, finish=self._finish)
        if self._dialect.usage_always and isinstance(last.data, dict):
            last.data["usage"] = _usage(self._asked, self._answer)
        return last


def _usage(asked: Asked, answer: Answer) -> Json:
    tokens_in, tokens_out = answer.tokens_in(asked), answer.tokens_out()
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.tokens_thought(),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
