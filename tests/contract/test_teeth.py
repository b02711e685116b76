"""The contract rejects what is wrong, and says what is wrong with it."""

from __future__ import annotations

import asyncio
from inspect import isabstract
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from langswarm.core.session import (
    ConfigurationError,
    InMemorySessionStorage,
    ISessionStorage,
    StorageError,
)
from langswarm.core.session.testing import FaultyStorage
from langswarm.core.session.testing.storage_contract import (
    CONTRACT,
    DURABILITY,
    ContractBrokenError,
    StorageCase,
    case,
    erasing,
    filters,
    metadata,
    past_turns,
    texts,
    usage,
)

from . import (
    wrong_claims,
    wrong_corners,
    wrong_details,
    wrong_erasures,
    wrong_finds,
    wrong_lists,
    wrong_storages,
    wrong_usage,
)
from .wrong_storages import AnswersInTheWrongOrder, RaisesForABadWrite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from langswarm.core.session.actors.model import SessionPage, SessionQuery, SessionWrite
    from langswarm.core.session.actors.ports import WriteOutcome
    from langswarm.core.session.testing import Backend

    Log = list[Callable[[InMemorySessionStorage], Awaitable[object]]]

MODULES = (
    wrong_storages,
    wrong_details,
    wrong_claims,
    wrong_corners,
    wrong_lists,
    wrong_finds,
    wrong_usage,
    wrong_erasures,
)
WRONG = [
    value
    for wrong in MODULES
    for name, value in vars(wrong).items()
    if isinstance(value, type)
    and issubclass(value, InMemorySessionStorage)
    and value.__module__ == wrong.__name__
    and not name.startswith("_")
    and not isabstract(value)
]

MEANT_FOR = {
    "wrong_lists": (filters.part, metadata.part, texts.part),
    "wrong_finds": (metadata.part, texts.part),
    "wrong_usage": (usage.part,),
    "wrong_erasures": (erasing.part, past_turns.part),
}


def cases_for(wrong: type[InMemorySessionStorage]) -> list[StorageCase]:
    """All cases; first those that are most likely to reject it, which saves most of the time."""
    module = wrong.__module__.rpartition(".")[2]
    first = [one for part in MEANT_FOR.get(module, ()) for one in part.cases]
    return first + [one for one in CONTRACT if one not in first]


def wrongs_for(one: StorageCase) -> list[type[InMemorySessionStorage]]:
    """All wrong storages, in such an order as well."""

    def is_meant(wrong: type[InMemorySessionStorage]) -> bool:
        parts = MEANT_FOR.get(wrong.__module__.rpartition(".")[2], ())
        return any(one in part.cases for part in parts)

    return sorted(WRONG, key=lambda wrong: not is_meant(wrong))


BY_NAME = {str(one): one for one in CONTRACT}


class Hanging(InMemorySessionStorage):
    async def read_back(self, session_ids: object) -> list[None]:
        await anyio.sleep_forever()
        return []


class NeverClosing(InMemorySessionStorage):
    async def close(self) -> None:
        await anyio.sleep_forever()


class ShieldsFromScopesAlone(InMemorySessionStorage):
    """`task.cancel()`, as at the end of `asyncio.run`, leaves a session without its messages."""

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        outcomes = await super().commit(writes)
        try:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.0003)
        except asyncio.CancelledError:
            for write in writes:
                del self._by_id[write.after.record.session_id].messages[-len(write.messages) :]
            raise
        return outcomes


