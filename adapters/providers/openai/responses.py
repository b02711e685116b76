"""Reads the stream of a response. Pure: events in, texts and the end out.

The texts of all output messages are the answer, a blank line between two messages; so is a refusal.
Other output (reasoning, tool calls) and unknown events are passed over. What the vendor says a part
or the response holds in the end must be what its deltas were: a delta that was lost or came twice
is an error, not an answer. `response.completed` or `response.incomplete` is the end, and a stream
without one of them was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

from ....actors.ports import Completed
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
from .errors import error_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ....actors.errors import ProviderError
    from ...http.sse import ServerSentEvent

BETWEEN_MESSAGES = "\n\n"
FINISH_REASONS = {"max_output_tokens": "length"}
"""Why a response is incomplete, by another name; `content_filter`, and what is new, stay."""
_TEXTS = {"output_text": "text", "refusal": "refusal"}
"""Types of the parts that are text, and the field that has it."""
MAX_REASON_CHARACTERS = 50
_MAX_OTHERS = 20


@attrs.define
class _Part:
    """The text of one part of a message, as far as it has come."""

    pieces: Pieces = attrs.field(factory=Pieces)
    said: list[str] = attrs.field(factory=list[str])


class ResponsesReader:
    """Reads one response."""

    def __init__(self) -> None:
        self.response_id: str | None = None
        """Known as soon as the vendor has said that it is at work."""
        self._parts: dict[tuple[int, int], _Part] = {}
        self._said: list[str] = []
        self._output: int | None = None
        self._message_id: str | None = None
        self._refused = False
        self._completed: Completed | None = None

    def feed(self, event: ServerSentEvent) -> Iterable[str | Completed]:
        """What one event says. Raises ProviderError for an error, and for what cannot be right."""
        if self._completed is not None or not event.data or event.data == "[DONE]":
            return ()
        data = parse(event.data, NAME)
        if not isinstance(data, Mapping):
            raise malformed(NAME, "an event that is no JSON object")
        return self._read(cast("Mapping[str, Any]", data), event.event)

    def end(self) -> Completed:
        """The body has ended: well after a terminal event only."""
        if self._completed is None:
            raise cut_off(NAME, "response.completed")
        return self._completed

    def _read(self, data: Mapping[str, Any], name: str) -> Iterable[str | Completed]:
        kind = data.get("type") or name
        match kind:
            case "response.output_text.delta":
                return self._delta(data)
            case "response.output_text.done":
                return self._done(data, data.get("text"))
            case "response.refusal.delta":
                self._refused = True
                return self._delta(data)
            case "response.refusal.done":
                self._refused = True
                return self._done(data, data.get("refusal"))
            case "response.completed" | "response.incomplete":
                return self._end(mapping(data.get("response")), str(kind))
            case "response.failed":
                raise _failure(mapping(data.get("response")))
            case "error":
                raise error_of(mapping(data.get("error")) or data)
            case _:
                if not data.get("type") and mapping(data.get("error")):
                    raise error_of(mapping(data.get("error")))
        self._note_id(data)
        return ()

    def _note_id(self, data: Mapping[str, Any]) -> None:
        if self.response_id is None:
            self.response_id = id_of(mapping(data.get("response")).get("id"))

    def _part(self, data: Mapping[str, Any]) -> tuple[int, _Part]:
        output = count_of(data.get("output_index")) or 0
        place = (output, count_of(data.get("content_index")) or 0)
        self._message_id = id_of(data.get("item_id")) or self._message_id
        return output, self._parts.setdefault(place, _Part())

    def _delta(self, data: Mapping[str, Any]) -> Iterable[str]:
        text = data.get("delta")
        if not isinstance(text, str):
            raise malformed(NAME, "a piece of text that is no text")
        output, part = self._part(data)
        return self._say(output, part, part.pieces.take(text))

    def _done(self, data: Mapping[str, Any], whole: object) -> Iterable[str]:
        output, part = self._part(data)
        rest = self._say(output, part, part.pieces.rest())
        if isinstance(whole, str) and "".join(part.said) != mended(whole):
            raise malformed(NAME, "a text that is not what its pieces were")
        return rest

    def _say(self, output: int, part: _Part, text: str) -> Sequence[str]:
        if not text:
            return ()
        part.said.append(text)
        if self._output is not None and self._output != output:
            text = BETWEEN_MESSAGES + text
        self._output = output
        self._said.append(text)
        return (text,)

    def _end(self, response: Mapping[str, Any], kind: str) -> Iterable[str | Completed]:
        rest = [
            text
            for (output, _), part in self._parts.items()
            for text in self._say(output, part, part.pieces.rest())
        ]
        whole, _ = text_of(response.get("output"))
        if kind == "response.completed" and whole and whole != "".join(self._said):
            raise malformed(NAME, "an answer that is not what its pieces were")
        completed = completed_of(response, kind)
        changes: dict[str, Any] = {}
        if completed.provider_message_id is None:
            changes["provider_message_id"] = self._message_id
        if self._refused:
            changes["finish_reason"] = "refusal"
        self._completed = attrs.evolve(completed, **changes)
        return (*rest, self._completed)


def completed_of(response: Mapping[str, Any], kind: str = "") -> Completed:
    """The end of an answer, for a response object that is completed or incomplete."""
    _, refused = text_of(response.get("output"))
    given_up = mapping(response.get("incomplete_details")).get("reason")
    reason = name_of(given_up, MAX_REASON_CHARACTERS) or ""
    finish_reason = "stop"
    if refused:
        finish_reason = "refusal"
    elif reason:
        finish_reason = FINISH_REASONS.get(reason, reason)
    elif kind == "response.incomplete" or response.get("status") == "incomplete":
        finish_reason = "incomplete"
    usage = mapping(response.get("usage"))
    noted = {
        "response_id": id_of(response.get("id")),
        "model": name_of(response.get("model")),
        "status": name_of(response.get("status")),
        "service_tier": name_of(response.get("service_tier")),
        "usage": details_of(usage) or None,
        "other_output": _others(response.get("output")) or None,
    }
    return Completed(
        finish_reason=finish_reason,
        input_tokens=count_of(usage.get("input_tokens")) or 0,
        output_tokens=count_of(usage.get("output_tokens")) or 0,
        provider_message_id=last_message_id(response.get("output")),
        metadata={name: value for name, value in noted.items() if value is not None},
    )


def text_of(output: object) -> tuple[str, bool]:
    """The text of the messages among output items, and whether it is a refusal."""
    texts: list[str] = []
    refused = False
    for item in _messages(output):
        said: list[str] = []
        for part in map(mapping, items(item.get("content"))):
            text = part.get(_TEXTS.get(str(part.get("type")), ""))
            if isinstance(text, str) and text:
                said.append(text)
                refused = refused or part.get("type") == "refusal"
        if said:
            texts.append(mended("".join(said)))
    return BETWEEN_MESSAGES.join(texts), refused


def last_message_id(output: object) -> str | None:
    """The id of the last message among output items."""
    ids = [id_of(item.get("id")) for item in _messages(output)]
    return ids[-1] if ids else None


def _messages(output: object) -> list[Mapping[str, Any]]:
    found = [mapping(item) for item in items(output)]
    return [item for item in found if item.get("type") == "message"]


def _others(output: object) -> list[str]:
    """The types of the output that is no message, each once."""
    kinds = [name_of(mapping(item).get("type"), 100) for item in items(output)]
    others = dict.fromkeys(kind for kind in kinds if kind and kind != "message")
    return list(others)[:_MAX_OTHERS]


def _failure(response: Mapping[str, Any]) -> ProviderError:
    error = mapping(response.get("error"))
    if not error:
        error = {"message": "the response failed", "code": "server_error"}
    return error_of(error)
