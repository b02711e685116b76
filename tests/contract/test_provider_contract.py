"""Every provider of this project keeps the contract, on both backends and both HTTP libraries."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from langswarm.core.session.testing.provider_contract import (
    CONTRACT,
    CONVERSATIONS,
    ProviderCase,
    ProviderHarness,
)

from .providers import ALONE
from .vendor_providers import VENDORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from langswarm.core.session.testing import Backend

CASES = CONTRACT + CONVERSATIONS
KINDS = [*ALONE, *(f"{kind}-{library}" for kind in VENDORS for library in ("httpx", "httpx2"))]
NOT_KEPT = {"conversations", "forget", "provider.holds_conversation()"}
CANNOT = {
    "mock": {"fail_oddly", "stall_seconds", "options", "secrets", *NOT_KEPT},
    "native_mock": {"fail_oddly", "stall_seconds", "options", "secrets"},
    "simple": {"truncate", "stall_seconds", "streams", *NOT_KEPT},
    "scripted": {"fail_oddly", "stall_seconds", "options", "secrets", *NOT_KEPT},
    "openai": set[str](),
    "openai_local": {"provider.holds_conversation()"},
    "openai_chat": NOT_KEPT,
    "anthropic": NOT_KEPT,
}
"""What there is no way to arrange: the mocks have no key, no vendor and no watch over it, what a
simple provider returns cannot be cut off, and some keep nothing at their vendor."""


def is_run(case: ProviderCase, kind: str) -> bool:
    cannot = CANNOT[kind.partition("-")[0]]
    is_about_what_is_kept = "conversations" in case.needs and "provider.holds_conversation()"
    return cannot.isdisjoint(case.needs) and is_about_what_is_kept not in cannot


def harness_of(kind: str, *, soon: bool = False) -> Callable[[], ProviderHarness]:
    if kind in ALONE:
        return ALONE[kind]
    vendor, _, library = kind.partition("-")
    return partial(VENDORS[vendor], library, soon=soon)


RUNS = [(case, kind) for kind in KINDS for case in CASES if is_run(case, kind)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("case", "kind"), RUNS, ids=str)
def test_every_provider_keeps_it(case: ProviderCase, kind: str, backend: Backend) -> None:
    case.check(harness_of(kind, soon="stall_seconds" in case.needs), backend=backend)


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_case_is_left_out(kind: str) -> None:
    with closing(harness_of(kind)()) as harness:
        lacking = {name for case in CASES for name in case.missing(harness)}
    assert lacking == CANNOT[kind.partition("-")[0]]