class DoesWhatItLoggedWhenItIsNotCancelled(InMemorySessionStorage):
    """The log has a write that the state has not; what comes next contradicts the log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    async def open(self) -> None:
        await super().open()
        for step in self._log:
            await step(self)

    async def commit(self, writes: Sequence[SessionWrite]) -> Sequence[WriteOutcome]:
        batch = tuple(writes)
        self._log.append(lambda state: InMemorySessionStorage.commit(state, batch))
        await anyio.lowlevel.checkpoint()
        return await super().commit(batch)


def rejects(one: StorageCase, wrong: type[InMemorySessionStorage], backend: Backend) -> bool:
    try:
        one.check(wrong, backend=backend)
    except (ContractBrokenError, StorageError):
        return True
    return False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_wrong_storage_is_rejected(wrong: type[InMemorySessionStorage], backend: Backend) -> None:
    assert any(rejects(one, wrong, backend) for one in cases_for(wrong))


def test_a_storage_that_a_native_cancellation_cuts_is_rejected() -> None:
    assert rejects(
        BY_NAME["a_commit_cancelled_at_any_step_is_never_half_there"],
        ShieldsFromScopesAlone,
        "asyncio",
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_storage_whose_log_says_more_than_its_state_is_rejected(backend: Backend) -> None:
    name = "a_second_storage_finds_what_was_read_back_after_a_cancelled_commit"
    [one] = [one for one in DURABILITY if str(one) == name]
    log: Log = []
    with pytest.raises(ContractBrokenError):
        one.check(lambda: DoesWhatItLoggedWhenItIsNotCancelled(log), backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_right_storage_is_not(backend: Backend) -> None:
    assert not any(rejects(one, InMemorySessionStorage, backend) for one in CONTRACT)


class RefusesTexts(InMemorySessionStorage):
    """As one that keeps its texts encrypted."""

    searches_text = False

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        page = await super().list_sessions(query)
        if query.text is not None:
            raise ConfigurationError("this storage cannot search texts: they are encrypted")
        return page


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_storage_that_refuses_texts_is_a_right_one(wrapped: bool) -> None:
    def make() -> ISessionStorage:
        return FaultyStorage(RefusesTexts()) if wrapped else RefusesTexts()

    for one in CONTRACT:
        one.check(make)


@pytest.mark.parametrize("one", CONTRACT, ids=str)
def test_every_case_rejects_a_wrong_storage(one: StorageCase) -> None:
    assert any(rejects(one, wrong, "asyncio") for wrong in wrongs_for(one))


@pytest.mark.parametrize("one", DURABILITY, ids=str)
def test_a_storage_that_forgets_with_its_object_is_not_durable(one: StorageCase) -> None:
    with pytest.raises(ContractBrokenError):
        one.check(InMemorySessionStorage)


def test_the_error_names_case_promise_expected_and_found() -> None:
    with pytest.raises(ContractBrokenError) as caught:
        BY_NAME["a_batch_has_its_outcomes_in_the_order_of_its_writes"].check(AnswersInTheWrongOrder)
    first, second, *rest = str(caught.value).splitlines()
    assert first.endswith("a batch has its outcomes in the order of its writes")
    assert second == (
        "promised by ISessionStorage.commit: Returns the outcomes in the order of the writes."
    )
    assert [line.split()[0] for line in rest] == ["wrong:", "expected:", "found:"]
    assert "Committed(key=1)" in rest[1]
    assert max(map(len, rest)) < 1000


def test_an_error_of_the_storage_itself_comes_out_with_a_note() -> None:
    with pytest.raises(StorageError) as caught:
        BY_NAME["a_failed_write_leaves_nothing_of_itself"].check(RaisesForABadWrite)
    [note] = caught.value.__notes__
    assert "a failed write leaves nothing of itself" in note


class FailsToClose(AnswersInTheWrongOrder):
    async def close(self) -> None:
        raise RuntimeError("cannot close")


class FailsToCloseToo(RaisesForABadWrite):
    async def close(self) -> None:
        raise RuntimeError("cannot close")


def test_a_close_that_fails_does_not_hide_the_broken_promise() -> None:
    with pytest.raises(ContractBrokenError, match="outcomes in the order") as broken:
        BY_NAME["a_batch_has_its_outcomes_in_the_order_of_its_writes"].check(FailsToClose)
    assert "cannot close" in str(broken.value)
    with pytest.raises(StorageError) as caught:
        BY_NAME["a_failed_write_leaves_nothing_of_itself"].check(FailsToCloseToo)
    assert "cannot close" in " ".join(caught.value.__notes__)
    with pytest.raises(RuntimeError, match="cannot close"):
        BY_NAME["loading_nothing_finds_nothing"].check(FailsToClose)


def test_a_make_that_makes_nothing_is_named() -> None:
    nothing: Callable[[], Any] = lambda: None  # noqa: E731 - as it is forgotten
    with pytest.raises(TypeError, match=r"make\(\) must return a new storage"):
        BY_NAME["loading_nothing_finds_nothing"].check(nothing)


def test_a_close_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "_CLOSE_SECONDS", 0.05)
    with pytest.raises(ContractBrokenError, match=r"close\(\) returns"):
        BY_NAME["loading_nothing_finds_nothing"].check(NeverClosing)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_never_ends_is_given_up(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case, "_CASE_SECONDS", 0.05)
    with pytest.raises(ContractBrokenError, match="all calls return"):
        BY_NAME["reading_back_answers_as_loading_does"].check(Hanging, backend=backend)


def test_all_storages_that_a_case_made_are_closed() -> None:
    made: list[InMemorySessionStorage] = []

    def make() -> InMemorySessionStorage:
        made.append(AnswersInTheWrongOrder())
        return made[-1]

    for one in CONTRACT:
        try:
            one.check(make)
        except ContractBrokenError:
            continue
    assert made
    assert not [storage for storage in made if storage.statistics().is_open]
