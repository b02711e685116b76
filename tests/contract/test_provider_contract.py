"""Every provider of this project keeps the contract, on both backends and both HTTP libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langswarm.core.session.testing.provider_contract import CONTRACT, CONVERSATIONS, ProviderCase

from .providers import ALONE

if TYPE_CHECKING:
    from langswarm.core.session.testing import Backend

CASES = CONTRACT + CONVERSATIONS
NONE_KEPT = {"conversations", "forget", "provider.keeps_conversations"}
CANNOT = {
    "mock": {"fail_oddly", "stall_seconds", "options", "secrets", "open_requests", *NONE_KEPT},
    "native_mock": {"fail_oddly", "stall_seconds", "options", "secrets", "open_requests"},
    "simple": {"truncate", "stall_seconds", "streams", *NONE_KEPT},
    "scripted": {"fail_oddly", "stall_seconds", "options", "secrets", *NONE_KEPT},
}
"""What there is no way to arrange: the mocks have no key, no vendor and no watch over it, and what
a simple provider returns cannot be cut off."""


def runs(case: ProviderCase, kind: str) -> bool:
    return CANNOT[kind].isdisjoint(case.needs)


ALONE_RUNS = [(case, kind) for kind in ALONE for case in CASES if runs(case, kind)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("case", "kind"), ALONE_RUNS, ids=str)
def test_every_provider_keeps_it(case: ProviderCase, kind: str, backend: Backend) -> None:
    case.check(ALONE[kind], backend=backend)


@pytest.mark.parametrize("kind", ALONE)
def test_no_other_case_is_left_out(kind: str) -> None:
    harness = ALONE[kind]()
    lacking = {name for case in CASES for name in case.missing(harness)}
    assert lacking == CANNOT[kind] - {"open_requests"}
