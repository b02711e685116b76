"""What programs keep with a session or a message as JSON, and find it by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langswarm.core.session.actors.model import MessageQuery, SessionDocuments
from langswarm.core.session.testing.storage_contract import promises
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    commit,
    contents,
    create,
    listed,
    message,
)
from langswarm.core.session.testing.storage_contract.case import Part, expect_equal

if TYPE_CHECKING:
    from langswarm.core.session.actors.model import StoredSession
    from langswarm.core.session.actors.ports import ISessionStorage

part = Part()

KEYS = (
    "plain",
    "Plain",
    "",
    " ",
    "a.b",
    "a",
    "$",
    "$.a",
    "$[0]",
    "[0]",
    "0",
    '"',
    '"a"',
    "'",
    "\\",
    "\\u0041",
    "\0",
    "a\0b",
    "%",
    "*",
    "?",
    "#-1",
    "\N{OWL}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "'; DROP TABLE sessions; --",
)
"""Of which none may stand for another, nor for a path into a value."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**70,
    0.1,
    1e300,
    "",
    "0",
    "1",
    "true",
    "null",
    "A",
    "a",
    "a ",
    "\0",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    [],
    {},
    [1],
    [True],
    ["1"],
    [1, 2],
    [2, 1],
    [[]],
    {"a": 1},
    {"a": True},
    {"a": "1"},
    {"a": None},
    {"a": 1, "b": [{"c": 0.5}]},
    {"a": 1, "b": [{"c": 0.25}]},
    {"b": 1},
)
"""Of which none is another."""


async def _with(storage: ISessionStorage, session_id: str, metadata: object) -> StoredSession:
    """A session with this metadata, and other config beside it."""
    stored = await create(storage, session_id)
    config = json.dumps({"name": "x", "k": 1, "tags": ["k"], "metadata": metadata})
    documents = SessionDocuments(config=config, context='{"metadata": {"k": 1}}')
    return await commit(storage, change(stored, documents=documents, documents_changed=True))


def _asked(**wanted: Any) -> tuple[tuple[str, str], ...]:
    return tuple((key, json.dumps(value)) for key, value in wanted.items())


@part.opened(promises.CONFIG_METADATA)
async def sessions_are_found_by_every_key_of_their_metadata(storage: ISessionStorage) -> None:
    for number, key in enumerate(KEYS):
        await _with(storage, f"s{number}", {key: "here", "nested": {key: "there"}})
    for number, key in enumerate(KEYS):
        for value, expected in (("here", [f"s{number}"]), ("there", [])):
            asked = _asked(**{key: value})
            expect_equal(f"the list for {asked}", await listed(storage, metadata=asked), expected)


@part.opened(promises.CONFIG_METADATA)
async def sessions_are_found_by_every_value_of_their_metadata(storage: ISessionStorage) -> None:
    """True is not 1, 1 is not "1", null is not nothing; arrays and objects are equal in depth."""
    await _with(storage, "nothing", {})
    for number, value in enumerate(VALUES):
        await _with(storage, f"s{number}", {"k": value})
    for number, value in enumerate(VALUES):
        asked = _asked(k=value)
        expect_equal(f"for {asked}", await listed(storage, metadata=asked), [f"s{number}"])


@part.opened(promises.CONFIG_METADATA)
async def metadata_is_found_however_its_json_is_written(storage: ISessionStorage) -> None:
    """1.0 is 1; the order of keys, white space and escapes say nothing."""
    await _with(storage, "s", {"k": 1, "o": {"b": [1, 2], "a": "\N{OWL}"}, "f": 2.0, "e": 1e2})
    for key, text in (
        ("k", "1.0"),
        ("k", " 1 "),
        ("k", "1e0"),
        ("f", "2"),
        ("e", "100"),
        ("o", '{"a": "\N{OWL}", "b": [1, 2.0]}'),
        ("o", '{"\\u0061":"\\ud83e\\udd89","b":[1,2]}'),
    ):
        found = await listed(storage, metadata=((key, text),))
        expect_equal(f"the list for {key!r} of {text}", found, ["s"])


