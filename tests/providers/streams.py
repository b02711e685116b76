"""A vendor's stream as bytes, cut anywhere, and what a reader makes of it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from hypothesis import strategies as st
from langswarm.core.session.actors.ports import Completed, Usage
from langswarm.core.session.adapters.http.sse import ServerSentEvent, SSEParser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_EVENT_BYTES = 1_000_000


class Reader(Protocol):
    def feed(self, event: ServerSentEvent) -> Iterable[str | Usage | Completed]: ...
    def end(self) -> Completed: ...


def sse(*events: tuple[str, Any] | str) -> list[bytes]:
    """Each event as bytes: (name, data), or lines as they are. No name: data only."""
    return [each.encode() if isinstance(each, str) else _event(*each) for each in events]


def _event(name: str, data: Any) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def read(reader: Reader, chunks: Iterable[bytes]) -> tuple[str, Completed]:
    """The text and the end, as the driver reads them. Raises what the reader raises."""
    parser = SSEParser(max_event_bytes=MAX_EVENT_BYTES)
    said, completed = "", None
    for chunk in chunks:
        for event in parser.feed(chunk):
            for part in reader.feed(event):
                assert completed is None, "something came after Completed"
                if isinstance(part, Completed):
                    completed = part
                elif isinstance(part, str):
                    assert part, "an empty text"
                    said += part
    return said, completed or reader.end()


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data cut at these places."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


places = st.lists(st.integers(0, 1_000_000), max_size=40)
"""Where to cut."""
texts = st.lists(st.text(max_size=12), max_size=8)
"""Pieces of an answer, of any characters that have a UTF-8 form."""
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
