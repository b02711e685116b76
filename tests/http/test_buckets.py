"""Limits per minute, one's own and those that a service tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.http.buckets import (
    MAX_HOLD_SECONDS,
    Meter,
    duration_seconds,
    limit_headers,
)

ODD_NUMBERS = ["0", "1", "-1", "100", "1e15", "1e308", "nan", "inf", "9" * 400, "", "many"]
ODD_TIMES = [
    *["0s", "1ms", "1s", "6000h", "-1s", "nan", "1e308", "9" * 400 + "s", "9" * 400 + "h", ""],
    *["1731000000", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"],
]
WALL = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def openai(kind: str, limit: object, remaining: object, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(remaining),
        f"x-ratelimit-reset-{kind}": reset,
    }


def anthropic(kind: str, limit: object, remaining: object, reset: str) -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{kind}-limit": str(limit),
        f"anthropic-ratelimit-{kind}-remaining": str(remaining),
        f"anthropic-ratelimit-{kind}-reset": reset,
    }


def sent(meter: Meter, tokens: int, now: float) -> float:
    """Waits as a service does; returns when it went."""
    while (delay := meter.delay(tokens, now)) > 0:
        now += delay
    meter.take(tokens, now)
    return now


def test_a_minutes_worth_goes_at_once_and_the_rest_evenly() -> None:
    meter = Meter(requests=60)
    now = 0.0
    times: list[float] = []
    for _ in range(90):
        now = sent(meter, 0, now)
        times.append(now)
    assert times[:60] == [0.0] * 60
    assert times[60:] == pytest.approx([float(number) for number in range(1, 31)])


def test_tokens_are_limited_by_the_estimates() -> None:
    meter = Meter(tokens=6_000)  # 100 a second
    assert sent(meter, 5_000, 0.0) == 0.0
    assert sent(meter, 2_000, 0.0) == pytest.approx(10.0)
    assert sent(meter, 0, 10.0) == 10.0


def test_a_request_larger_than_the_limit_waits_for_the_whole_minute_and_goes() -> None:
    meter = Meter(tokens=600)
    assert sent(meter, 10**9, 0.0) == 0.0
    assert sent(meter, 10**9, 0.0) == pytest.approx(60.0)


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    meter = Meter(requests=1)
    assert sent(meter, 0, 1_000.0) == 1_000.0
    assert meter.delay(0, 0.0) == pytest.approx(60.0)


@pytest.mark.parametrize(
    "headers",
    [
        openai("requests", 60, 0, "60s"),
        openai("requests", 60, 0, "1m0s"),
        openai("requests", 60, 0, "60000ms"),
        anthropic("requests", 60, 0, "2026-09-21T14:14:20Z"),
        anthropic("requests", 60, 0, "2026-09-21T16:14:20+02:00"),
    ],
)
def test_what_a_service_tells_is_kept_to(headers: dict[str, str]) -> None:
    """60 of 60 are used up, and in a minute all are there again: one a second."""
    meter = Meter()
    assert meter.delay(0, 0.0) == 0.0
    meter.learn(200, headers, 0.0, WALL)
    assert sent(meter, 0, 0.0) == pytest.approx(1.0)
    assert sent(meter, 0, 1.0) == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["tokens", "input-tokens"])
def test_tokens_that_remain_at_the_service_are_used_and_not_more(kind: str) -> None:
    meter = Meter()
    meter.learn(200, anthropic(kind, 1_000, 500, "2026-09-21T14:13:25Z"), 0.0, WALL)
    assert sent(meter, 400, 0.0) == 0.0
    assert sent(meter, 400, 0.0) == pytest.approx(3.0)  # 100 a second


def test_output_tokens_hold_requests_back_only_when_none_are_left() -> None:
    meter = Meter()
    meter.learn(200, anthropic("output-tokens", 1_000, 5, "2026-09-21T14:13:25Z"), 0.0, WALL)
    assert meter.delay(10_000, 0.0) == 0.0
    meter.learn(200, anthropic("output-tokens", 1_000, 0, "2026-09-21T14:13:25Z"), 0.0, WALL)
    assert meter.delay(0, 0.0) > 0


def test_what_is_on_its_way_is_not_counted_as_remaining() -> None:
    meter = Meter()
    for _ in range(3):
        meter.take(0, 0.0)
        meter.depart(0)
    meter.landed(0)
    meter.learn(200, openai("requests", 10, 3, "7s"), 0.0, WALL)
    assert sent(meter, 0, 0.0) == 0.0  # one of three: two are on their way
    assert meter.delay(0, 0.0) > 0


def test_the_services_word_is_taken_up_again_when_it_tells_of_more() -> None:
    meter = Meter()
    meter.learn(200, openai("requests", 10, 0, "60s"), 0.0, WALL)
    assert meter.delay(0, 0.0) > 0
    meter.learn(200, openai("requests", 1_000, 1_000, "0s"), 0.0, WALL)
    assert meter.delay(0, 0.0) == 0.0


def test_a_service_holds_requests_back_for_a_minute_at_most_and_then_one_goes() -> None:
    meter = Meter()
    meter.learn(200, openai("requests", 1, 0, "24h0m0s"), 0.0, WALL)
    assert sent(meter, 0, 0.0) == pytest.approx(MAX_HOLD_SECONDS)
    assert sent(meter, 0, 60.0) == pytest.approx(2 * MAX_HOLD_SECONDS)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_refusal_with_retry_after_holds_the_others_back_too(status: int) -> None:
    meter = Meter()
    meter.learn(status, {"retry-after": "7"}, 0.0, WALL)
    assert meter.delay(0, 0.0) == pytest.approx(7.0)
    assert meter.delay(0, 7.0) == 0.0
    meter.learn(status, {"retry-after": "7000"}, 10.0, WALL)
    assert meter.delay(0, 10.0) == MAX_HOLD_SECONDS


def test_retry_after_of_another_status_holds_nobody_back() -> None:
    meter = Meter()
    meter.learn(500, {"retry-after": "7"}, 0.0, WALL)
    assert meter.delay(0, 0.0) == 0.0


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "0"},
        openai("requests", "x", 0, "1s"),
        openai("requests", 0, 0, "1s"),
        openai("requests", 10, "nan", "1s"),
        openai("requests", 10, "-1", "1s"),
        openai("requests", "inf", 0, "1s"),
        openai("requests", 10, 0, "soon"),
        openai("requests", 10, 0, ""),
        anthropic("requests", 10, 0, "2026-09-21T14:14:20"),
        anthropic("requests", 10, 0, "9999999999999-01-01"),
    ],
)
def test_headers_that_make_no_sense_hold_nobody_back(headers: dict[str, str]) -> None:
    meter = Meter()
    meter.learn(200, headers, 0.0, WALL)
    assert meter.delay(10**9, 0.0) == 0.0


def test_a_reset_time_is_read_by_the_services_own_clock() -> None:
    """The clock of this machine may be wrong by hours."""
    meter = Meter()
    headers = anthropic("requests", 60, 0, "2026-09-21T14:14:20Z")
    headers["date"] = "Mon, 21 Sep 2026 14:13:20 GMT"
    meter.learn(200, headers, 0.0, WALL - 7_200)
    assert meter.delay(0, 0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("12", 12.0),
        ("1.5", 1.5),
        ("0s", 0.0),
        ("5m", 300.0),
        ("", None),
        ("s", None),
        ("1x", None),
        ("-1s", None),
        ("1.2.3s", None),
        ("1s1m", None),
    ],
)
def test_durations_are_read_as_vendors_write_them(text: str, seconds: float | None) -> None:
    assert duration_seconds(text) == seconds


def test_the_headers_of_limits_are_told_under_short_names() -> None:
    headers = {**openai("requests", 60, 5, "1s"), "x-request-id": "1", "content-type": "a"}
    assert limit_headers(headers) == {
        "limit-requests": "60",
        "remaining-requests": "5",
        "reset-requests": "1s",
    }


@given(
    st.sampled_from(["requests", "tokens"]),
    *[st.sampled_from(ODD_NUMBERS) | st.floats().map(str) for _ in range(2)],
    st.sampled_from(ODD_TIMES) | st.floats().map(lambda seconds: f"{seconds}s"),
    st.booleans(),
)
def test_whatever_a_service_tells_a_minute_is_the_longest_wait(
    kind: str, limit: str, remaining: str, reset: str, of_openai: bool
) -> None:
    """No arithmetic fails, and after a minute at most one goes to hear news."""
    meter = Meter()
    told = (openai if of_openai else anthropic)(kind, limit, remaining, reset)
    meter.learn(200, told, 0.0, WALL)
    assert sent(meter, 50, 0.0) <= MAX_HOLD_SECONDS
    assert sent(meter, 50, 1_000.0) <= 1_000.0 + MAX_HOLD_SECONDS
