"""Whatever is written, every storage answers as the one in memory does."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from langswarm.core.session.actors.model import (
    Conflict,
    MessageQuery,
    SessionDocuments,
    SessionQuery,
    SessionStatus,
    UsageQuery,
)
from langswarm.core.session.testing.storage_contract.builders import (
    START_US,
    change,
    message,
    new,
    usage,
    walk,
)

from .storages import ALL, on

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langswarm.core.session import ISessionStorage
    from langswarm.core.session.actors.model import SessionRecord, SessionWrite, StoredSession
    from langswarm.core.session.actors.ports import WriteOutcome

WORDS = ("alpha", "Beta", "gämma", "delta?", "e-f", "\N{THINKING FACE}", "стол", "OR", '"')
TAGS = ("a", "b", "A", "")
VALUES = (1, True, "1", None, [1], {"x": True}, 1.5)
USERS = ("ann", "bob", "Ann")
STATUSES = (None, None, *SessionStatus)


def texts(dice: Random) -> str:
    return " ".join(dice.choices(WORDS, k=dice.randint(1, 4)))


def metadata(dice: Random) -> dict[str, Any]:
    return {key: dice.choice(VALUES) for key in dice.sample(("k", "a.b", "$"), dice.randint(0, 2))}


def a_write(dice: Random, stored: StoredSession | None, name: str) -> SessionWrite:
    """A creation or a change; now and then one that cannot be stored, or an erasure."""
    used = usage(
        day=dice.randint(1, 4),
        user_id=dice.choice(USERS),
        model=dice.choice("xy"),
        sessions=dice.randint(1, 3),
    )
    last = stored.record.last_seq if stored else 0
    said = [
        message(
            last + number,
            texts(dice),
            metadata=json.dumps(metadata(dice)),
            hidden_by=int(dice.random() < 0.2),
        )
        for number in range(1, dice.randint(1, 4))
    ]
    if dice.random() < 0.1:
        said.append(message(max(last, 1), "taken"))
    fields: dict[str, Any] = {
        "status": dice.choice(list(SessionStatus)),
        "updated_us": START_US + dice.randint(0, 9),
        "model": dice.choice("xy"),
    }
    documents = SessionDocuments(config=json.dumps({"metadata": metadata(dice)}))
    if stored is None:
        write = new(name, user_id=dice.choice(USERS), last_seq=len(said), **fields)
        after = attrs.evolve(write.after, documents=documents)
        write = attrs.evolve(write, after=after, messages=tuple(said))
    else:
        write = change(stored, *said, record=fields, documents=documents)
        write = attrs.evolve(
            write,
            documents_changed=dice.random() < 0.5,
            clear_through_seq=dice.choice((0, 0, last // 2)),
            hides=dice.choice(((), ((1, last // 3, 7),))),
            erases=dice.random() < 0.15,
        )
    tags = dice.choice((None, tuple(dice.sample(TAGS, dice.randint(0, 3)))))
    return attrs.evolve(write, tags=tags, usage=dice.choice((None, used)))


def a_query(dice: Random) -> SessionQuery:
    conditions: dict[str, Any] = {
        "user_id": dice.choice((None, *USERS)),
        "status": dice.choice(STATUSES),
        "model": dice.choice((None, "x")),
        "tags": tuple(dice.sample(TAGS, dice.choice((0, 0, 1, 2)))),
        "metadata": tuple((key, json.dumps(value)) for key, value in metadata(dice).items()),
        "text": dice.choice((None, texts(dice))),
        "active_since_us": dice.choice((None, START_US + 3)),
        "idle_since_us": dice.choice((None, START_US + 7)),
    }
    chosen = dice.sample(list(conditions), dice.randint(0, 3))
    return SessionQuery(limit=dice.randint(1, 9), **{name: conditions[name] for name in chosen})


def keyed(record: SessionRecord, key: int = 0) -> SessionRecord:
    return attrs.evolve(record, key=key)


def told(outcomes: Sequence[WriteOutcome]) -> list[object]:
    """Without keys: each storage has its own, and may leave some out."""
    return [one if isinstance(one, Conflict) else type(one) for one in outcomes]


class Answers:
    """A storage, and what it says; the same questions for the same state of the dice."""

    def __init__(self, storage: ISessionStorage) -> None:
        self.storage = storage

    async def load(self, names: Sequence[str]) -> list[StoredSession | None]:
        found = await self.storage.load(names)
        return [one and attrs.evolve(one, record=keyed(one.record)) for one in found]

    async def commit(self, writes: Sequence[SessionWrite]) -> list[object]:
        loaded = await self.storage.load([one.after.record.session_id for one in writes])
        taken: list[SessionWrite] = []
        for write, stored in zip(writes, loaded, strict=True):
            record = keyed(write.after.record, stored.record.key if stored else 0)
            taken.append(attrs.evolve(write, after=attrs.evolve(write.after, record=record)))
        return told(await self.storage.commit(taken))

    async def ask(self, dice: Random, names: Sequence[str], *, by_text: bool) -> list[object]:
        found: list[object] = []
        for _ in range(20):
            query = a_query(dice)
            query = query if by_text else attrs.evolve(query, text=None)
            pages = await walk(self.storage, query)
            found.append((query, [keyed(one) for page in pages for one in page]))
        for stored in await self.storage.load(names[:4]):
            of = MessageQuery(
                limit=dice.choice((None, 2)),
                metadata=tuple((key, json.dumps(value)) for key, value in metadata(dice).items()),
                include_hidden=dice.random() < 0.3,
            )
            if stored is not None:
                found.append((of, list(await self.storage.read_messages(stored.record.key, of))))
        for user_id in (None, *USERS):
            days = UsageQuery(first_day=dice.randint(1, 3), last_day=4, user_id=user_id)
            found.append((days, await self.storage.read_usage(days)))
        return found


@pytest.mark.parametrize("kind", [kind for kind in ALL if not kind.endswith("memory")])
@pytest.mark.parametrize("seed", range(2))
async def test_every_storage_answers_as_the_one_in_memory(
    seed: int, kind: str, tmp_path: Path
) -> None:
    dice = Random(seed)
    plain, other = Answers(on(tmp_path, "memory")()), Answers(on(tmp_path / "sessions", kind)())
    await plain.storage.open()
    await other.storage.open()
    try:
        for _ in range(12):
            await one_round(dice, plain, other)
    finally:
        await other.storage.close()


async def one_round(dice: Random, plain: Answers, other: Answers) -> None:
    names = dice.sample([f"s{number}" for number in range(30)], 10)
    known = await plain.load(names)
    assert await other.load(names) == known
    writes = [a_write(dice, one, name) for one, name in zip(known, names, strict=True)]
    assert await other.commit(writes) == await plain.commit(writes)
    if dice.random() < 0.3:
        user_id = dice.choice(USERS)
        await plain.storage.erase_user(user_id)
        await other.storage.erase_user(user_id)
    if dice.random() < 0.2:
        await other.storage.close()
        await other.storage.open()
    by_text = other.storage.searches_text
    state = dice.getstate()
    expected = await plain.ask(dice, names, by_text=by_text)
    dice.setstate(state)
    found = await other.ask(dice, names, by_text=by_text)
    for one, wanted in zip(found, expected, strict=True):
        assert one == wanted
