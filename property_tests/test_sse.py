"""The parser of event streams against another one, on random streams in random pieces.

`httpx-sse` differs from the WHATWG's rules in these points, which the comparison allows for:

- A blank line after an `event`, `id` or `retry` without `data` dispatches an event there, with
  empty data; after the first `id` every further blank line does. The standard dispatches nothing
  where the data buffer is empty. So its events are compared only where a `data` line was seen.
- A BOM at the beginning becomes a part of the first field's name, which is unknown then. The
  standard takes it off.
- The event's type is empty in its decoder where none was given; the standard says "message".
- A CR at the end of a piece waits for the next piece: its line, and so perhaps its event, comes
  later than it could, or with the flush at the end. The standard's line ends there.
- At the end of the stream it is flushed: a last line without its end is read, and ends an event
  if it is blank. The standard discards what is not complete. So is it here; the reference below is
  not flushed, but a last CR is given to it as what it is.
"""

from __future__ import annotations

from itertools import pairwise

from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langswarm.core.session.adapters.http.sse import SSEParser

BOM = b"\xef\xbb\xbf"
PIECES = (
    "data", "event", "id", "retry", "other", "d", ":", ": ", " ", "a", "é", "€", "😀", "{}", "1",
    "\u2028", "\x85", "\x0b", "\x00", "\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\ufeff",
    "data: a\n\n", "event: b\r\ndata: c\r\n\r\n", ": ping\n\n",
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    content = "".join(draw(st.lists(st.sampled_from(PIECES), max_size=60))).encode()
    cuts = draw(st.lists(st.integers(0, len(content)), max_size=12))
    return content, sorted(cuts)


def ours(content: bytes, cuts: list[int]) -> list[tuple[str, str]]:
    parser = SSEParser()
    edges = [0, *cuts, len(content)]
    pieces = [content[low:high] for low, high in pairwise(edges)]
    return [(each.event, each.data) for piece in pieces for each in parser.feed(piece)]


def theirs(content: bytes) -> list[tuple[str, str]]:
    lines = SSELineDecoder()
    text = content.removeprefix(BOM).decode()
    if text.endswith("\r"):
        text += "\n"  # else it would be waited for; as one line end it means the same
    decoder = SSEDecoder()
    events: list[tuple[str, str]] = []
    has_data = False
    for line in lines.decode(text) if text else []:
        event = decoder.decode(line)
        if event is not None and has_data:
            events.append((event.event or "message", event.data))
        has_data = bool(line) and (has_data or line == "data" or line.startswith("data:"))
    return events


@given(streams())
@settings(max_examples=1_000, deadline=None)
@example((b"data: a\r\n\r\n", [8, 9, 10]))
@example((BOM + b"data: a\n\n", [1, 2]))
@example((b"id: 1\n\n\n\ndata: a\n\n", []))
def test_any_stream_in_any_pieces_is_read_as_the_other_parser_reads_it_whole(
    stream: tuple[bytes, list[int]],
) -> None:
    content, cuts = stream
    assert ours(content, cuts) == theirs(content)


@given(st.lists(st.tuples(st.sampled_from(["", "ping", "a.b"]), st.text())), st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(events: list[tuple[str, str]], data: st.DataObject) -> None:
    content = b""
    expected: list[tuple[str, str]] = []
    for name, text in events:
        clean = text.replace("\r", "\n").encode("utf-8", "replace").decode()
        if name:
            content += f"event: {name}\n".encode()
        content += "".join(f"data: {line}\n" for line in clean.split("\n")).encode() + b"\n"
        expected.append((name or "message", clean))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=20)))
    assert ours(content, cuts) == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
@settings(max_examples=500, deadline=None)
def test_no_bytes_make_it_fail_in_another_way_than_told(content: bytes, cuts: list[int]) -> None:
    try:
        ours(content, sorted(cut for cut in cuts if cut <= len(content)))
    except ValueError as error:
        assert "UTF-8" in str(error)  # noqa: PT017 - most bytes are fine