@part.opened(promises.CONFIG_METADATA)
async def sessions_are_found_by_several_values_only_if_all_are_theirs(
    storage: ISessionStorage,
) -> None:
    await _with(storage, "both", {"a": 1, "b": 2, "c": 3})
    await _with(storage, "one", {"a": 1, "b": 3})
    for wanted, expected in (
        ({"a": 1}, ["one", "both"]),
        ({"a": 1, "b": 2}, ["both"]),
        ({"b": 2, "a": 1}, ["both"]),
        ({"a": 1, "b": 9}, []),
        ({"a": 1, "d": None}, []),
        ({"name": "x"}, []),
        ({"k": 1}, []),
    ):
        asked = _asked(**wanted)
        expect_equal(f"the list for {asked}", await listed(storage, metadata=asked), expected)


@part.opened(promises.CONFIG_METADATA)
async def sessions_without_metadata_are_not_found_by_it(storage: ISessionStorage) -> None:
    await create(storage, "none")
    for number, odd in enumerate((None, [], ["k"], "k", 1, True)):
        await _with(storage, f"odd{number}", odd)
    await _with(storage, "s", {"k": 1})
    expect_equal("the list", await listed(storage, metadata=_asked(k=1)), ["s"])
    expect_equal("the list for null", await listed(storage, metadata=_asked(k=None)), [])


@part.opened(promises.CONFIG_METADATA)
async def a_list_knows_the_last_metadata_of_a_session(storage: ISessionStorage) -> None:
    stored = await _with(storage, "s", {"k": 1})
    other = SessionDocuments(config='{"metadata": {"k": 2}}')
    stored = await commit(storage, change(stored, documents=other))
    expect_equal("after a silent write", await listed(storage, metadata=_asked(k=1)), ["s"])
    await commit(storage, change(stored, documents=other, documents_changed=True))
    expect_equal("what was", await listed(storage, metadata=_asked(k=1)), [])
    expect_equal("what is", await listed(storage, metadata=_asked(k=2)), ["s"])


# ---------------------------------------------------------------- of messages


@part.opened(promises.OF_METADATA)
async def messages_are_found_by_every_key_of_their_metadata(storage: ISessionStorage) -> None:
    messages = [
        message(seq, metadata=json.dumps({key: "here", "nested": {key: "there"}}))
        for seq, key in enumerate(KEYS, 1)
    ]
    stored = await commit(storage, change(await create(storage), *messages))
    for seq, key in enumerate(KEYS, 1):
        for value, expected in (("here", [f"text {seq}"]), ("there", [])):
            query = MessageQuery(metadata=_asked(**{key: value}))
            found = await contents(storage, stored.record.key, query)
            expect_equal(f"the messages for {query.metadata}", found, expected)


@part.opened(promises.OF_METADATA)
async def messages_are_found_by_every_value_of_their_metadata(storage: ISessionStorage) -> None:
    messages = [
        message(seq, metadata=json.dumps({"k": value})) for seq, value in enumerate(VALUES, 1)
    ]
    stored = await commit(storage, change(await create(storage), *messages))
    for seq, value in enumerate(VALUES, 1):
        query = MessageQuery(metadata=_asked(k=value))
        found = await contents(storage, stored.record.key, query)
        expect_equal(f"the messages for {query.metadata}", found, [f"text {seq}"])


@part.opened(promises.OF_METADATA)
async def messages_of_some_metadata_are_the_newest_within_a_limit(
    storage: ISessionStorage,
) -> None:
    """Beside every other condition, however few of the newest messages match."""
    messages = [
        message(seq, str(seq), metadata='{"k": 1, "odd": true}' if seq % 10 == 1 else '{"k": 1}')
        for seq in range(1, 101)
    ]
    stored = await commit(storage, change(await create(storage), *messages))
    stored = await commit(storage, change(stored, hides=((81, 91, 7),)))
    odd = _asked(odd=True)
    for query, expected in (
        (MessageQuery(metadata=odd, limit=2), "61 71"),
        (MessageQuery(metadata=odd, limit=3, include_hidden=True), "71 81 91"),
        (MessageQuery(metadata=odd, after_seq=1, before_seq=41), "11 21 31"),
        (MessageQuery(metadata=odd, after_seq=1, before_seq=41, limit=1), "31"),
        (MessageQuery(metadata=odd, for_prompt=True, limit=1), "71"),
        (MessageQuery(metadata=_asked(k=1, odd=True), limit=1), "71"),
        (MessageQuery(metadata=_asked(k=2), limit=1), ""),
        (MessageQuery(metadata=_asked(k=1), limit=2), "99 100"),
        (MessageQuery(metadata=odd, limit=0), ""),
    ):
        found = " ".join(await contents(storage, stored.record.key, query))
        expect_equal(f"the messages for {query}", found, expected)
