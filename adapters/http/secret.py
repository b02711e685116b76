"""Keys that never show: kept apart from text, and taken out of text that others wrote."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast, final

from ...actors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK: Final = "[secret]"
"""What stands in a text where a secret was."""
MAX_SECRET_CHARACTERS: Final = 16_384
MIN_SCRUBBED_CHARACTERS: Final = 8
"""A shorter value is no secret but a word ("none", "ollama"), which is left in texts."""
MIN_CUT_CHARACTERS: Final = 6
"""So much of a secret's beginning is taken out where a text was cut within it."""
PART_CHARACTERS: Final = 12
"""So much of a secret is taken out wherever it stands, for a service may show it in parts."""
_CODED_CHARACTERS: Final = 40
"""As `PART_CHARACTERS`, of the secret in base64; all of it where it is shorter."""

_UNIT: Final = re.compile(
    r"%(?:25)*([0-9a-f]{2})|\\+(?:u00|x)([0-9a-f]{2})|\\+(.?)"
    r"|(&(?:#x[0-9a-f]{2,4}|#[0-9]{2,4}|amp|lt|gt|quot|apos);)",
    re.IGNORECASE | re.DOTALL,
)
_FOLDED: Final = {ord("+"): " ", **{code: chr(code + 32) for code in range(ord("A"), ord("Z") + 1)}}


@final
class Secret:
    """A key that is shown by no `repr`, `str`, `format`, copy, pickle or traceback.

    Surrounding whitespace is stripped: a key that was pasted or read from a file often has some,
    and a client that is given it prints the whole key in its error.

    Raises ConfigurationError, which names `name` and never shows the value, for what is no text,
    empty, longer than 16,384 characters, not ASCII, or holds a control character.
    """

    __slots__ = ("__traces", "__value", "__weakref__")

    def __init__(self, value: object, name: str = "api_key") -> None:
        problem = _problem_of(value)
        if problem is not None:
            del value  # a traceback may print the locals of this frame
            raise ConfigurationError(f"{name} {problem}")
        self.__value = str(value).strip()
        self.__traces: tuple[_Trace, ...] | None = None

    def reveal(self) -> str:
        """The value itself. Put it into a request at once; keep it in no variable."""
        return self.__value

    def places_in(self, plain: str, *, cut: bool) -> Iterator[tuple[int, int]]:
        """Where it or parts of it are in what `_Text` made of a text; see `scrub`."""
        if len(self.__value) < MIN_SCRUBBED_CHARACTERS:
            return
        if self.__traces is None:
            self.__traces = tuple(_traces_of(self.__value))
        for trace in self.__traces:
            yield from trace.places_in(plain)
        if cut:
            folded = self.__traces[0].text
            for length in range(min(PART_CHARACTERS, len(folded)) - 1, MIN_CUT_CHARACTERS - 1, -1):
                if plain.endswith(folded[:length]):
                    yield len(plain) - length, len(plain)
                    return

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: read the key again where it is needed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to show")


@final
class SecretTexts(Mapping[str, str]):
    """Texts by name, such as headers, that may be keys: read like a dict, shown like a `Secret`."""

    __slots__ = ("_texts",)

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {name: Secret(text, name) if text else None for name, text in texts.items()}

    def __getitem__(self, name: str) -> str:
        secret = self._texts[name]
        return "" if secret is None else secret.reveal()

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return repr(self._texts)


def is_possible_secret(value: object) -> bool:
    """Whether a `Secret` can be made of it."""
    return _problem_of(value) is None


