"""Which failures are repeated, and after which pause."""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Literal

import anyio
import pytest
from langswarm.core.session import ProviderError
from langswarm.core.session.adapters.http.retries import (
    Attempts,
    hinted_seconds,
    http_date,
    is_repeated,
    pause_seconds,
)
from langswarm.core.session.adapters.http.trouble import (
    HttpStatusError,
    HttpTroubleError,
    is_ambiguous,
)
from langswarm.core.session.testing import simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langswarm.core.session.actors.errors import ProviderCode

WALL = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def answered(
    status: int,
    *,
    code: ProviderCode = "overloaded",
    retryable: bool = True,
    headers: Mapping[str, str] | None = None,
) -> ProviderError:
    error = ProviderError("no", code=code, provider="x", retryable=retryable)
    error.__cause__ = HttpStatusError("status", status, headers or {})
    return error


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529, 599])
def test_statuses_that_time_may_mend_are_repeated(status: int) -> None:
    assert is_repeated(answered(status))
    assert not is_repeated(answered(status, retryable=False))


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 413, 422])
def test_other_statuses_are_not_repeated(status: int) -> None:
    assert not is_repeated(answered(status))


def test_a_lock_is_waited_for_whatever_its_status() -> None:
    assert is_repeated(answered(400, code="locked"))
    assert not is_repeated(answered(400, code="locked", retryable=False))


def test_the_services_own_word_goes_first() -> None:
    assert is_repeated(answered(400, retryable=False, headers={"x-should-retry": "true"}))
    assert not is_repeated(answered(503, headers={"x-should-retry": " False"}))
    assert is_repeated(answered(503, headers={"x-should-retry": "perhaps"}))


@pytest.mark.parametrize(
    ("status", "ambiguous"),
    [
        (400, False),
        (404, False),
        (409, False),
        (429, False),
        (529, False),
        (408, True),
        (500, True),
        (502, True),
        (503, True),
        (504, True),
    ],
)
def test_a_status_that_refuses_leaves_no_doubt(status: int, ambiguous: bool) -> None:
    assert is_ambiguous(answered(status)) is ambiguous


def test_an_error_within_a_stream_is_ambiguous() -> None:
    assert is_ambiguous(ProviderError("no", code="overloaded"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:30 GMT"}, 10.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:10 GMT"}, 0.0),
        (
            {
                "retry-after": "Mon, 21 Sep 2026 10:00:05 GMT",
                "date": "Mon, 21 Sep 2026 10:00:00 GMT",
            },
            5.0,
        ),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 366 * 86_400.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:30"}, 10.0),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:30 -0000"}, 10.0),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_the_pause_that_a_service_asks_for_is_read(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert hinted_seconds(headers, WALL) == seconds


def test_pauses_are_anything_up_to_a_bound_that_doubles_to_eight_seconds() -> None:
    rng = Random(1)
    for retry, bound in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 8.0]):
        pauses = [pause_seconds(retry, rng) for _ in range(500)]
        assert 0 <= min(pauses) < 0.05 * bound
        assert 0.95 * bound < max(pauses) <= bound
    assert pause_seconds(10**9, rng) <= 8.0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_pause_asked_for_is_waited_and_a_longer_one_than_allowed_is_not(
    backend: Literal["asyncio", "trio"],
) -> None:
    async def program() -> None:
        attempts = Attempts(max_retries=3, max_wait=60.0, rng=Random(1))
        error = answered(429)
        error.retry_after_seconds = 60.0
        began = anyio.current_time()
        assert await attempts.again(error)
        assert anyio.current_time() - began == pytest.approx(60.0)
        error.retry_after_seconds = 60.5
        began = anyio.current_time()
        assert not await attempts.again(error)
        assert anyio.current_time() == began
        assert error.retry_after_seconds == 60.5

    simulate(program, backend=backend, seed=None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_there_are_no_more_attempts_than_allowed(backend: Literal["asyncio", "trio"]) -> None:
    async def program() -> None:
        for most in (0, 1, 5):
            attempts = Attempts(max_retries=most, max_wait=60.0, rng=Random(1))
            count = 0
            while await attempts.again(answered(500)):
                count += 1
            assert count == most

    simulate(program, backend=backend, seed=None)


async def test_what_another_attempt_would_not_mend_is_not_repeated() -> None:
    attempts = Attempts(max_retries=9, max_wait=60.0, rng=Random(1))
    assert not await attempts.again(answered(401, code="auth", retryable=False))
    full = HttpTroubleError(
        "full", code="overloaded", provider="x", retryable=True, worth_repeating=False
    )
    assert not await attempts.again(full)


def test_a_date_without_a_zone_is_not_read_in_the_zone_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert http_date("Thu, 01 Jan 1970 00:01:00") == 60.0
        assert http_date("Thu, 01 Jan 1970 00:01:00 -0000") == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()
