"""Keys that never show: kept apart from text, and taken out of text that others wrote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, final

from ...actors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "[secret]"
"""What stands in a text where a secret was."""
MAX_SECRET_CHARACTERS: Final = 16_384
MIN_SCRUBBED_CHARACTERS: Final = 8
"""A shorter value is no secret but a word ("none", "ollama"), which is left in texts."""
MIN_CUT_CHARACTERS: Final = 6
"""So much of a secret's beginning is taken out where a text was cut within it."""


@final
class Secret:
    """A key that is shown by no `repr`, `str`, `format`, copy, pickle or traceback.

    Surrounding whitespace is stripped: a key that was pasted or read from a file often has some,
    and a client that is given it prints the whole key in its error.

    Raises ConfigurationError, which names `name` and never shows the value, for what is no text,
    empty, longer than 16,384 characters, not ASCII, or holds a control character.
    """

    __slots__ = ("__pattern", "__value")

    def __init__(self, value: object, name: str = "api_key") -> None:
        problem = _problem_of(value)
        if problem is not None:
            del value  # a traceback may print the locals of this frame
            raise ConfigurationError(f"{name} {problem}")
        self.__value = str(value).strip()
        self.__pattern: re.Pattern[str] | None = None

    def reveal(self) -> str:
        """The value itself. Put it into a request at once; keep it in no variable."""
        return self.__value

    def remove_from(self, text: str) -> str:
        """The text without this secret; see `scrub`."""
        if len(self.__value) < MIN_SCRUBBED_CHARACTERS:
            return text
        if self.__pattern is None:
            self.__pattern = re.compile("".join(map(_forms, self.__value)))
        return self.__pattern.sub(MASK, text)

    def remove_cut_from(self, text: str) -> str:
        """The text without the beginning of this secret at its end."""
        if len(self.__value) >= MIN_SCRUBBED_CHARACTERS:
            for length in range(len(self.__value) - 1, MIN_CUT_CHARACTERS - 1, -1):
                if text.endswith(self.__value[:length]):
                    return text[:-length] + MASK
        return text

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


def scrub(text: str, secrets: Iterable[Secret]) -> str:
    """The text without the secrets, however they were written: plain, or escaped for URL or JSON.

    Where the text ends within a secret, because it was cut, its beginning is taken out as well.
    """
    for secret in secrets:
        text = secret.remove_cut_from(secret.remove_from(text))
    return text


def _forms(character: str) -> str:
    if character.isalnum():
        return character
    code = f"{ord(character):02x}"
    forms: list[Any] = [
        re.escape(character),
        f"%(?i:{code})",
        rf"\\+u00(?i:{code})",
        rf"\\+{re.escape(character)}",
    ]
    if character == " ":
        forms.append(r"\+")
    return f"(?:{'|'.join(forms)})"
