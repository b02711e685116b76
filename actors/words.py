"""What a search for text looks for: words, however they are written."""

from __future__ import annotations

import unicodedata

MAX_WORDS = 32
_MAX_KNOWN = 20_000
_WITHIN_WORDS = frozenset("\N{SOFT HYPHEN}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


class _Letters(dict[int, str]):
    """What becomes of each character, found out when it is met: letters, or a blank.

    Each is decomposed alone. To decompose a whole text gives the same without the accents, but
    sorts those first, in a time that is the square of how many follow each other.
    """

    def __missing__(self, code: int) -> str:
        kept = "".join(map(_kept, unicodedata.normalize("NFKD", chr(code))))
        if len(self) < _MAX_KNOWN:
            self[code] = kept
        return kept


def _kept(letter: str) -> str:
    """Itself, nothing, or a blank."""
    if unicodedata.combining(letter) or letter in _WITHIN_WORDS:
        return ""
    if letter.isalnum() or unicodedata.category(letter)[0] == "M":
        return letter
    return " "


_letters = _Letters()


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, whatever their case and their accents.

    "Café-Straße" has the words "cafe" and "strasse". Languages that put no spaces between words
    are one word a run.

    An index of SQLite's FTS5 finds the same if it is given these words, joined by blanks, with the
    tokenizer `ascii`. Given the text, with `unicode61`, it would find other things: that takes
    symbols newer than itself, such as many emoji, for letters, and knows the accents of some
    alphabets only.
    """
    return text.translate(_letters).casefold().split()
