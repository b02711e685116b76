"""Records of an SQLite file that are encrypted: what is told by the file, and what is noticed."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from langswarm.core.session import create_session_manager
from langswarm.core.session.actors.model import (
    EMPTY_JSON,
    MessageQuery,
    Role,
    SessionDocuments,
    SessionQuery,
    SessionStatus,
    TurnState,
)
from langswarm.core.session.adapters.storage.encryption import keys
from langswarm.core.session.adapters.storage.sqlite import SQLiteSessionStorage
from langswarm.core.session.errors import ConfigurationError, ProviderError, StorageError
from langswarm.core.session.providers import fault
from langswarm.core.session.testing.storage_contract.builders import (
    change,
    claim,
    close_turn,
    commit,
    contents,
    create,
    listed,
    load_one,
    message,
    open_turn,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
THIRD = bytes(range(64, 96))
CANARY = "Kanarienvogel"
FULL = SessionDocuments(
    config='{"name": "x"}',
    provider_config='{"p": 1}',
    provider_settings='{"s": 1}',
    context='{"c": 1}',
    context_version=1,
)


def sealed(path: Path, **options: Any) -> SQLiteSessionStorage:
    options.setdefault("encryption_keys", {"a": KEY})
    return SQLiteSessionStorage(path, pool_timeout=0, synchronous="OFF", **options)


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SQLiteSessionStorage]:
    storage = sealed(path)
    await storage.open()
    yield storage
    await storage.close()


def places_of(canary: str, path: Path) -> dict[str, int]:
    """In which files beside the database the text is, however it is written there."""
    found: dict[str, int] = {}
    for file in path.parent.rglob("*"):
        if file.is_file():
            data = file.read_bytes().lower()
            count = data.count(canary.lower().encode()) + data.count(
                canary.lower().encode("utf-16")
            )
            if count:
                found[file.name] = count
    return found


def change_file(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """As somebody who can write the closed file, and has no key."""
    connection = sqlite3.connect(path)
    with connection:
        for text, values in statements:
            connection.execute(text, values)
    connection.close()


def row_of(path: Path, text: str, *values: object) -> tuple[Any, ...]:
    connection = sqlite3.connect(path)
    row: tuple[Any, ...] = connection.execute(text, values).fetchone()
    connection.close()
    return row


async def refused(path: Path, **options: Any) -> StorageError:
    """What opening the file raises."""
    storage = sealed(path, **options)
    with pytest.raises(StorageError) as caught:
        await storage.open()
    await storage.close()
    return caught.value


# ---------------------------------------------------------------- what the file tells


USER = "ann-of-the-conversation"
"""Long: three letters can be found among random bytes."""


async def converse(path: Path, canary: str, **options: Any) -> None:
    """All that a manager stores, with the canary in each of its contents."""
    config = {"db_path": path, **options}
    async with create_session_manager("sqlite", storage_config=config) as manager:
        session = await manager.create_session(
            USER,
            "mock",
            "mock-model",
            provider_config={"response_pattern": f"{canary}: {{input}}"},
            session_config={
                "name": canary,
                "description": canary,
                "tags": [canary, "other"],
                "metadata": {canary: canary},
            },
        )
        await session.send_message(canary, metadata={canary: 1}, idempotency_key="k")
        await session.send_message(canary * 3000)
        await session.update_context({canary: canary})
        await session.send_system_message(canary)
        script = {"id": 1, "items": [fault("overloaded", canary, after_chunks=1)]}
        failing = await manager.create_session(
            USER, "mock", "m", provider_config={"script": script}
        )
        with pytest.raises(ProviderError):
            await failing.send_message(canary)
        found = await manager.search_sessions(tags=[canary], metadata={canary: canary})
        assert [one.session_id for one in found] == [session.session_id]
        if not options.get("encryption_keys"):
            assert await manager.search_sessions(text=canary)


async def test_no_content_is_legible_in_any_file(path: Path) -> None:
    await converse(path, CANARY, encryption_keys={"a": KEY}, backup_enabled=True)
    assert places_of(CANARY, path) == {}


async def test_no_content_is_legible_while_the_file_is_open_nor_in_a_backup(path: Path) -> None:
    config = {"db_path": path, "encryption_keys": {"a": KEY}}
    async with create_session_manager("sqlite", storage_config=config) as manager:
        session = await manager.create_session("ann", "mock", "m", session_config={"name": CANARY})
        await session.send_message(CANARY)
        await manager.backup(path.with_name("copy.db"))
        assert places_of(CANARY, path) == {}
        await session.clear_messages()
        await session.delete()
        assert await manager.cleanup_deleted_sessions(0) == 1
        assert places_of(CANARY, path) == {}
    async with create_session_manager(sealed(path.with_name("copy.db"))) as manager:
        again = await manager.get_session(session.session_id)
        assert next(one.content for one in await again.get_messages()) == CANARY


async def test_without_keys_it_would_be_legible(path: Path) -> None:
    await converse(path, CANARY)
    assert places_of(CANARY, path)


async def test_no_hash_tells_what_was_sent_under_an_idempotency_key(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    stored = await create(storage)
    turn = open_turn(stored, idempotency_key="k", payload_hash=b"hash of a text")
    stored = await commit(storage, attrs.evolve(turn, claim=claim(payload_hash=b"hash of a text")))
    found = await storage.find_claim("s", "send_message", "k")
    assert found is not None
    assert found.payload_hash == b"hash of a text"
    assert stored.open_turn is not None
    assert stored.open_turn.payload_hash == b"hash of a text"
    await storage.close()
    assert places_of("hash of a text", path) == {}


async def test_what_stays_plain_is_what_the_documentation_lists(
    storage: SQLiteSessionStorage, path: Path
) -> None:
    stored = await commit(
        storage, change(await create(storage), documents=FULL, documents_changed=True)
    )
    stored = await commit(storage, open_turn(stored, partial_text="x", error_text="y"))
    full = message(2, "x", metadata='{"a": 1}', provider_metadata='{"b": 1}')
    await commit(storage, close_turn(stored))
    await commit(storage, change(await load_one(storage, "s"), attrs.evolve(full, seq=3)))
    await storage.close()
    expected = {
        "messages": {"content", "metadata", "provider_metadata"},
        "turns": {"partial_text", "error_text"},
        "session_documents": {"config", "provider_config", "provider_settings", "context"},
    }
    for table, columns in expected.items():
        connection = sqlite3.connect(path)
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1 DESC")
        row = dict(zip([one[0] for one in cursor.description], cursor.fetchone(), strict=True))
        connection.close()
        assert {name for name, value in row.items() if isinstance(value, bytes)} == columns
        assert (row["codec"], row["key_id"]) == (1, "a")


# ---------------------------------------------------------------- what is noticed


async def two_sessions(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    for name in ("one", "two"):
        stored = await create(storage, name, user_id=f"user of {name}")
        rich = message(2, "second", metadata='{"a": 1}', provider_metadata='{"a": 1}')
        stored = await commit(storage, change(stored, message(1, "first"), rich))
        stored = await commit(storage, change(stored, documents=FULL, documents_changed=True))
        await commit(storage, open_turn(stored, partial_text="p", error_text="e"))
    await storage.close()


TWO = 2 << 32
ONE = 1 << 32
_SWAP = "UPDATE {0} SET {1} = (SELECT {2} FROM {0} WHERE {3} = ?) WHERE {3} = ?"


def put(table: str, field: str, source: str, at: int, to: int) -> tuple[str, tuple[object, ...]]:
    key = "session_key" if table == "session_documents" else "id"
    return _SWAP.format(table, field, source, key), (at, to)


TAMPERED: dict[str, tuple[str, tuple[object, ...]]] = {
    "a message of another session": put("messages", "content", "content", TWO | 1, ONE | 1),
    "another message of the session": put("messages", "content", "content", ONE | 2, ONE | 1),
    "another field of the message": put(
        "messages", "metadata", "provider_metadata", ONE | 2, ONE | 2
    ),
    "a field that is gone": ("UPDATE messages SET metadata = NULL WHERE id = ?", (ONE | 2,)),
    "a cut field": (
        "UPDATE messages SET content = substr(content, 1, 30) WHERE id = ?",
        (ONE | 1,),
    ),
    "an empty field": ("UPDATE messages SET content = x'' WHERE id = ?", (ONE | 1,)),
    "a text in its place": ("UPDATE messages SET content = 'mine' WHERE id = ?", (ONE | 1,)),
    "another author": ("UPDATE messages SET role = 'system' WHERE id = ?", (ONE | 1,)),
    "another time": ("UPDATE messages SET created_us = 1 WHERE id = ?", (ONE | 1,)),
    "another turn": ("UPDATE messages SET turn_no = 9 WHERE id = ?", (ONE | 1,)),
    "another place": ("UPDATE messages SET id = ? WHERE id = ?", (ONE | 9, ONE | 1)),
    "another id": ("UPDATE messages SET message_id = 'x' WHERE id = ?", (ONE | 1,)),
    "a plain message": ("UPDATE messages SET content = 'mine', codec = 0 WHERE id = ?", (ONE | 1,)),
    "plain documents": (
        """
        UPDATE session_documents SET codec = 0, config = NULL, context = NULL,
        provider_config = NULL, provider_settings = NULL WHERE session_key = ?
        """,
        (1,),
    ),
    "a plain turn": (
        "UPDATE turns SET partial_text = 'mine', error_text = NULL, codec = 0 WHERE id = ?",
        (ONE | 1,),
    ),
    "an unknown codec": ("UPDATE messages SET codec = 7 WHERE id = ?", (ONE | 1,)),
    "another user": ("UPDATE sessions SET user_id = 'mallory' WHERE key = ?", (1,)),
    "another name": ("UPDATE sessions SET id = 'mine' WHERE key = ?", (1,)),
    "documents of another session": put("session_documents", "config", "config", 2, 1),
    "another of the documents": put("session_documents", "config", "context", 1, 1),
    "documents of another revision": (
        "UPDATE session_documents SET revision = 1 WHERE session_key = ?",
        (1,),
    ),
    "another version of the context": (
        "UPDATE session_documents SET context_version = 9 WHERE session_key = ?",
        (1,),
    ),
    "no context": ("UPDATE session_documents SET context = NULL WHERE session_key = ?", (1,)),
    "a turn of another session": put("turns", "partial_text", "partial_text", TWO | 1, ONE | 1),
    "another field of the turn": put("turns", "partial_text", "error_text", ONE | 1, ONE | 1),
    "another question of the turn": ("UPDATE turns SET user_seq = 1 WHERE id = ?", (ONE | 1,)),
}


async def read_all(storage: SQLiteSessionStorage, name: str, key: int) -> list[str]:
    [stored] = await storage.load([name])
    assert stored is not None
    assert stored.open_turn is not None
    return list(await contents(storage, key))


@pytest.mark.parametrize("what", TAMPERED)
async def test_what_was_changed_by_somebody_without_a_key_is_noticed(path: Path, what: str) -> None:
    await two_sessions(path)
    text, values = TAMPERED[what]
    change_file(path, (text, values))
    storage = sealed(path)
    await storage.open()
    name = "mine" if what == "another name" else "one"
    with pytest.raises(StorageError) as caught:
        await read_all(storage, name, 1)
    assert caught.value.code == "corrupt"
    assert await read_all(storage, "two", 2) == ["first", "second", "text 3"]
    assert not (await storage.verify()).ok
    await storage.close()


async def test_an_older_state_of_a_field_is_noticed(path: Path) -> None:
    """As long as not all of its row is put back with it."""
    storage = sealed(path)
    await storage.open()
    stored = await create(storage)
    query = "SELECT config FROM session_documents"
    await storage.close()
    (before,) = row_of(path, query)
    await storage.open()
    documents = attrs.evolve(stored.documents, config='{"name": "new"}')
    await commit(storage, change(stored, documents=documents, documents_changed=True))
    await storage.close()
    change_file(path, ("UPDATE session_documents SET config = ?", (before,)))
    await storage.open()
    with pytest.raises(StorageError, match="config was changed or moved"):
        await storage.load(["s"])
    await storage.close()


@pytest.mark.parametrize("mark", ["none", "one without a key", "no keys at all"])
async def test_a_file_cannot_be_said_to_be_plain_by_somebody_without_a_key(
    path: Path, mark: str
) -> None:
    await two_sessions(path)
    change_file(path, TAMPERED["a plain message"], TAMPERED["plain documents"])
    if mark == "one without a key":
        change_file(path, ("INSERT INTO encryption_keys VALUES ('', x'00')", ()))
    if mark == "no keys at all":
        change_file(path, ("DELETE FROM encryption_keys", ()))
        error = await refused(path)
        assert (error.code, "forgotten with which keys" in str(error)) == ("corrupt", True)
        return
    storage = sealed(path)
    await storage.open()
    with pytest.raises(StorageError, match="not encrypted, in a file that has nothing plain"):
        await contents(storage, 1)
    assert (await storage.rotate_keys()).unreadable == 2
    with pytest.raises(StorageError, match="not encrypted, in a file that has nothing plain"):
        await storage.load(["one"])
    await storage.close()


async def test_a_claim_of_another_key_is_noticed(path: Path) -> None:
    storage = sealed(path)
    await storage.open()
    await commit(storage, change(await create(storage), claim=claim()))
    await storage.close()
    change_file(path, ("UPDATE claims SET key = 'other'", ()))
    await storage.open()
    with pytest.raises(StorageError, match="payload_hash was changed or moved"):
        await storage.find_claim("s", "send_message", "other")
    await storage.close()


async def test_verify_names_what_was_changed(path: Path) -> None:
    await two_sessions(path)
    for what in ("another author", "another user", "a turn of another session"):
        change_file(path, TAMPERED[what])
    storage = sealed(path)
    await storage.open()
    problems = "\n".join((await storage.verify()).problems)
    await storage.close()
    for row in ("session_documents: row 1", f"messages: row {ONE | 1}", f"turns: row {ONE | 1}"):
        assert f"{row} cannot be read: " in problems


# ---------------------------------------------------------------- wrong and missing keys


async def test_an_encrypted_file_does_not_open_without_a_key(path: Path) -> None:
    await two_sessions(path)
    for options in ({"encryption_keys": None}, {"encryption_keys": {"b": OTHER}}):
        error = await refused(path, **options)
        assert error.code == "key"
        assert "encrypted with the keys ['a']" in str(error)


async def test_another_key_under_the_same_id_is_told_at_once(path: Path) -> None:
    await two_sessions(path)
    error = await refused(path, encryption_keys={"a": OTHER})
    assert (error.code, "another key of the id 'a'" in str(error)) == ("key", True)


async def test_the_right_key_under_another_id_is_told_at_once(path: Path) -> None:
    await two_sessions(path)
    error = await refused(path, encryption_keys={"2026": KEY})
    assert (error.code, "knows the key '2026' as 'a'" in str(error)) == ("key", True)


async def test_sessions_of_a_missing_key_fail_alone_and_name_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await two_sessions(path)
    both = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await both.open()
    await create(both, "three")
    await both.close()
    storage = sealed(path, encryption_keys={"b": OTHER})
    await storage.open()
    assert "cannot be read: they are not given" in caplog.text
    for reading in (storage.load(["one"]), contents(storage, 1)):
        with pytest.raises(StorageError, match="the key 'a', which is not in encryption") as caught:
            await reading
        assert caught.value.code == "key"
    assert (await load_one(storage, "three")).record.session_id == "three"
    assert await storage.load_unfinished(9) == []
    assert await listed(storage) == ["three", "two", "one"]
    await storage.close()


async def test_a_start_goes_on_without_what_a_missing_key_hides(path: Path) -> None:
    await two_sessions(path)
    both = sealed(path, encryption_keys={"a": KEY, "b": OTHER})
    await both.open()
    await both.close()
    async with create_session_manager(sealed(path, encryption_keys={"b": OTHER})) as manager:
        with pytest.raises(StorageError) as caught:
            await manager.get_session("one")
        assert caught.value.code == "key"
        session = await manager.create_session("ann", "mock", "mock-model")
        assert (await session.send_message("Hello")).content == "Mock response to: Hello"


# ---------------------------------------------------------------- search


async def test_text_search_is_off_and_says_why(path: Path) -> None:
    config = {"db_path": path, "encryption_key": KEY}
    async with create_session_manager("sqlite", storage_config=config) as manager:
        await manager.create_session("ann", "mock", "m", session_config={"tags": ["ml"]})
        with pytest.raises(ConfigurationError, match="text search is off because encryption_keys"):
            await manager.search_sessions(text="hello")
        assert len(await manager.search_sessions(tags=["ml"])) == 1
        assert not await manager.search_sessions(tags=["mk"])


async def test_a_tag_is_found_whichever_key_it_was_stored_with(path: Path) -> None:
    made: list[str] = []
    for ring in (None, {"a": KEY}, {"a": KEY, "b": OTHER}, {"b": OTHER, "a": KEY}):
        config = {"db_path": path, "encryption_keys": ring}
        async with create_session_manager("sqlite", storage_config=config) as manager:
            wanted = {"tags": ["ml", f"t{len(made)}"], "metadata": {"n": len(made)}}
            session = await manager.create_session("ann", "mock", "m", session_config=wanted)
            made.append(session.session_id)
            found = [one.session_id for one in await manager.search_sessions(tags=["ml"])]
            assert found == made[::-1]
            for number, session_id in enumerate(made):
                (one,) = await manager.search_sessions(user_id="ann", tags=["ml", f"t{number}"])
                (other,) = await manager.search_sessions(user_id="ann", metadata={"n": number})
                assert (one.session_id, other.session_id) == (session_id, session_id)


async def test_a_list_leaves_out_what_cannot_be_read_where_it_must_be(path: Path) -> None:
    await two_sessions(path)
    change_file(path, TAMPERED["another of the documents"])
    storage = sealed(path)
    await storage.open()
    query = SessionQuery(limit=9, metadata=(("a", "1"),))
    assert (await storage.list_sessions(query)).records == ()
    assert await listed(storage) == ["two", "one"]
    assert await storage.read_messages(1, MessageQuery(metadata=(("a", "2"),))) == []
    assert [one.seq for one in await storage.read_messages(1, MessageQuery(metadata=(("a", "1"),)))]
    await storage.close()


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"encryption_key": KEY, "encryption_keys": {"a": KEY}}, "not both"),
        ({"encryption_key_id": "a"}, "goes with encryption_keys"),
        ({"encryption_keys": {"a": KEY}, "encryption_key_id": "b"}, "none of the ids"),
        ({"encryption_keys": "a"}, "ID=KEY"),
        ({"encryption_keys": "a=x a=y"}, "each id once"),
        ({"encryption_key": "short"}, "encryption_key"),
        ({"sqlcipher_key": "short"}, "sqlcipher_key"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    path: Path, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        SQLiteSessionStorage(path, **options)


async def test_keys_may_come_as_one_text(path: Path) -> None:
    import base64  # noqa: PLC0415 - used once

    first, second = (base64.b64encode(key).decode() for key in (KEY, OTHER))
    storage = sealed(path, encryption_keys=f"a={first} b={second}")
    await storage.open()
    await create(storage)
    assert storage.health().facts["encryption"] == "records with the key 'b'"
    await storage.close()


def test_without_cryptography_it_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "find_spec", {"cryptography": None}.get)
    with pytest.raises(ConfigurationError, match=r"pip install 'langswarm-session\[crypto\]'"):
        sealed(path)


async def test_keys_show_in_no_report(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    config = {"db_path": path, "encryption_key": KEY}
    async with create_session_manager("sqlite", storage_config=config) as manager:
        session = await manager.create_session("ann", "mock", "mock-model")
        await session.send_message("Hello")
        health = await manager.health()
        shown = [repr(health), json.dumps(attrs.asdict(health), default=repr), repr(manager)]
    storage = sealed(path)
    with pytest.raises(StorageError) as caught:
        await storage.open()
    shown += [repr(storage), repr(storage._ring), repr(vars(storage)), str(caught.value)]
    shown += [caplog.text]
    for text in shown:
        for form in (KEY.hex(), repr(KEY)[2:20], "AAECAwQFBgcICQoLDA0ODw"):
            assert form not in text


async def test_memory_and_plain_files_have_no_keys_to_rotate(path: Path) -> None:
    for storage in ("memory", SQLiteSessionStorage(path)):
        async with create_session_manager(storage) as manager:
            with pytest.raises(ConfigurationError):
                await manager.rotate_encryption_keys()


def test_the_test_knows_all_states() -> None:
    """A turn, a role or a status that is added must be looked at here."""
    assert (len(TurnState), len(Role), len(SessionStatus)) == (4, 3, 4)
    assert SessionDocuments().config == EMPTY_JSON
