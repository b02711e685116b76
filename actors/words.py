"""What a search for text looks for: words, however they are written."""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 32
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, in lower case, without accents.

    It is what SQLite's FTS5 does with `unicode61 remove_diacritics 2`, so that a search finds the
    same whoever does it. Languages that put no spaces between words are one word a run.
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return _WORD.findall(bare)