def _problem_of(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a text, not {type(value).__name__}"
    text = value.strip()
    if not text:
        return "is empty"
    if len(text) > MAX_SECRET_CHARACTERS:
        return f"is longer than {MAX_SECRET_CHARACTERS:,} characters"
    if not text.isascii():
        return "holds characters that are not ASCII; copy it again from where it was issued"
    if not text.isprintable():
        return "holds a control character, such as a line break, within it"
    return None


def scrub(text: str, secrets: Iterable[Secret], *, cut: bool = True) -> str:
    """The text without the secrets and without parts of them, of 12 characters or more.

    However they were written: in capitals or not, plain, quoted for a URL, JSON, HTML or Python,
    once or twice, or in base64. With `cut`, a beginning of 6 characters of a secret is taken out
    at the end of the text, which may have been cut there.
    """
    read = _Text(text)
    found = sorted(place for each in secrets for place in each.places_in(read.plain, cut=cut))
    if not found:
        return text
    pieces: list[str] = []
    done = 0
    for first, end in found:
        start, stop = read.place_of(first, end)
        if stop > done:
            if start >= done:
                pieces += (text[done:start], MASK)
            done = stop
    pieces.append(text[done:])
    return "".join(pieces)


def scrub_value(value: Any, secrets: Iterable[Secret]) -> Any:
    """A JSON value, all its texts without the secrets."""
    secrets = tuple(secrets)
    whole = repr(value)
    if scrub(whole, secrets, cut=False) == whole:
        return value
    return _scrubbed(value, secrets)


def _scrubbed(value: Any, secrets: tuple[Secret, ...]) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets, cut=False)
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {_scrubbed(k, secrets): _scrubbed(v, secrets) for k, v in fields.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(each, secrets) for each in cast("Iterable[Any]", value)]
    return value


class _Text:
    """A text as it reads when all quoting is undone, in small letters."""

    __slots__ = ("_units", "plain")

    def __init__(self, text: str) -> None:
        self._units: list[tuple[int, int]] | None = None  # where each character of `plain` is
        if "%" in text or "\\" in text or "&" in text:
            text, self._units = _unquoted(text)
        self.plain = text.translate(_FOLDED)

    def place_of(self, first: int, end: int) -> tuple[int, int]:
        """Where the characters from `first` to before `end` are in the text itself."""
        if self._units is None:
            return first, end
        return self._units[first][0], self._units[end - 1][1]


def _unquoted(text: str) -> tuple[str, list[tuple[int, int]]]:
    pieces: list[str] = []
    units: list[tuple[int, int]] = []
    done = 0
    for unit in _UNIT.finditer(text):
        start, stop = unit.span()
        pieces.append(text[done:start])
        units += ((at, at + 1) for at in range(done, start))
        code = unit[1] or unit[2]
        meant = chr(int(code, 16)) if code else unit[3] or html.unescape(unit[4] or "")
        meant = meant.replace("\\", "")  # they come and go with quoting
        pieces.append(meant)
        units += [(start, stop)] * len(meant)
        done = stop
    pieces.append(text[done:])
    units += ((at, at + 1) for at in range(done, len(text)))
    return "".join(pieces), units


class _Trace:
    """A form of a secret, and how to find parts of it: each holds one of the blocks as a whole."""

    __slots__ = ("_blocks", "_size", "text")

    def __init__(self, text: str, size: int) -> None:
        self.text = text
        self._size = min(size, len(text))
        length = (self._size + 1) // 2
        self._blocks = [
            (at, text[at : at + length]) for at in range(0, len(text) - length + 1, length)
        ]

    def places_in(self, plain: str) -> Iterator[tuple[int, int]]:
        for at, block in self._blocks:
            found = plain.find(block)
            while found >= 0:
                first, end = self._grown(plain, found, at, len(block))
                if end - first >= self._size:
                    yield first, end
                found = plain.find(block, found + 1)

    def _grown(self, plain: str, found: int, at: int, length: int) -> tuple[int, int]:
        """All that the text and the trace have in common around a block."""
        text = self.text
        before = 0
        while before < min(found, at) and plain[found - before - 1] == text[at - before - 1]:
            before += 1
        after = length
        most = min(len(plain) - found, len(text) - at)
        while after < most and plain[found + after] == text[at + after]:
            after += 1
        return found - before, found + after


def _traces_of(value: str) -> Iterator[_Trace]:
    yield _Trace(_Text(value).plain, PART_CHARACTERS)
    texts: set[str] = set()
    for shift in range(3):  # what stands before it in what was encoded decides how it is cut
        skipped = 0 if shift == 0 else 4
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"-" * shift + value.encode()).decode().rstrip("=")[skipped:-1]
            texts.add(coded.translate(_FOLDED))
    for text in sorted(texts):
        if len(text) >= PART_CHARACTERS:
            yield _Trace(text, _CODED_CHARACTERS)
