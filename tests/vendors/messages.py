"""Anthropic's Messages: checked as strictly as the vendor does, streamed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .answers import count, text_of
from .replies import Event, Stream, Whole, anthropic_error, whole
from .threads import thread_turn
from .values import as_array, as_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .answers import Answer, Asked
    from .replies import Reply
    from .state import Call
    from .threads import Said, ThreadTurn
    from .values import Json

MAX_BREAKPOINTS = 4
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
NO_SAMPLING_SINCE = "2026-10-21"
_FINISH = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


@attrs.define(kw_only=True)
class Rules:
    """How strict it is; `server.state.messages`."""

    roles_must_alternate: bool = True
    """Neighbours of one role are refused; else they are taken as one turn."""


def create(call: Call) -> Reply:
    _check_fields(call)
    _check_max_tokens(call)
    turn = thread_turn(call)
    before = [] if turn is None else turn.before
    messages = _checked_messages(call, before)
    model: str = call.body["model"]
    shown = [*before, *_system(call), *messages]
    stops = call.body.get("stop_sequences")
    asked, answer = call.ask(model, shown, call.body["max_tokens"], stops)
    message = _Message(call.state.ids.new("msg"), asked, answer, turn)
    if call.body.get("stream"):
        return Stream(events=message.events())
    if answer.fails:
        raise anthropic_error(500, _error_type(answer), answer.error)
    return Whole(body=message.whole)


def count_tokens(call: Call) -> Whole:
    _check_fields(call)
    said = [*_system(call), *_checked_messages(call, [])]
    return whole({"input_tokens": count(text for _, text in said)})


def _system(call: Call) -> Said:
    """As text or as blocks."""
    system = text_of(call.body.get("system"))
    return [("system", system)] if system else []


def _refusal(message: str) -> Exception:
    return anthropic_error(400, "invalid_request_error", message)


def _check_fields(call: Call) -> None:
    body = call.body
    version = call.seen.headers.get("anthropic-version")
    if version is None:
        raise _refusal("anthropic-version: header is required")
    if version not in VERSIONS:
        raise _refusal(f'anthropic-version: "{version}" is not a valid version')
    if version >= NO_SAMPLING_SINCE:
        for name in ("temperature", "top_p", "top_k"):
            if name in body:
                raise _refusal(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages"):
        if name not in body:
            raise _refusal(f"{name}: Field required")
    if _breakpoints(body) > MAX_BREAKPOINTS:
        raise _refusal(
            f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {_breakpoints(body)}."
        )


def _check_max_tokens(call: Call) -> None:
    limit = call.body.get("max_tokens")
    if limit is None:
        raise _refusal("max_tokens: Field required")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise _refusal("max_tokens: Input should be greater than or equal to 1")


def _checked_messages(call: Call, before: Said) -> Said:
    """Its new messages, which follow what a thread holds."""
    given: list[Json] = call.body["messages"]
    if not given and not before:
        raise _refusal("messages: at least one message is required")
    found: Said = before[-1:]
    for number, message in enumerate(given):
        each = as_object(message) or {}
        role, text = each.get("role"), text_of(each.get("content"))
        if role not in {"user", "assistant"}:
            raise _refusal(f'messages.{number}.role: Input should be "user" or "assistant"')
        if not text.strip():
            raise _refusal("messages: text content blocks must contain non-whitespace text")
        if found and found[-1][0] == role and call.state.messages.roles_must_alternate:
            raise _refusal(
                'messages: roles must alternate between "user" and "assistant", but found '
                f'multiple "{role}" roles in a row'
            )
        found.append((str(role), text))
    new = found[len(before[-1:]) :]
    if not before and new[0][0] != "user":
        raise _refusal('messages: first message must use the "user" role')
    return new


def _breakpoints(value: object) -> int:
    fields = as_object(value)
    if fields is not None:
        own = int(fields.get("cache_control") is not None)
        return own + sum(map(_breakpoints, fields.values()))
    return sum(map(_breakpoints, as_array(value) or ()))


class _Message:
    def __init__(
        self, message_id: str, asked: Asked, answer: Answer, turn: ThreadTurn | None
    ) -> None:
        self._id = message_id
        self._asked = asked
        self._answer = answer
        self._turn = turn

    def _complete(self) -> None:
        """Only a whole reply that is no refusal is held."""
        refused = self._stop["stop_reason"] == "refusal"
        if self._turn is not None and not refused:
            reply = ("assistant", self._answer.said)
            self._turn.complete(self._id, [*self._asked.messages, reply])

    @property
    def _stop(self) -> Json:
        answer = self._answer
        reason = _FINISH.get(answer.finish, answer.finish)
        refused = {"type": "refusal", "category": None, "explanation": None}
        return {
            "stop_reason": reason,
            "stop_sequence": answer.stop_sequence,
            "stop_details": refused if reason == "refusal" else None,
        }

    def _base(self) -> Json:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._asked.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
        }

    def _usage(self, output_tokens: int) -> Json:
        answer = self._answer
        cached = answer.cached_tokens + answer.cache_write_tokens
        return {
            "input_tokens": answer.tokens_in(self._asked) - cached,
            "cache_creation_input_tokens": answer.cache_write_tokens,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": output_tokens,
        }

    def whole(self) -> Json:
        answer = self._answer
        self._complete()
        content: list[Json] = []
        if answer.thinking:
            content.append({"type": "thinking", "thinking": answer.thinking, "signature": "c2ln"})
        if answer.said:
            content.append({"type": "text", "text": answer.said, "citations": None})
        usage = self._usage(answer.tokens_out()) | self._details()
        return {**self._base(), "content": content, **self._stop, "usage": usage}

    def _details(self) -> Json:
        created = self._answer.cache_write_tokens
        return {
            "cache_creation": {
                "ephemeral_5m_input_tokens": created,
                "ephemeral_1h_input_tokens": 0,
            },
            "service_tier": "standard",
        }

    def events(self) -> Iterator[Event]:
        answer = self._answer
        start = {**self._base(), "usage": self._usage(1) | self._details()}
        yield _event("message_start", message=start)
        index = 0
        if answer.thinking:
            yield from _thinking(answer.thinking)
            index = 1
        text: Json = {"type": "text", "text": "", "citations": None}
        yield _event("content_block_start", index=index, content_block=text)
        yield _event("ping")
        for piece in answer.pieces():
            delta = {"type": "text_delta", "text": piece}
            yield _event("content_block_delta", index=index, delta=delta)
        if answer.fails:
            error = {"type": _error_type(answer), "message": answer.error}
            yield _event("error", error=error)
            return
        yield _event("content_block_stop", index=index)
        yield _event("message_delta", delta=self._stop, usage=self._usage(answer.tokens_out()))
        self._complete()
        yield _event("message_stop")


def _event(kind: str, **fields: object) -> Event:
    return Event({"type": kind, **fields}, kind)


def _thinking(text: str) -> Iterator[Event]:
    block = {"type": "thinking", "thinking": "", "signature": ""}
    yield _event("content_block_start", index=0, content_block=block)
    yield _event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": text})
    signature = {"type": "signature_delta", "signature": "c2ln"}
    yield _event("content_block_delta", index=0, delta=signature)
    yield _event("content_block_stop", index=0)


def _error_type(answer: Answer) -> str:
    return "api_error" if answer.error_code == "server_error" else answer.error_code
