"""A service that is down is left alone."""

from __future__ import annotations

from langswarm.core.session.adapters.http.breaker import Breaker


def fail(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        assert breaker.refused_for(now) is None
        breaker.enter().failed(now)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(failures=3, pause=10)
    fail(breaker, 2)
    breaker.enter().succeeded()
    fail(breaker, 3, now=5.0)
    assert breaker.refused_for(5.0) == 10.0
    assert breaker.refused_for(14.5) == 0.5


def test_after_the_pause_one_request_goes_and_decides() -> None:
    breaker = Breaker(failures=1, pause=10)
    fail(breaker, 1)
    assert breaker.refused_for(10.0) is None
    trial = breaker.enter()
    assert breaker.refused_for(10.0) is not None
    assert breaker.refused_for(1000.0) is not None
    trial.failed(20.0)
    assert breaker.refused_for(20.0) == 10.0
    trial = breaker.enter()
    trial.succeeded()
    assert breaker.refused_for(20.0) is None
    breaker.enter()
    assert breaker.refused_for(20.0) is None


def test_a_trial_that_was_cancelled_leaves_its_place_to_the_next() -> None:
    breaker = Breaker(failures=1, pause=10)
    fail(breaker, 1)
    trial = breaker.enter()
    assert breaker.refused_for(11.0) is not None
    trial.abandoned()
    assert breaker.refused_for(11.0) is None


def test_requests_that_fail_together_are_one_sign() -> None:
    breaker = Breaker(failures=2, pause=10)
    together = [breaker.enter() for _ in range(100)]
    for permit in together:
        permit.failed(0.0)
    assert breaker.refused_for(0.0) is None
    fail(breaker, 1)
    assert breaker.refused_for(0.0) is not None


def test_an_answer_to_an_older_request_closes_it() -> None:
    breaker = Breaker(failures=1, pause=10)
    older = breaker.enter()
    fail(breaker, 1)
    assert breaker.refused_for(0.0) is not None
    older.succeeded()
    assert breaker.refused_for(0.0) is None


def test_a_request_counts_once() -> None:
    breaker = Breaker(failures=1, pause=10)
    permit = breaker.enter()
    permit.succeeded()
    permit.failed(0.0)
    permit.abandoned()
    assert breaker.refused_for(0.0) is None


def test_zero_failures_mean_that_it_never_opens() -> None:
    fail(Breaker(failures=0, pause=10), 1000)
