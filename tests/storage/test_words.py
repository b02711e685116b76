"""Words are found whatever their case and their accents, by every storage the same."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from time import process_time
from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langswarm.core.session.actors import words
from langswarm.core.session.actors.words import words_of


def indexed(texts: list[str], tokenizer: str) -> list[list[str]]:
    """The words of each text, as FTS5 sees them."""
    found = [list[str]() for _ in texts]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE t USING fts5(text, tokenize='{tokenizer}')")
        connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, 'instance')")
        connection.executemany("INSERT INTO t(rowid, text) VALUES (?, ?)", enumerate(texts))
        rows = connection.execute("SELECT doc, term FROM v ORDER BY doc, offset")
        for row, term in rows:
            found[int(row)].append(str(term))
    return found


PLAIN = "".join(
    letter
    for letter in map(chr, [*range(0x20, 0x250), *range(0x386, 0x3CF), *range(0x400, 0x482)])
    # Not what is below in DIFFERENT, nor what stands for others: superscripts, ligatures.
    if indexed([f"a{letter}b"], "unicode61 remove_diacritics 2") == [words_of(f"a{letter}b")]
)
"""Letters of Latin with their accents, of Greek and Cyrillic without, and signs."""

DIFFERENT = {
    "Straße": "strasse",
    "ﬁx": "fix",
    "x²": "x2",
    "Ｆｕｌｌ": "full",
    "great\N{THINKING FACE}": "great",
    "soft\N{SOFT HYPHEN}ware": "software",
    "Αθήνα": "αθηνα",
    "ёлка": "елка",
    "שָׁלוֹם": "שלום",
}
"""Texts whose word FTS5's unicode61 does not find, and the word."""


@given(st.text(st.sampled_from(PLAIN)))
@example("Café-CRÈME, naïve: Ærø 3.14")
@example("ΑΘΗΝΑ Αθηνα Москва")
def test_letters_of_europe_are_words_as_fts5_sees_them(text: str) -> None:
    assert indexed([text], "unicode61 remove_diacritics 2") == [words_of(text)]


def test_the_comparison_has_most_letters_of_europe() -> None:
    assert len(PLAIN) > 600


@pytest.mark.parametrize(("text", "word"), DIFFERENT.items())
def test_differences_to_unicode61_are_in_favour_of_who_searches(text: str, word: str) -> None:
    assert words_of(text) == [word]
    assert indexed([text], "unicode61 remove_diacritics 2") != [[word]]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
@example(["great\N{THINKING FACE} Straße ½ №", "\0x", "हिन्दी", "한국어 テスト"])
def test_words_joined_by_blanks_are_the_words_of_an_index(texts: list[str]) -> None:
    """With the tokenizer `ascii`, for every text; so an index finds what a look at it finds."""
    joined = [" ".join(words_of(text)) for text in texts]
    assert indexed(joined, "ascii") == [words_of(text) for text in texts]


def test_words_of_words_are_themselves_for_every_character() -> None:
    """So a word can be put into an index, read back and asked for."""
    every = "".join(f"{chr(code)} " for code in range(sys.maxunicode + 1))
    once = words_of(every)
    assert words_of(" ".join(once)) == once


@given(st.text())
def test_case_and_composition_make_no_difference(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert words_of(normalize(form, text)) == words_of(text)
    assert words_of(text.lower()) == words_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n-_*\"'()", []),
        ("It's e-mail_2", ["it", "s", "e", "mail", "2"]),
        ("İstanbul ISTANBUL", ["istanbul", "istanbul"]),
        ("हिन्दी में", ["हिनदी", "में"]),
        ("漢字。仮名", ["漢字", "仮名"]),
        ("x\ud800y", ["x", "y"]),
    ],
)
def test_what_is_a_word(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_accents_that_follow_each_other_cost_no_more_than_letters() -> None:
    """Unicode sorts them, SQLite's writer waited for that for as long as the square of them."""
    began = process_time()
    assert words_of("a" + "\u0315\u0323" * 60_000 + "b") == ["ab"]
    assert process_time() - began < 5.0  # it takes 5 ms; sorted, half a minute


def test_what_is_remembered_of_characters_is_bounded() -> None:
    words_of("".join(map(chr, range(0x10000, 0x10000 + 2 * words._MAX_KNOWN))))  # pyright: ignore[reportPrivateUsage]
    assert len(words._letters) <= words._MAX_KNOWN  # pyright: ignore[reportPrivateUsage]
