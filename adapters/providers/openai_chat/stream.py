"""Reads the stream of a Chat Completions answer, as many servers send it. Pure.

What they agree on is the text, in `choices[0].delta.content`. An answer is complete once a
`finish_reason` or `[DONE]` has come; some servers send only one of them, and neither means that it
was cut off. The counts come with the last chunk, behind it in one without choices, or never. An
error may come as an event of its own, as a chunk, inside a choice, or as a `finish_reason`. A
server that does not stream sends one JSON document, which is read as one event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....actors.ports import Completed, Usage
from ..reading import Pieces, count_of, cut_off, details_of, id_of, items, mapping, name_of, parse
from ..vendor_errors import vendor_error
from .errors import error_in, read_stream_error
from .options import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ...http.sse import ServerSentEvent

DONE = "[DONE]"
FINISH_REASONS = {
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "function_call": "tool_use",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "tool_calls": "tool_use",
}
"""Finish reasons by another name, in lower case; all others stay as they are."""
MAX_REASON_CHARACTERS = 50
NOT_YET = frozenset({"none", "null"})
"""What some servers write, as a text, while there is no finish reason yet."""
_FAILED = frozenset({"abort", "error"})
"""Finish reasons of an answer that the server gave up in the middle."""
_NAMES = ("model", "system_fingerprint", "service_tier", "provider")


class ChatReader:
    """Reads one answer."""

    def __init__(self, name: str = NAME) -> None:
        self._name = name
        self._pieces = Pieces()
        self._metadata: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._response_id: str | None = None
        self._finish_reason: str | None = None
        self._usage_told = Usage()
        self._said_something = False
        self._is_refusal = False
        self._completed: Completed | None = None

    def feed(self, event: ServerSentEvent) -> Iterable[str | Usage | Completed]:
        """What one event says. Raises ProviderError for an error, and for what is no JSON."""
        data = event.data.strip()
        if self._completed is not None or not data:
            return ()
        if data == DONE:
            return (*self._rest(), self._complete())
        if event.event == "error":
            raise read_stream_error(data, self._name)
        return list(self._chunk(parse(data, self._name)))

    def end(self) -> Completed:
        """The body has ended: well after a finish_reason or `[DONE]` only."""
        if self._completed is not None:
            return self._completed
        if self._finish_reason is None:
            raise cut_off(self._name, "a finish_reason")
        return self._complete()

    def _chunk(self, value: object) -> Iterator[str | Usage]:
        said = error_in(value)
        if said is not None:
            raise read_stream_error(said, self._name)
        chunk = mapping(value)
        yield from self._note(chunk)
        for choice in map(mapping, items(chunk.get("choices"))):
            if not choice.get("index"):
                yield from self._choice(choice)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[str]:
        texts = list(self._spoken(mapping(choice.get("delta"))))
        if not texts and not self._said_something:
            # Some send the whole message, with the last chunk or in place of them all.
            texts = list(self._spoken(mapping(choice.get("message"))))
        for text in texts:
            self._said_something = True
            said = self._pieces.take(text)
            if said:
                yield said
        reason = name_of(choice.get("finish_reason"), MAX_REASON_CHARACTERS)
        if reason is None or reason.lower() in NOT_YET:
            return
        if reason.lower() in _FAILED:
            raise vendor_error(self._name, "overloaded", None, kind=f"finish_reason {reason!r}")
        yield from self._rest()
        self._metadata["finish_reason"] = reason
        self._finish_reason = FINISH_REASONS.get(reason.lower(), reason)

    def _spoken(self, source: Mapping[str, Any]) -> Iterator[str]:
        yield from _texts(source.get("content"))
        for text in _texts(source.get("refusal")):
            self._is_refusal = True
            yield text

    def _note(self, chunk: Mapping[str, Any]) -> Iterable[Usage]:
        self._response_id = self._response_id or id_of(chunk.get("id"))
        for name in _NAMES:
            value = name_of(chunk.get(name))
            if value is not None:
                self._metadata[name] = value
        usage = details_of(chunk.get("usage"))
        if not usage:
            return ()
        self._usage = usage
        told = Usage(
            input_tokens=count_of(usage.get("prompt_tokens")) or 0,
            output_tokens=count_of(usage.get("completion_tokens")) or 0,
        )
        if told == self._usage_told:
            return ()
        self._usage_told = told
        return (told,)

    def _rest(self) -> Iterable[str]:
        rest = self._pieces.rest()
        return (rest,) if rest else ()

    def _complete(self) -> Completed:
        if self._response_id is not None:
            self._metadata["response_id"] = self._response_id
        if self._usage:
            self._metadata["usage"] = self._usage
        reason = self._finish_reason or "stop"
        self._completed = Completed(
            finish_reason="refusal" if self._is_refusal and reason == "stop" else reason,
            input_tokens=self._usage_told.input_tokens,
            output_tokens=self._usage_told.output_tokens,
            provider_message_id=self._response_id,
            metadata=self._metadata,
        )
        return self._completed


def _texts(content: object) -> Iterator[str]:
    """The texts of a content: one, none, or a list of parts some of which are texts."""
    if isinstance(content, str):
        if content:
            yield content
        return
    for part in map(mapping, items(content)):
        text = part.get("text")
        if part.get("type") == "text" and isinstance(text, str):
            yield text
