"""The contract rejects what is wrong, and says what is wrong with it."""

import anyio
import pytest
from langswarm.core.session import InMemorySessionStorage, StorageError
from langswarm.core.session.testing import Backend
from langswarm.core.session.testing.storage_contract import (
    CONTRACT,
    DURABILITY,
    ContractBrokenError,
    StorageCase,
    case,
)

from . import wrong_claims, wrong_details, wrong_storages
from .wrong_storages import AnswersInTheWrongOrder, RaisesForABadWrite

WRONG = [
    value
    for wrong in (wrong_storages, wrong_details, wrong_claims)
    for name, value in vars(wrong).items()
    if isinstance(value, type)
    and issubclass(value, InMemorySessionStorage)
    and value is not InMemorySessionStorage
    and not name.startswith("_")
]

BY_NAME = {str(one): one for one in CONTRACT}


class Hanging(InMemorySessionStorage):
    async def read_back(self, session_ids: object) -> list[None]:
        await anyio.sleep_forever()
        return []


class NeverClosing(InMemorySessionStorage):
    async def close(self) -> None:
        await anyio.sleep_forever()


def rejects(one: StorageCase, wrong: type[InMemorySessionStorage], backend: Backend) -> bool:
    try:
        one.check(wrong, backend=backend)
    except (ContractBrokenError, StorageError):
        return True
    return False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_wrong_storage_is_rejected(wrong: type[InMemorySessionStorage], backend: Backend) -> None:
    assert any(rejects(one, wrong, backend) for one in CONTRACT)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_right_storage_is_not(backend: Backend) -> None:
    assert not any(rejects(one, InMemorySessionStorage, backend) for one in CONTRACT)


@pytest.mark.parametrize("one", CONTRACT, ids=str)
def test_every_case_rejects_a_wrong_storage(one: StorageCase) -> None:
    assert any(rejects(one, wrong, "asyncio") for wrong in WRONG)


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
