"""Sessions found by what was said in them. A storage that cannot do that says so, in each case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from langswarm.core.session.actors.errors import ConfigurationError
from langswarm.core.session.actors.model import Role, SessionQuery, SessionStatus
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    close_turn,
    commit,
    create,
    listed,
    message,
    new,
    open_turn,
    say,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_committed,
    expect_equal,
    expect_failed,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()


def _searching(
    promise: str,
) -> Callable[[Callable[[ISessionStorage], Awaitable[None]]], None]:
    """A case for storages that search texts; of others it asks that they refuse to."""

    def add(program: Callable[[ISessionStorage], Awaitable[None]]) -> None:
        async def search_or_refuse(storage: ISessionStorage) -> None:
            if storage.searches_text:
                await program(storage)
            else:
                await _refuses(storage)

        search_or_refuse.__name__ = program.__name__
        part.opened(promise)(search_or_refuse)

    return add


async def _refuses(storage: ISessionStorage) -> None:
    await say(storage, "s", "words")
    for query in (SessionQuery(limit=1, text="words"), SessionQuery(limit=1, text="")):
        try:
            found: object = await storage.list_sessions(query)
        except ConfigurationError as error:
            expect("an error that says why", bool(str(error)), error)
        else:
            what = "ConfigurationError for a text, where searches_text is False"
            expect(what, holds=False, found=found)
    expect_equal("the list without a text", await listed(storage), ["s"])


async def _finds(storage: ISessionStorage, *wanted: tuple[str, Sequence[str]]) -> None:
    for text, expected in wanted:
        expect_equal(f"the list for {text!r}", await listed(storage, text=text), list(expected))


@_searching(promises.SEARCHES_TEXT)
async def a_storage_that_searches_texts_finds_one(storage: ISessionStorage) -> None:
    await say(storage, "s", "Some words")
    await say(storage, "t", "Others")
    await _finds(storage, ("words", ["s"]), ("others", ["t"]), ("nothing", []))


@_searching(promises.TEXT)
async def a_word_is_found_whatever_its_case_and_its_accents(storage: ISessionStorage) -> None:
    await say(storage, "latin", "Das CAF\N{LATIN CAPITAL LETTER E WITH ACUTE} in Zu\u0308rich")
    await say(storage, "sharp", "Stra\N{LATIN SMALL LETTER SHARP S}e")
    await say(storage, "greek", "\u0391\u03b8\u03ae\u03bd\u03b1")
    await say(storage, "cyrillic", "\u041c\u043e\u0441\u043a\u0432\u0430")
    await _finds(
        storage,
        ("cafe", ["latin"]),
        ("Caf\N{LATIN SMALL LETTER E WITH ACUTE}", ["latin"]),
        ("CAFE\N{COMBINING ACUTE ACCENT}", ["latin"]),
        ("Z\N{LATIN SMALL LETTER U WITH DIAERESIS}RICH", ["latin"]),
        ("zurich", ["latin"]),
        ("zuerich", []),
        ("STRASSE", ["sharp"]),
        ("stra\N{LATIN SMALL LETTER SHARP S}e", ["sharp"]),
        ("\u03b1\u03b8\u03b7\u03bd\u03b1", ["greek"]),
        ("\u0391\u0398\u0397\u039d\u0391", ["greek"]),
        ("\u043c\u041e\u0421\u043a\u0432\u0430", ["cyrillic"]),
    )


@_searching(promises.TEXT)
async def a_word_is_found_whole(storage: ISessionStorage) -> None:
    await say(storage, "s", "The chats, it's e-mail_2 in 3.14 of 100%")
    await _finds(
        storage,
        ("chats", ["s"]),
        ("chat", []),
        ("hats", []),
        ("chatss", []),
        ("the", ["s"]),
        ("it", ["s"]),
        ("it's", ["s"]),
        ("mail", ["s"]),
        ("e-mail", ["s"]),
        ("email", []),
        ("2", ["s"]),
        ("mail_2", ["s"]),
        ("3.14", ["s"]),
        ("314", []),
        ("100", ["s"]),
        ("10", []),
    )


@_searching(promises.TEXT)
async def a_word_ends_where_its_letters_end(storage: ISessionStorage) -> None:
    """At symbols of any age, and at every other sign; marks within a word are a part of it."""
    await say(storage, "emoji", "great\N{THINKING FACE}idea\N{SMILING FACE WITH SMILING EYES}")
    await say(storage, "quotes", "\N{LEFT DOUBLE QUOTATION MARK}said\N{EM DASH}so\u2026\u00a0yes")
    await say(storage, "nul", "before\0behind\N{LINE SEPARATOR}line")
    await say(storage, "hindi", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902")
    await say(storage, "chinese", "\u6f22\u5b57\u3002\u4eee\u540d")
    await _finds(
        storage,
        ("great", ["emoji"]),
        ("idea", ["emoji"]),
        ("said so yes", ["quotes"]),
        ("behind", ["nul"]),
        ("line before", ["nul"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["hindi"]),
        ("\u0939", []),
        ("\u6f22\u5b57", ["chinese"]),
        ("\u6f22", []),
    )


@_searching(promises.TEXT)
async def several_words_are_found_in_one_message_in_any_order(storage: ISessionStorage) -> None:
    await say(storage, "one", "alpha beta gamma")
    await say(storage, "two", "alpha", "beta gamma")
    await say(storage, "three", "gamma alpha, gamma", "beta")
    words = " ".join(f"w{number}" for number in range(32))
    await say(storage, "many", words)
    await _finds(
        storage,
        ("alpha", ["three", "two", "one"]),
        ("alpha beta", ["one"]),
        ("gamma alpha", ["three", "one"]),
        ("beta, gamma", ["two", "one"]),
        ("beta beta gamma beta", ["two", "one"]),
        ("alpha beta gamma delta", []),
        (words, ["many"]),
        (f"{words[:-3]} other", []),
    )


@_searching(promises.TEXT)
async def a_session_is_found_once_by_whatever_was_said_in_it(storage: ISessionStorage) -> None:
    """By anybody, in messages of failed turns as well."""
    said = [
        message(1, "question word", role=Role.USER),
        message(2, "answer word", role=Role.ASSISTANT),
        message(3, "rule word", role=Role.SYSTEM),
        message(4, "failed word", role=Role.USER),
    ]
    stored = await commit(storage, change(await create(storage), *said))
    await commit(storage, change(stored, marks=((4, "failed"),)))
    await say(storage, "gone", "word", status=SessionStatus.DELETED)
    every = (("question", ["s"]), ("answer", ["s"]), ("rule", ["s"]), ("failed", ["s"]))
    await _finds(storage, ("word", ["s"]), *every)
    found = await listed(storage, text="word", status=SessionStatus.DELETED)
    expect_equal("the deleted ones", found, ["gone"])


@_searching(promises.TEXT)
async def what_is_hidden_or_cleared_is_not_found(storage: ISessionStorage) -> None:
    texts = ("first common", "second common", "third common")
    stored = await say(storage, "s", *texts)
    await say(storage, "neighbour", *texts)
    hidden = message(4, "fourth", hidden_by=3)
    stored = await commit(storage, change(stored, hidden))
    stored = await commit(storage, change(stored, hides=((2, 2, 5),)))
    await _finds(
        storage,
        ("first", ["neighbour", "s"]),
        ("second", ["neighbour"]),
        ("fourth", []),
        ("common", ["neighbour", "s"]),
    )
    stored = await commit(storage, change(stored, message(5, "fifth"), clear_through_seq=2))
    await _finds(
        storage,
        ("first", ["neighbour"]),
        ("second", ["neighbour"]),
        ("third", ["neighbour", "s"]),
        ("fifth", ["s"]),
    )
    stored = await commit(storage, change(stored, clear_through_seq=5))
    await _finds(storage, ("fifth", []), ("common", ["neighbour"]))
    await commit(storage, change(stored, message(6, "second time")))
    await _finds(storage, ("second", ["neighbour", "s"]))


@_searching(promises.FOUND_AT_ONCE)
async def what_the_last_commit_said_is_found_at_once(storage: ISessionStorage) -> None:
    stored = await create(storage)
    for number in range(1, 41, 2):
        opened = await commit(storage, open_turn(stored, turn_no=number))
        await _finds(storage, (f"text {number}", ["s"]), (f"text {number + 1}", []))
        stored = await commit(storage, close_turn(opened))
        await _finds(storage, (f"text {number + 1}", ["s"]))
    await storage.commit([new(f"n{number}") for number in range(50)])
    await _finds(storage, ("text 40", ["s"]))


@_searching(promises.TEXT)
async def the_syntax_of_queries_is_text(storage: ISessionStorage) -> None:
    """No operator, no wildcard, no column: words are found where they were said."""
    await say(storage, "plain", "alpha beta")
    await say(storage, "said", "alpha or not beta and near content s'x")
    for text in (
        "alpha OR beta",
        "alpha NOT beta",
        "alpha AND beta",
        "NEAR(alpha beta)",
        '" OR NEAR( * - alpha',
        "content: alpha",
        "{content}: alpha",
        "alpha'; content",
    ):
        await _finds(storage, (text, ["said"]))
    for text in (
        '"alpha',
        '"alpha" "beta"',
        '""alpha""',
        "alpha*",
        "^alpha",
        "-alpha",
        "+alpha",
        "(alpha",
        "alpha)",
        "alpha + beta",
        "%alpha%",
        "alpha_",
        "alpha\\",
        "alpha;--",
        "alpha\0beta",
        "$alpha @beta ?",
        "alpha\nbeta",
    ):
        await _finds(storage, (text, ["said", "plain"]))
    await _finds(storage, ("alph*", []), ("al%", []), ("gamma OR alpha", []), ("a?pha", []))


@_searching(promises.NO_WORDS)
async def a_text_without_words_finds_nothing(storage: ISessionStorage) -> None:
    await say(storage, "s", "alpha", '"', "*", " ", "\N{OWL}")
    await create(storage, "silent")
    for text in ("", " ", '"', '""', "*", "- ( ) :", "_", "\N{OWL}", "\0", "\N{EM DASH}", "'"):
        await _finds(storage, (text, []))


@_searching(promises.FAILS_ALONE)
async def what_a_failed_write_said_is_not_found(storage: ISessionStorage) -> None:
    stored = await say(storage, "s", "stored")
    bad = change(stored, message(2, "refused"), message(1, "taken"), hides=((1, 1, 7),))
    creation = attrs.evolve(new("good", last_seq=1), messages=(message(1, "beside"),))
    [first, second] = await storage.commit([bad, creation])
    expect_failed("a message whose seq is taken", first)
    expect_committed("the good write beside it", second)
    stale = change(stored, message(2, "stale"), record={"epoch": 9})
    await storage.commit([stale])
    await _finds(
        storage,
        ("stored", ["s"]),
        ("refused", []),
        ("taken", []),
        ("stale", []),
        ("beside", ["good"]),
    )


@_searching(promises.TEXT)
async def words_of_a_long_message_are_found_to_its_end(storage: ISessionStorage) -> None:
    text = "beginning " + "filler, " * 100_000 + "ending"
    await say(storage, "long", text)
    await say(storage, "run", "x" * 200_000 + " behind")
    await _finds(storage, ("beginning ending", ["long"]), ("behind", ["run"]), ("x" * 200, []))


@_searching(promises.FOUND_AT_ONCE)
async def what_was_said_is_found_after_opening_again(storage: ISessionStorage) -> None:
    stored = await say(storage, "s", "kept", "hidden", "kept too")
    await commit(storage, change(stored, hides=((2, 2, 7),)))
    await storage.close()
    await storage.open()
    await _finds(storage, ("kept", ["s"]), ("hidden", []), ("too", ["s"]))
