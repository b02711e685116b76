"""Where personal data and keys are in a text.

Each detector takes time in proportion to the text, whatever the text is: a run of characters is
begun only where it begins, is never given back (possessive), or is short.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Detector = Callable[[str], Iterator["Span"]]

Span = tuple[int, int]
"""From a character to before another."""

_LOCAL = r"\w.%+'~-"
_QUOTES: Final = ".%+'~-"
_MAIL = re.compile(rf"(?<![{_LOCAL}])[{_LOCAL}]++@(?=\w)")
_DOMAIN = re.compile(r"[\w.-]++")
_TOP: Final = re.compile(r"\.(?:xn--[\w-]{2,59}|[^\W\d_]{2,63})\Z")

_DIGITS = re.compile(r"\d(?:[ .\-\u00a0\u2009\u202f]?\d)*+")
_CARD_LENGTHS: Final = range(13, 20)
_CARD_BEGINS: Final = frozenset((2, 3, 4, 5, 6))
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_GAP = r"[ .()/\-\u00a0]{0,2}"
_PHONES: Final = (
    re.compile(rf"\+[1-9](?:{_GAP}\d){{6,14}}(?!\d)"),
    re.compile(rf"(?<!\d)00[1-9](?:{_GAP}\d){{6,14}}(?!\d)"),
    re.compile(r"(?<![\d+])(?:\(\d{3}\)|\d{3})[ .\-]{0,2}\d{3}[ .\-]\d{4}(?!\d)"),
    re.compile(r"(?<![\d.,+])0\d{1,5}[ /\-]\d{3,4}[ \-]?\d{3,5}(?!\d)"),
    re.compile(r"(?<![\d.,+])0\d(?: \d\d){4}(?!\d)"),
    re.compile(r"(?<![\d.,+])0\d{9,11}(?!\d)"),
)

_KEYS: Final = (
    re.compile(r"(?<![A-Za-z0-9])sk-[\w-]{16,}+"),
    re.compile(r"(?<![A-Za-z0-9])[rsp]k_(?:live|test)_[A-Za-z0-9]{10,}+"),
    re.compile(r"(?<![A-Za-z0-9])A(?:KIA|SIA)[0-9A-Z]{16}(?![0-9A-Z])"),
    re.compile(r"(?<![A-Za-z0-9])gh[oprsu]_[A-Za-z0-9]{30,}+"),
    re.compile(r"(?<![A-Za-z0-9])(?:github_pat|glpat|hf)[_-][\w-]{20,}+"),
    re.compile(r"(?<![A-Za-z0-9])xox[a-z]-[\w-]{10,}+"),
    re.compile(r"(?<![A-Za-z0-9])AIza[\w-]{35}"),
    re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]{8,}+"),
)
_NAMED_KEY = re.compile(
    r"(?:(?:api|access|auth|client|private|secret)[_-]?(?:key|token|secret)|passwo?r?d)"
    r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?([^\s\"',;]{8,}+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?<![A-Za-z0-9])bearer\s{1,3}([\w.~+/=-]{8,}+)", re.IGNORECASE)
_LONG_TOKEN: Final = 20
_BEGIN = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
_END = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY-----")


def find_mails(text: str) -> Iterator[Span]:
    """E-mail addresses; in quotes and in brackets too, but none without a top-level domain."""
    at = 0
    while (local := _MAIL.search(text, at)) is not None:
        domain = _DOMAIN.match(text, local.end())
        name = domain[0].rstrip(".-") if domain else ""
        if _TOP.search(name[-65:]):
            at = local.end() + len(name)
            quotes = len(local[0]) - len(local[0].lstrip(_QUOTES))
            yield local.start() + quotes, at
        else:
            at = local.end()


def find_cards(text: str) -> Iterator[Span]:
    """Numbers of payment cards: 13 to 19 digits, in groups or not, with the right check digit."""
    for run in _DIGITS.finditer(text):
        if run.end() - run.start() >= _CARD_LENGTHS.start:
            places = [at for at in range(run.start(), run.end()) if text[at].isdecimal()]
            yield from _cards_of([int(text[at]) for at in places], places)


def _cards_of(digits: list[int], places: list[int]) -> Iterator[Span]:
    """In a run of digits, those from the beginning of a group to the end of one."""
    # Sums up to each digit: at even places doubled as the check wants it, and at odd ones.
    sums = [
        [0, *accumulate(_DOUBLED[d] if at % 2 == odd else d for at, d in enumerate(digits))]
        for odd in (0, 1)
    ]
    count, first = len(digits), 0
    begins = [at == 0 or places[at] > places[at - 1] + 1 for at in range(count)]
    begins.append(True)
    starts = [at for at in range(count) if begins[at] and digits[at] in _CARD_BEGINS]
    for start in starts:
        if start < first:
            continue
        for length in reversed(_CARD_LENGTHS):
            end = start + length
            if end <= count and begins[end] and not _checked(sums[end % 2], start, end) % 10:
                yield places[start], places[end - 1] + 1
                first = end
                break


def _checked(sums: list[int], start: int, end: int) -> int:
    return sums[end] - sums[start]


def find_phones(text: str) -> Iterator[Span]:
    """Phone numbers: international ones, and the commoner ways to write national ones."""
    for pattern in _PHONES:
        for found in pattern.finditer(text):
            yield found.span()


def find_keys(text: str) -> Iterator[Span]:
    """API keys that are told by their form or by the name before them, and private keys."""
    for pattern in _KEYS:
        for found in pattern.finditer(text):
            yield found.span()
    for found in _NAMED_KEY.finditer(text):
        if _is_token(found[1]):
            yield found.span(1)
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        end = _END.search(text, begin.end())
        at = len(text) if end is None else end.end()  # one that is cut off goes to the end
        yield begin.start(), at


def find_bearers(text: str) -> Iterator[Span]:
    """What stands after "Bearer", if it may be a token: it is long, or has a digit."""
    for found in _BEARER.finditer(text):
        if _is_token(found[1]):
            yield found.span(1)


def _is_token(word: str) -> bool:
    """Words of a language are short and have no digits."""
    return len(word) >= _LONG_TOKEN or any(character.isdigit() for character in word)


DETECTORS: Final[dict[str, Detector]] = {
    "api_key": find_keys,
    "bearer": find_bearers,
    "email": find_mails,
    "card": find_cards,
    "phone": find_phones,
}
"""By kind. Where two overlap, the one that begins first is told, then the longer one."""
