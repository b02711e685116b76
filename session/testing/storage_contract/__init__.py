"""The contract of storages: what the runtime relies on, as cases that run on any storage.

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @pytest.mark.parametrize("case", CONTRACT + DURABILITY, ids=str)
    def test_my_storage(case: StorageCase, backend: Backend, tmp_path: Path) -> None:
        case.check(lambda: MyStorage(tmp_path / "sessions"), backend=backend)

`CONTRACT` is for every storage. `DURABILITY` is for those that keep sessions beyond the storage
object: there a second object on the same place must find what the first one stored. A storage whose
`searches_text` is False keeps both if it refuses a `SessionQuery.text` with ConfigurationError.
"""

from __future__ import annotations

from langswarm.core.session.testing.storage_contract import (
    batches,
    claims,
    durability,
    erasing,
    filters,
    hiding,
    lifetime,
    listing,
    metadata,
    past_turns,
    purges,
    reads,
    texts,
    usage,
    values,
    writes,
)
from langswarm.core.session.testing.storage_contract.case import ContractBrokenError, StorageCase

__all__ = ["CONTRACT", "DURABILITY", "ContractBrokenError", "StorageCase"]

CONTRACT: tuple[StorageCase, ...] = (
    *writes.part.cases,
    *hiding.part.cases,
    *past_turns.part.cases,
    *claims.part.cases,
    *purges.part.cases,
    *batches.part.cases,
    *reads.part.cases,
    *listing.part.cases,
    *filters.part.cases,
    *metadata.part.cases,
    *texts.part.cases,
    *usage.part.cases,
    *erasing.part.cases,
    *values.part.cases,
    *lifetime.part.cases,
)
"""What every storage keeps."""

DURABILITY: tuple[StorageCase, ...] = tuple(durability.part.cases)
"""What a storage keeps beside that, if it outlives its object."""
