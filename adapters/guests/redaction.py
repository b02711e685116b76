"""Takes personal data and keys out of texts, and tells how many, never what."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from ...actors.errors import ConfigurationError
from .detectors import DETECTORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KINDS: Final = tuple(DETECTORS)
_NAME = re.compile(r"[A-Za-z][\w-]{0,39}")


@attrs.frozen
class Redacted:
    """A text without what was found in it."""

    text: str
    counts: Mapping[str, int]
    """How many pieces of each kind were taken out; only kinds of which there were some."""


class Redactor:
    """Puts `[kind]` where something of a kind was.

    Args:
        kinds: which of "email", "phone", "card", "api_key" and "bearer"; all of them by default.
        patterns: further kinds by name, as regular expressions. The time that they take is theirs:
            one such as `(a+)+$` can take for ever on a text that was made for it.

    Raises ConfigurationError for a kind that there is not, a name that is no word of at most 40
    characters, or a pattern that is no regular expression or matches the empty text.
    """

    def __init__(
        self,
        kinds: Iterable[str] = KINDS,
        patterns: Mapping[str, str | re.Pattern[str]] | None = None,
    ) -> None:
        chosen = tuple(kinds)
        unknown = set(chosen) - set(DETECTORS)
        if unknown:
            raise ConfigurationError(f"no kind {min(unknown)!r}; there are {', '.join(KINDS)}")
        self._detectors = {kind: DETECTORS[kind] for kind in KINDS if kind in chosen}
        self._patterns = {n: _compiled(n, pattern) for n, pattern in (patterns or {}).items()}

    def redact(self, text: str) -> Redacted:
        """The text without what is found; the text itself if nothing is. Never raises."""
        found = sorted(self._found(text), key=lambda each: (each[0], -each[1]))
        if not found:
            return Redacted(text, {})
        pieces: list[str] = []
        counts: Counter[str] = Counter()
        done = 0
        for start, end, kind in found:
            if end <= done:
                continue
            if start >= done:
                pieces += (text[done:start], f"[{kind}]")
                counts[kind] += 1
            done = end  # what overlaps the one before goes with it
        pieces.append(text[done:])
        return Redacted("".join(pieces), dict(counts))

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        for kind, detect in self._detectors.items():
            for start, end in detect(text):
                yield start, end, kind
        for kind, pattern in self._patterns.items():
            for match in pattern.finditer(text):
                if match.end() > match.start():
                    yield match.start(), match.end(), kind


def _compiled(name: str, pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    if not _NAME.fullmatch(name) or name in DETECTORS:
        raise ConfigurationError(f"{name!r} cannot name a pattern: it is no word, or it is taken")
    try:
        compiled = re.compile(pattern)
        says_nothing = compiled.match("") is not None  # a pattern of bytes raises here
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"the pattern {name!r} cannot be used: {error}") from error
    if says_nothing:
        raise ConfigurationError(f"the pattern {name!r} matches the empty text")
    return compiled
