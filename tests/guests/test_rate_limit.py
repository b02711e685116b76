"""Token buckets against an exact account of what was let through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from langswarm.core.session.adapters.guests.rate_limit import Buckets, Rate, delay_or_take

steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=1, max_size=60
)  # who asks, after so many quarters of a second


@given(steps, st.integers(1, 5), st.sampled_from([30, 60, 120]))
def test_never_more_than_the_burst_and_the_rate_and_never_less(
    asked: list[tuple[str, int]], burst: int, per_minute: int
) -> None:
    """It is a bucket: in any span of time at most burst + rate * span, and one as soon as due."""
    buckets = Buckets(Rate(per_minute, burst), 100)
    level = dict.fromkeys("abc", float(burst))
    at = dict.fromkeys("abc", 0.0)
    now = 0.0
    for key, quarters in asked:
        now += quarters / 4
        level[key] = min(burst, level[key] + (now - at[key]) * per_minute / 60)
        at[key] = now
        delay = delay_or_take({buckets: key}, now)
        if level[key] >= 1 - 1e-6:
            assert delay == 0.0
            level[key] -= 1
        else:
            missing = (1 - level[key]) * 60 / per_minute
            assert abs(delay - missing) < 1e-6
            assert buckets.delay(key, now + delay + 1e-6) == 0.0


def test_one_that_is_refused_costs_nothing_in_any_bucket() -> None:
    users, sessions = Buckets(Rate(60, 5), 10), Buckets(Rate(60, 1), 10)
    assert delay_or_take({users: "u", sessions: "s"}, 0.0) == 0.0
    for _ in range(50):
        assert delay_or_take({users: "u", sessions: "s"}, 0.0) == 1.0
    for number in range(4):
        assert delay_or_take({users: "u", sessions: f"s{number}"}, 0.0) == 0.0
    assert delay_or_take({users: "u", sessions: "s9"}, 0.0) == 1.0


def test_many_users_leave_no_more_than_the_limit_behind() -> None:
    buckets = Buckets(Rate(0.001, 1), 1_000)
    for number in range(100_000):
        assert delay_or_take({buckets: f"{number}"}, 0.0) == 0.0
    assert len(buckets) == 1_000
    assert buckets.delay("99999", 0.0) > 0


def test_full_buckets_are_forgotten() -> None:
    buckets = Buckets(Rate(60, 1), 1_000)
    for number in range(500):
        delay_or_take({buckets: f"{number}"}, number / 1_000)
    delay_or_take({buckets: "last"}, 100.0)
    assert len(buckets) == 1


def test_a_clock_that_goes_back_lets_nobody_wait_for_ever() -> None:
    buckets = Buckets(Rate(60, 1), 10)
    delay_or_take({buckets: "a"}, 10.0)
    assert buckets.delay("a", 9.0) <= 2.0
