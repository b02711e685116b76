"""Values that are easily lost or changed on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langswarm.core.session.actors.model import (
    Committed,
    Counters,
    MessageQuery,
    SessionDocuments,
)
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    ALL,
    change,
    commit,
    contents,
    create,
    listed,
    load_one,
    message,
    new,
    open_turn,
)
from langswarm.core.session.testing.storage_contract.case import (
    Part,
    expect,
    expect_committed,
    expect_equal,
    expect_failed,
)

if TYPE_CHECKING:
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()

_LARGEST = 2**63 - 1

TEXTS = (
    "",
    " ",
    "\0",
    "before\0behind",
    "\N{OWL}\N{ZERO WIDTH JOINER}\N{VARIATION SELECTOR-16}",
    "a\rb\nc\r\nd\n",
    "\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}\x85\x1c\x0b\x0c",
    "\N{LATIN SMALL LETTER E WITH ACUTE} e\N{COMBINING ACUTE ACCENT}",
    "\N{HEBREW LETTER ALEF}\N{RIGHT-TO-LEFT OVERRIDE}x",
    "\ufeff\ufffe\uffff\N{REPLACEMENT CHARACTER}",
    "'; DROP TABLE sessions; --",
    '{"json": "\\u0000"}\\',
    "%s {0} $x `y` \\n",
    "NULL",
    "0",
)
_IDS = (
    "id",
    "Id",
    "ID",
    "id ",
    " id",
    "id\0",
    "id\n",
    "id/../id",
    "../id",
    "id%",
    "i_",
    "i*",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER SHARP S}",
    "ss",
    "1",
    "01",
    "1.0",
    "con",
    "'",
    '"',
    "x" * 500,
)


@part.opened(promises.AS_GIVEN)
async def every_text_comes_back_to_the_character(storage: ISessionStorage) -> None:
    messages = [
        message(
            seq,
            text,
            message_id=f"{seq}{text}",
            provider_message_id=text,
            finish_reason=text,
        )
        for seq, text in enumerate(TEXTS, 1)
    ]
    stored = await commit(storage, change(await create(storage), *messages))
    found = list(await storage.read_messages(stored.record.key, ALL))
    for one, expected in zip(found, messages, strict=False):
        expect_equal("a message", one, expected)
    expect_equal("the number of messages", len(found), len(messages))
    for seq, text in enumerate(TEXTS, 1):
        query = MessageQuery(message_id=f"{seq}{text}")
        [by_id] = await storage.read_messages(stored.record.key, query)
        expect_equal("the message of this id", by_id, messages[seq - 1])


@part.opened(promises.AS_GIVEN)
async def every_text_of_a_session_and_its_turn_comes_back(storage: ISessionStorage) -> None:
    for number, text in enumerate(TEXTS):
        stored = await create(storage, f"s{number}", provider_session_id=text, model=text)
        write = open_turn(stored, partial_text=text, idempotency_key=text, error_text=text)
        after = await commit(storage, write)
        expect_equal("the record", after.record, write.after.record)
        expect_equal("the open turn", after.open_turn, write.turn)


@part.opened(promises.AS_GIVEN)
async def ids_differ_by_every_character(storage: ISessionStorage) -> None:
    """Case, blanks, wildcards, composed and decomposed letters: each is another session."""
    await create(storage, "Known")
    found = list(await storage.load(["known", "Known ", "Known\0"]))
    expect_equal("sessions that are almost named so", found, [None, None, None])
    outcomes = list(await storage.commit([new(name, user_id=name) for name in _IDS]))
    for outcome in outcomes:
        expect_committed("the creation of a session of another id", outcome)
    loaded = await storage.load(_IDS)
    names = [None if stored is None else stored.record.session_id for stored in loaded]
    expect_equal("the sessions", names, list(_IDS))
    for name in _IDS:
        sessions = await listed(storage, user_id=name)
        expect_equal(f"the sessions of the user {name!r}", sessions, [name])


@part.opened(promises.AS_GIVEN)
async def the_largest_integers_come_back(storage: ISessionStorage) -> None:
    counters = Counters(input_tokens=_LARGEST, output_tokens=_LARGEST - 1, response_us=_LARGEST)
    stored = await create(storage, counters=counters, updated_us=_LARGEST)
    expect_equal("the counters", stored.record.counters, counters)
    expect_equal("the time of the last commit", stored.record.updated_us, _LARGEST)
    large = message(1, token_count=_LARGEST, created_us=_LARGEST)
    old = message(2, created_us=-1)
    await commit(storage, change(stored, large, old))
    found = list(await storage.read_messages(stored.record.key, ALL))
    expect_equal("the messages", found, [large, old])
    query = MessageQuery(since_us=_LARGEST)
    expect_equal("since then", await contents(storage, stored.record.key, query), ["text 1"])


@part.opened(promises.AS_GIVEN)
async def a_history_goes_on_beyond_two_thousand_million(storage: ISessionStorage) -> None:
    """A seq and the number of a turn have 32 bits."""
    seqs = (2**31 - 1, 2**31, 2**32 - 1)
    stored = await create(storage)
    for seq in seqs:
        written = message(seq, str(seq), turn_no=seq)
        stored = await commit(storage, change(stored, written))
    key = stored.record.key
    expect_equal("last_seq", stored.record.last_seq, seqs[-1])
    expect_equal("the messages", await contents(storage, key), [str(seq) for seq in seqs])
    query = MessageQuery(after_seq=seqs[0], before_seq=seqs[2], turn_no=seqs[1])
    expect_equal("the one between", await contents(storage, key, query), [str(seqs[1])])


@part.opened(promises.AS_GIVEN)
async def a_megabyte_comes_back(storage: ISessionStorage) -> None:
    text = "\N{OWL}x" * 200_000
    documents = SessionDocuments(context='{"a": "' + "y" * 1_000_000 + '"}', context_version=1)
    stored = await create(storage)
    write = change(stored, message(1, text), documents=documents, documents_changed=True)
    after = await commit(storage, write)
    expect_equal("the documents", after.documents, documents)
    expect_equal("the message", await contents(storage, after.record.key), [text])


@part.opened(promises.FAILS_ALONE)
async def a_value_that_cannot_be_stored_fails_alone_or_comes_back(
    storage: ISessionStorage,
) -> None:
    """A lone surrogate is no character; a storage may keep it or refuse that one write."""
    stored = await create(storage, "odd")
    write = change(stored, message(1, "lone \ud800"))
    odd, good = await storage.commit([write, new("good")])
    expect_committed("the good write beside it", good)
    await load_one(storage, "good")
    found = list(await storage.read_messages(stored.record.key, ALL))
    if isinstance(odd, Committed):
        expect_equal("the message", found, [write.messages[0]])
    else:
        expect_failed("a lone surrogate", odd)
        expect_equal("the messages of the failed write", found, [])
        expect_equal("the session", await load_one(storage, "odd"), stored)


@part.opened(promises.FAILS_ALONE)
async def a_value_of_a_wrong_type_does_not_harm_the_others(storage: ISessionStorage) -> None:
    """No runtime sends one; but a bug in one session must not take its neighbours down."""
    stored = await create(storage, "odd")
    wrong: Any = object()
    odd = change(stored, message(1, wrong))
    outcomes = list(await storage.commit([new("a"), odd, new("b")]))
    expect("three writes have three outcomes", len(outcomes) == 3, outcomes)
    expect_committed("the write before it", outcomes[0])
    expect_committed("the write behind it", outcomes[2])
    await load_one(storage, "a")
    await load_one(storage, "b")
