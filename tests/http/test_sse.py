"""Events out of bytes, by the rules of the WHATWG."""

from __future__ import annotations

import time

import pytest
from langswarm.core.session.adapters.http.sse import ServerSentEvent, SSEError, SSEParser


def parsed(
    content: bytes, *, size: int | None = None, cap: int = 1_000_000
) -> list[tuple[str, str]]:
    parser = SSEParser(cap)
    size = size or len(content) or 1
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return [(each.event, each.data) for piece in pieces for each in parser.feed(piece)]


CASES: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "one event": (b"data: a\n\n", [("message", "a")]),
    "named": (b"event: ping\ndata: {}\n\n", [("ping", "{}")]),
    "the name holds for one event": (
        b"event: x\ndata: 1\n\ndata: 2\n\n",
        [("x", "1"), ("message", "2")],
    ),
    "the last name counts": (b"event: x\nevent: y\ndata: 1\n\n", [("y", "1")]),
    "several lines": (b"data: a\ndata: b\ndata:\ndata: c\n\n", [("message", "a\nb\n\nc")]),
    "one space is taken off": (b"data:  a \n\n", [("message", " a ")]),
    "no space needed": (b"data:a\n\n", [("message", "a")]),
    "colons in the value": (b"data: a: b\n\n", [("message", "a: b")]),
    "a field without colon is empty": (b"data\n\n", [("message", "")]),
    "empty data is an event": (b"data:\n\n", [("message", "")]),
    "no data is no event": (b"event: ping\n\nid: 3\n\nretry: 5\n\n\n\n", []),
    "a name without data is forgotten": (b"event: x\n\ndata: a\n\n", [("message", "a")]),
    "comments": (b": hello\n:\ndata: a\n: within\ndata: b\n\n", [("message", "a\nb")]),
    "unknown fields": (b"x: 1\nDATA: 2\n data: 3\ndata: a\n\n", [("message", "a")]),
    "CR": (b"data: a\rdata: b\r\rdata: c\r\r", [("message", "a\nb"), ("message", "c")]),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\n", [("message", "a\nb")]),
    "mixed ends": (b"data: a\r\ndata: b\rdata: c\n\r\n", [("message", "a\nb\nc")]),
    "LF after CR is one end": (
        b"data: a\r\n\r\ndata: b\r\n\r\n",
        [("message", "a"), ("message", "b")],
    ),
    "BOM at the start": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
    "BOM later is no BOM": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a")]),
    "two BOMs": (b"\xef\xbb\xbf\xef\xbb\xbfdata: b\n\n", []),
    "BOM in front of a blank line": (b"\xef\xbb\xbf\ndata: b\n\n", [("message", "b")]),
    "no other line ends": (
        "data: a\x0b\x0c\x1c\x85\u2028\u2029b\n\n".encode(),
        [("message", "a\x0b\x0c\x1c\x85\u2028\u2029b")],
    ),
    "NUL": (b"data: a\x00b\n\n", [("message", "a\x00b")]),
    "what has not ended is lost": (b"data: a\n\ndata: b\n", [("message", "a")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", CASES)
def test_events_are_read_alike_however_the_bytes_are_cut(name: str) -> None:
    content, events = CASES[name]
    for size in range(1, len(content) + 2):
        assert parsed(content, size=size) == events, size


def test_an_event_is_given_out_with_the_byte_that_ends_it() -> None:
    """A CR ends a line at once: the LF that may follow is not waited for."""
    for end in (b"\n\n", b"\r\r", b"\n\r"):
        assert SSEParser().feed(b"data: a" + end) == [ServerSentEvent("message", "a")]
    parser = SSEParser()
    assert len(parser.feed(b"data: a\r\n\r")) == 1
    assert parser.feed(b"\n") == []
    assert len(parser.feed(b"data: b\n\n")) == 1


def test_characters_that_were_cut_come_out_whole() -> None:
    text = "é€😀" * 20
    for size in range(1, 9):
        assert parsed(f"data: {text}\n\n".encode(), size=size) == [("message", text)]


@pytest.mark.parametrize("content", [b"data: \xff\n\n", b"event: \xc3\ndata: x\n\n"])
def test_bytes_that_are_no_utf_8_are_an_error(content: bytes) -> None:
    with pytest.raises(SSEError, match="not UTF-8"):
        parsed(content)


def test_bytes_that_are_no_utf_8_do_not_matter_where_nobody_reads_them() -> None:
    assert parsed(b": \xff\nx\xff: \xff\ndata: a\n\n") == [("message", "a")]


@pytest.mark.parametrize(
    "content",
    [
        b"data: " + b"a" * 200,  # a line that never ends
        b"data: aaaaaaaaaaaa\n" * 20,  # an event that never ends
        b"data: " + b"a" * 200 + b"\n\n",  # one that came in one piece
        b": " + b"a" * 200,  # a comment that never ends
    ],
)
def test_an_event_larger_than_the_limit_is_an_error_before_it_has_come(content: bytes) -> None:
    for size in (1, 7, 1000):
        with pytest.raises(SSEError, match="more than 100 bytes"):
            parsed(content, size=size, cap=100)


def test_the_limit_is_one_events_and_not_the_streams() -> None:
    content = b"data: " + b"a" * 60 + b"\n\n: " + b"b" * 60 + b"\n"
    for size in (1, 7, 1000):
        assert len(parsed(content * 50, size=size, cap=100)) == 50


def test_a_large_event_in_small_pieces_is_read_in_linear_time() -> None:
    began = time.process_time()
    content = b"data: " + b"a" * 1_000_000 + b"\n\n"
    assert len(parsed(content, size=8, cap=4_000_000)[0][1]) == 1_000_000
    assert time.process_time() - began < 2.0  # a copy per piece would take minutes


def test_events_and_whole_comments_are_signs_of_life() -> None:
    parser = SSEParser()
    seen: list[int] = []
    for piece in (b"data: a", b"\n", b"\n", b": pi", b"ng\n", b"event: x\n", b"\n", b"x: y\n"):
        parser.feed(piece)
        seen.append(parser.signs)
    assert seen == [0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("wrong", [b"\xff", b"x" * 60])
def test_what_came_before_what_cannot_be_read_is_the_same_however_it_is_cut(wrong: bytes) -> None:
    content = b"data: a\n\ndata: b\n\ndata: " + wrong + b"\n\ndata: c\n\n"
    for size in range(1, len(content) + 1):
        assert _read_before_error(content, size) == ["a", "b"]


def _read_before_error(content: bytes, size: int) -> list[str]:
    parser = SSEParser(max_event_bytes=50)
    read: list[str] = []
    for start in range(0, len(content), size):
        try:
            read += [event.data for event in parser.feed(content[start : start + size])]
        except SSEError as error:
            return [*read, *(event.data for event in error.events)]
    return ["no error"]
