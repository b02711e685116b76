"""Reading what vendors say: JSON of any shape, texts in pieces, ids and counts that may be missing.

Nothing here trusts a type: what is not as it should be is left out, so that an odd field in a
vendor's answer never costs the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from ...actors.errors import ProviderError
from ...actors.values import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ID_CHARACTERS = 200
MAX_NAME_CHARACTERS = 200
MAX_ERROR_CHARACTERS = 500
"""Of a vendor's error text."""
_MAX_FIELDS = 50
_MAX_DETAILS_CHARACTERS = 4_000
_MAX_COUNT = 2**53
_SHOWN = 100

NOTHING: Mapping[str, Any] = {}


def parse(data: str, provider: str) -> Any:
    """The JSON value of an event's data. Raises ProviderError of code `protocol`."""
    try:
        return _decode(data)
    except (ValueError, RecursionError) as error:
        raise malformed(
            provider, f"an event that is no JSON: {printable(data[:_SHOWN])}"
        ) from error


def _no_constant(name: str) -> None:
    del name  # NaN and the infinities are no JSON, and nothing that is used here


# json.loads would make a decoder for each event.
_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def malformed(provider: str, what: str) -> ProviderError:
    """The service said something that cannot be read."""
    return ProviderError(
        f"the service of the provider {provider!r} sent {what}; the answer is given up. If this "
        "happens again, check base_url, and what stands between",
        code="protocol",
        provider=provider,
        retryable=True,
    )


def cut_off(provider: str, missing: str) -> ProviderError:
    """The stream ended before the answer was complete."""
    return ProviderError(
        f"the stream of the provider {provider!r} ended without {missing}: the answer was cut off; "
        "send it again",
        code="truncated",
        provider=provider,
        retryable=True,
    )


def mapping(value: object) -> Mapping[str, Any]:
    """The value, if it is a JSON object; else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else NOTHING


def items(value: object) -> list[Any]:
    """The value, if it is a JSON array; else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def name_of(value: object, most: int = MAX_NAME_CHARACTERS) -> str | None:
    """A text that can be stored, cut to `most` characters; None for all else, and for none."""
    return printable(value[:most]) if isinstance(value, str) and value.strip() else None


def id_of(value: object) -> str | None:
    """An id, which is no use when cut: None where it is too long, empty, blank or no text."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS or value.isspace():
        return None
    return value if printable(value) == value else None


def count_of(value: object) -> int | None:
    """A count of tokens; None where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MAX_COUNT else None


def details_of(value: object) -> dict[str, Any]:
    """Counts, flags and names of a usage, those one level down included; of the rest nothing.

    About 4,000 characters at most: what is kept with an answer must not cost the answer.
    """
    kept: dict[str, Any] = {}
    room = _MAX_DETAILS_CHARACTERS
    for name, each in _fields(value):
        within = mapping(each)
        found: Any = dict(_fields(within, nested=False)) if within else each
        size = len(str(found))
        if size <= room:
            kept[name] = found
            room -= size + len(name)
    return kept


def _fields(value: object, *, nested: bool = True) -> Iterator[tuple[str, Any]]:
    for name, each in islice(mapping(value).items(), _MAX_FIELDS):
        short = printable(name[:MAX_NAME_CHARACTERS])
        if isinstance(each, int | float):
            if abs(each) < _MAX_COUNT:  # not so of infinity, which JSON can spell as 1e999
                yield short, each
        elif isinstance(each, str):
            yield short, printable(each[:MAX_NAME_CHARACTERS])
        elif nested and isinstance(each, Mapping):
            yield short, cast("Mapping[str, Any]", each)


def vendor_text(value: object) -> str:
    """A vendor's error text on one line, cut to 500 characters."""
    given = value if isinstance(value, str) else _dumped(value)
    return printable(" ".join(given[: 4 * MAX_ERROR_CHARACTERS].split()))[:MAX_ERROR_CHARACTERS]


def _dumped(value: object) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"


class Pieces:
    """Puts texts together that were cut anywhere, within a character too.

    JSON may carry a character beyond U+FFFF as two escapes, and a server may send these in two
    events. A half whose other half never comes becomes U+FFFD.
    """

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def take(self, text: str) -> str:
        """The text with the half that was left over before, without the one it ends with."""
        if text.isascii() and not self._half:
            return text
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return mended(text)

    def rest(self) -> str:
        """What is left at the end."""
        half, self._half = self._half, ""
        return mended(half)


def mended(text: str) -> str:
    """The text, its halves of characters put together, or U+FFFD for those that are alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
