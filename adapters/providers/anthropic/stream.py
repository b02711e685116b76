"""Reads the stream of a Messages answer. Pure: events in, texts and the end out.

The texts of all text blocks, one after the other, are the answer. Blocks of other types (thinking,
tool calls) are no text; their types are named in the metadata. `message_delta` brings counts that
go before those of `message_start`, and the reason for the end; `message_stop` is the end, and a
stream without it was cut off. An `error` may come after any of them.

A stream that begins a second message after the first one has said something, or that goes back to
an earlier block, is two answers in one: whoever stands between has asked again in the middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....actors.ports import Completed, Usage
from ..reading import (
    Pieces,
    count_of,
    cut_off,
    details_of,
    id_of,
    malformed,
    mapping,
    name_of,
    parse,
)
from .errors import read_event_error
from .options import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ...http.sse import ServerSentEvent

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""Stop reasons of the vendor by another name; `refusal`, `tool_use` and `pause_turn`, and those
that are new, stay as they are."""
_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
MAX_REASON_CHARACTERS = 50
_MAX_BLOCK_TYPES = 20


class MessageReader:
    """Reads one answer."""

    def __init__(self, name: str = NAME) -> None:
        self._name = name
        self._pieces = Pieces()
        self._usage: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}
        self._blocks: list[str] = []
        # Of the block that spoke last; None: none has.
        self._index: int | None = None
        self._usage_told = Usage()
        self._message_id: str | None = None
        self._has_begun = False
        self._completed: Completed | None = None

    def feed(self, event: ServerSentEvent) -> Iterable[str | Usage | Completed]:
        """What one event says.

        Raises ProviderError for an error, and for what is no JSON or no one answer.
        """
        if self._completed is not None or not event.data or event.event == "ping":
            return ()
        data = mapping(parse(event.data, self._name))
        kind = data.get("type") or event.event
        said: Iterable[str | Usage | Completed] = ()
        if kind == "content_block_delta":
            said = self._delta(mapping(data.get("delta")), data.get("index"))
        elif kind == "content_block_start":
            said = self._block(mapping(data.get("content_block")), data.get("index"))
        elif kind == "message_start":
            said = self._start(mapping(data.get("message")))
        elif kind == "message_delta":
            said = self._end(data)
        elif kind == "message_stop":
            said = self._stop()
        elif kind == "error":
            raise read_event_error(data, self._name)
        return said

    def end(self) -> Completed:
        """The body has ended: well after `message_stop` only."""
        if self._completed is None:
            raise cut_off(self._name, "message_stop")
        return self._completed

    def _delta(self, delta: Mapping[str, Any], index: object) -> Iterable[str]:
        if delta.get("type") != "text_delta":
            return ()
        return self._said(delta.get("text"), index)

    def _block(self, block: Mapping[str, Any], index: object) -> Iterable[str]:
        if block.get("type") == "text":
            return self._said(block.get("text"), index)
        kind = name_of(block.get("type"))
        if kind and kind not in self._blocks and len(self._blocks) < _MAX_BLOCK_TYPES:
            self._blocks.append(kind)
        return ()

    def _said(self, text: object, index: object) -> Iterable[str]:
        if not isinstance(text, str) or not text:
            return ()
        place = index if isinstance(index, int) else self._index or 0
        if self._index is not None and place < self._index:
            raise malformed(self._name, f"text of block {place} behind block {self._index}")
        self._index = place
        said = self._pieces.take(text)
        return (said,) if said else ()

    def _start(self, message: Mapping[str, Any]) -> Iterable[Usage]:
        if self._index is not None:
            raise malformed(self._name, "the beginning of another answer within this one")
        self._has_begun = True
        self._message_id = id_of(message.get("id"))
        self._note("message_id", self._message_id)
        self._note("model", name_of(message.get("model")))
        return self._count(message.get("usage"))

    def _end(self, data: Mapping[str, Any]) -> Iterable[Usage]:
        delta = mapping(data.get("delta"))
        self._note("stop_reason", name_of(delta.get("stop_reason"), MAX_REASON_CHARACTERS))
        self._note("stop_sequence", name_of(delta.get("stop_sequence"), 1_000))
        self._note("stop_details", details_of(delta.get("stop_details")) or None)
        return self._count(data.get("usage"))

    def _note(self, name: str, value: object) -> None:
        if value is not None:
            self._metadata[name] = value

    def _count(self, usage: object) -> Iterable[Usage]:
        """Counts are totals so far: a later one takes the place of an earlier one."""
        self._usage = details_of(self._usage | details_of(usage))
        told = Usage(
            input_tokens=sum(count_of(self._usage.get(name)) or 0 for name in _INPUT),
            output_tokens=count_of(self._usage.get("output_tokens")) or 0,
        )
        if told == self._usage_told:
            return ()
        self._usage_told = told
        return (told,)

    def _stop(self) -> Iterable[str | Completed]:
        if not self._has_begun and self._index is None:
            raise malformed(self._name, "the end of an answer that never began")
        reason: str | None = self._metadata.get("stop_reason")
        if self._usage:
            self._metadata["usage"] = self._usage
        if self._blocks:
            self._metadata["other_content"] = self._blocks
        self._completed = Completed(
            finish_reason="stop" if reason is None else FINISH_REASONS.get(reason, reason),
            input_tokens=self._usage_told.input_tokens,
            output_tokens=self._usage_told.output_tokens,
            provider_message_id=self._message_id,
            metadata=self._metadata,
        )
        rest = self._pieces.rest()
        return (rest, self._completed) if rest else (self._completed,)
