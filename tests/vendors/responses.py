"""OpenAI's Responses: one answer, streamed or not, in a conversation or after another response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .conversations import checked_metadata, page, said, stored_items
from .replies import Event, Stream, Whole, openai_error, whole
from .state import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .answers import Answer, Asked
    from .conversations import Conversation
    from .replies import Reply
    from .state import Call
    from .values import Json


MAX_STORED = 10_000


@attrs.define(kw_only=True)
class Stored:
    """A response that can be asked for again."""

    body: Json
    items: list[Json]
    """Its own input."""
    history: list[Json]
    """Everything before the input."""
    finish: Callable[[], object]


class Responses:
    def __init__(self) -> None:
        self.by_id: dict[str, Stored] = {}

    def store(self, stored: Stored) -> None:
        """The oldest are forgotten beyond MAX_STORED."""
        self.by_id[stored.body["id"]] = stored
        if len(self.by_id) > MAX_STORED:
            del self.by_id[next(iter(self.by_id))]

    def get(self, response_id: str) -> Stored:
        found = self.by_id.get(response_id)
        if found is None:
            raise openai_error(404, f"Response with id '{response_id}' not found.")
        return found


def create(call: Call) -> Reply:
    run = _Run(call)
    if call.body.get("background"):
        return whole(run.postponed())
    if call.body.get("stream"):
        return Stream(events=run.events())
    return Whole(body=run.finished)


def retrieve(call: Call) -> Whole:
    """One that runs in the background is finished when it is asked for."""
    stored = call.state.responses.get(call.arguments[0])
    if stored.body["status"] == "queued":
        stored.finish()
    return whole(stored.body)


def delete(call: Call) -> Whole:
    stored = call.state.responses.get(call.arguments[0])
    response_id = stored.body["id"]
    del call.state.responses.by_id[response_id]
    return whole({"id": response_id, "object": "response", "deleted": True})


def cancel(call: Call) -> Whole:
    stored = call.state.responses.get(call.arguments[0])
    if not stored.body["background"]:
        raise openai_error(400, "Cannot cancel a synchronous response.")
    if stored.body["status"] in {"queued", "in_progress"}:
        stored.body["status"] = "cancelled"
    return whole(stored.body)


def input_items(call: Call) -> Whole:
    stored = call.state.responses.get(call.arguments[0])
    return whole(page(stored.items, call.seen.query, default_order="desc"))


class _Run:
    """One response being made. `events` yields all its events; `finished` is what is left then."""

    def __init__(self, call: Call) -> None:
        body = call.body
        self._state = call.state
        self._model = call.required("model", str)
        self._metadata = checked_metadata(body.get("metadata"))
        self._items = self._read_input(call)
        self._conversation = self._lock(call)
        self._history = self._read_history(body)
        asked, answer = call.ask(self._model, self._shown(body), body.get("max_output_tokens"))
        self._asked: Asked = asked
        self._answer: Answer = answer
        self._number = 0
        self._response = self._new(body)
        if self._response["store"]:
            self._state.responses.store(
                Stored(
                    body=self._response,
                    items=self._items,
                    history=self._history,
                    finish=self.finished,
                )
            )

    # ------------------------------------------------------------ what it is asked

    def _read_input(self, call: Call) -> list[Json]:
        given = call.required("input", (str, list))  # type: ignore[arg-type]
        if isinstance(given, str):
            given = [{"role": "user", "content": given}]
        return stored_items(call.state.ids, given)

    def _lock(self, call: Call) -> Conversation | None:
        given: Any = call.body.get("conversation")
        if given is None:
            return None
        if call.body.get("previous_response_id") is not None:
            raise openai_error(
                400,
                "Mutually exclusive parameters: 'conversation' and 'previous_response_id'.",
                code="mutually_exclusive_parameters",
            )
        found = given if isinstance(given, str) else given["id"]
        return call.state.conversations.lock(call, found)

    def _read_history(self, body: Json) -> list[Json]:
        if self._conversation is not None:
            return list(self._conversation.items)
        previous = body.get("previous_response_id")
        if previous is None:
            return []
        found = self._state.responses.by_id.get(previous)
        if found is None:
            raise openai_error(
                400,
                f"Previous response with id '{previous}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return [*found.history, *found.items, *found.body["output"]]

    def _shown(self, body: Json) -> list[tuple[str, str]]:
        instructions = body.get("instructions")
        first = [("system", instructions)] if isinstance(instructions, str) else []
        return [*first, *said([*self._history, *self._items])]

    def _new(self, body: Json) -> Json:
        conversation = self._conversation
        return {
            "id": self._state.ids.new("resp"),
            "object": "response",
            "created_at": now(),
            "status": "in_progress",
            "background": bool(body.get("background")),
            "completed_at": None,
            "conversation": None if conversation is None else {"id": conversation.id},
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": None,
            "metadata": self._metadata,
            "model": self._model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": body.get("previous_response_id"),
            "prompt_cache_key": body.get("prompt_cache_key"),
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": None,
            "service_tier": "default",
            "store": body.get("store") is not False,
            "temperature": body.get("temperature", 1.0),
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "top_p": body.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": None,
            "user": None,
        }

    # ------------------------------------------------------------ what it says

    def postponed(self) -> Json:
        """In the background: it waits, and can be cancelled."""
        self._response["status"] = "queued"
        return dict(self._response)

    def finished(self) -> Json:
        for _ in self.events():
            pass
        return self._response

    def events(self) -> Iterator[Event]:
        yield self._with_response("response.created")
        yield self._with_response("response.in_progress")
        output: list[Json] = []
        if self._answer.thinking:
            yield from self._reasoning(output)
        yield from self._message(output)
        end = self._close(output)
        yield self._error() if self._answer.finish == "error" else self._with_response(end)

    def _event(self, kind: str, **fields: object) -> Event:
        data: Json = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return Event(data, kind)

    def _with_response(self, kind: str) -> Event:
        return self._event(kind, response=dict(self._response))

    def _error(self) -> Event:
        answer = self._answer
        return self._event("error", code=answer.error_code, message=answer.error, param=None)

    def _reasoning(self, output: list[Json]) -> Iterator[Event]:
        item: Json = {"id": self._state.ids.new("rs"), "type": "reasoning", "summary": []}
        yield self._event("response.output_item.added", output_index=0, item=dict(item))
        output.append(item)
        yield self._event("response.output_item.done", output_index=0, item=dict(item))

    def _message(self, output: list[Json]) -> Iterator[Event]:
        refuses = self._answer.finish == "refusal"
        item: Json = {
            "id": self._state.ids.new("msg"),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        index = len(output)
        yield self._event("response.output_item.added", output_index=index, item=dict(item))
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        yield self._event("response.content_part.added", **place, part=_part("", refuses=refuses))
        kind = "response.refusal" if refuses else "response.output_text"
        extra: Json = {} if refuses else {"logprobs": []}
        for piece in self._answer.pieces():
            yield self._event(f"{kind}.delta", **place, delta=piece, **extra)
        if self._answer.fails:
            return
        whole_text = {"refusal" if refuses else "text": self._answer.said}
        yield self._event(f"{kind}.done", **place, **whole_text, **extra)
        part = _part(self._answer.said, refuses=refuses)
        yield self._event("response.content_part.done", **place, part=part)
        item["content"] = [part]
        item["status"] = "completed" if _reason(self._answer) is None else "incomplete"
        output.append(item)
        yield self._event("response.output_item.done", output_index=index, item=dict(item))

    def _close(self, output: list[Json]) -> str:
        """The response's end; what belongs to the conversation is appended to it."""
        response = self._response
        if self._answer.fails:
            response["status"] = "failed"
            response["error"] = {"code": self._answer.error_code, "message": self._answer.error}
            return "response.failed"
        response["output"] = output
        response["usage"] = _usage(self._asked, self._answer)
        reason = _reason(self._answer)
        if reason is None:
            response["completed_at"] = now()
        else:
            response["incomplete_details"] = {"reason": reason}
        response["status"] = "completed" if reason is None else "incomplete"
        if self._conversation is not None:
            self._conversation.items += [*self._items, *output]
        return f"response.{response['status']}"


def _part(text: str, *, refuses: bool) -> Json:
    if refuses:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _reason(answer: Answer) -> str | None:
    return {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.finish)


def _usage(asked: Asked, answer: Answer) -> Json:
    tokens_in, tokens_out = answer.tokens_in(asked), answer.tokens_out()
    cached = {
        "cached_tokens": answer.cached_tokens,
        "cache_write_tokens": answer.cache_write_tokens,
    }
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": cached,
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": answer.tokens_thought()},
        "total_tokens": tokens_in + tokens_out,
    }
