"""JSON files: V1's JSON shape, and plain lists of messages; each as one value or as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from ...actors.errors import ConfigurationError, StorageError
from ...actors.model import SessionStatus
from .meaning import Notes, content_of, object_of, parsed, role_of, shown, text_or_none
from .times import Timeline
from .v1 import name_of_document, session_of_document
from .values import ImportedMessage, ImportedSession, Skipped, SourceFormat, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import tzinfo

MAX_DOCUMENT_BYTES = 256 * 2**20
"""Of one JSON value in a file: of a line, or of the whole file if it is one value."""
_EXTRAS = ("tool_calls", "tool_call_id", "name")
_TIMES = ("timestamp", "created_at")


def open_document(path: str, wanted: SourceFormat | None, zone: tzinfo | None) -> DocumentReader:
    """The reader of a JSON file. Raises StorageError of code `foreign` for all others."""
    with contextlib.closing(_values(path)) as values:
        first = next(values, None)
    found = _format_of(first[1] if first is not None else None)
    if found is None or (wanted is not None and wanted is not found):
        looks = "neither messages nor sessions" if found is None else f"of the format {found}"
        raise StorageError(
            f"{path} is JSON, but {looks}; nothing was written to it: import a list of messages "
            'with "role" and "content", or sessions of V1 with "metadata" and "history"',
            code="foreign",
        )
    return DocumentReader(path, found, zone)


class DocumentReader:
    """Of a JSON file. It is read anew by each call."""

    def __init__(self, path: str, found: SourceFormat, zone: tzinfo | None) -> None:
        self.format = found
        self._path = path
        self._zone = zone

    def sessions(self) -> Iterator[ImportedSession | Skipped]:
        if self.format is SourceFormat.MESSAGES:
            yield self._conversation()
            return
        for place, value in _values(self._path):
            for session in cast("list[object]", value) if isinstance(value, list) else [value]:
                name = name_of_document(session) or place
                try:
                    if isinstance(session, UnreadableError):
                        raise session
                    yield session_of_document(session, self._zone)
                except UnreadableError as error:
                    yield Skipped(id=name, reason=str(error))

    def find(self, session_id: str) -> ImportedSession | Skipped | None:
        return next((found for found in self.sessions() if found.id == session_id), None)

    def close(self) -> None:
        """Nothing is held open."""

    def _conversation(self) -> ImportedSession | Skipped:
        name = os.path.splitext(os.path.basename(self._path))[0]  # noqa: PTH119, PTH122
        notes = Notes()
        timeline = Timeline(self._zone, notes.add)
        changed = datetime.fromtimestamp(os.stat(self._path).st_mtime, UTC)  # noqa: PTH116
        values = chain.from_iterable(
            cast("list[object]", value) if isinstance(value, list) else [value]
            for _, value in _values(self._path)
        )
        try:
            messages = tuple(
                _message(value, f"message {number}", changed, timeline, notes)
                for number, value in enumerate(values, 1)
            )
        except UnreadableError as error:
            return Skipped(id=name, reason=str(error))
        return ImportedSession(
            id=name,
            user_id=None,
            provider=None,
            model=None,
            status=SessionStatus.ACTIVE,
            created=messages[0].timestamp if messages else changed,
            updated=messages[-1].timestamp if messages else changed,
            messages=messages,
            notes=notes.told(),
        )


def _message(
    value: object, place: str, start: datetime, timeline: Timeline, notes: Notes
) -> ImportedMessage:
    if isinstance(value, UnreadableError):
        raise value
    message = object_of(value, place)
    role, original = role_of(message.get("role"), place, notes)
    time = next((message[name] for name in _TIMES if message.get(name) is not None), None)
    if time is None:
        notes.add("messages without a time have the time before them, or that of the file")
        at = timeline.last or start
    else:
        at = timeline.next(time, start=start)
    metadata = message.get("metadata")
    return ImportedMessage(
        role=role,
        content=content_of(message.get("content"), place, notes),
        timestamp=at,
        id=text_or_none(message.get("id")),
        metadata=cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {},
        original_role=original,
        extras={name: message[name] for name in _EXTRAS if message.get(name) is not None},
    )


def _format_of(value: object) -> SourceFormat | None:
    first: object = value
    if isinstance(value, list) and value:
        first = cast("list[object]", value)[0]
    if isinstance(first, dict):
        if "history" in first and "metadata" in first:
            return SourceFormat.V1_JSON
        if "role" in first:
            return SourceFormat.MESSAGES
    return None


def _values(path: str) -> Generator[tuple[str, Any]]:
    """Each line's value, or the one value of the file, and its place.

    A line that is no JSON gives an UnreadableError as its value, so that the others are read.
    Raises StorageError of code `foreign` for a file whose first line is no JSON, nor all of it.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            first = _first_line(file.readline(MAX_DOCUMENT_BYTES + 1), path)
            try:
                value = json.loads(first)
            except (ValueError, RecursionError):
                yield path, _whole(first + file.read(MAX_DOCUMENT_BYTES + 1 - len(first)), path)
                return
            yield "line 1", value
            number = 1
            while line := file.readline(MAX_DOCUMENT_BYTES + 1):
                number += 1
                if len(line) > MAX_DOCUMENT_BYTES:
                    raise _too_large(path)
                if line.strip():
                    yield f"line {number}", _line(line, f"line {number}")
    except StorageError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"{path!r} cannot be read ({error}); check the path and its permissions"
        ) from error


def _first_line(line: bytes, path: str) -> bytes:
    if len(line) > MAX_DOCUMENT_BYTES:
        raise _too_large(path)
    return line.removeprefix(b"\xef\xbb\xbf")


def _line(line: bytes, place: str) -> Any:
    try:
        return parsed(line.decode("utf-8"), place)
    except UnicodeDecodeError:
        return UnreadableError(f"{place} is no text in UTF-8")
    except UnreadableError as error:
        return error


def _whole(text: bytes, path: str) -> Any:
    if len(text) > MAX_DOCUMENT_BYTES:
        raise _too_large(path)
    try:
        return parsed(text.decode("utf-8"), "it")
    except (UnicodeDecodeError, UnreadableError) as error:
        raise StorageError(
            f"{path} is neither an SQLite database nor JSON that can be read ({shown(str(error))}"
            "); nothing was written to it: check that it is the right file, and whole",
            code="foreign",
        ) from error


def _too_large(path: str) -> StorageError:
    return StorageError(
        f"{path} has a JSON value of more than {MAX_DOCUMENT_BYTES} bytes; nothing was written to "
        "it: split it into JSON lines, one session each",
        code="foreign",
    )
