"""A circuit breaker: a service that is down is left alone for a while.

closed -> open after so many failures in a row; open -> half-open when the pause is over; half-open
-> closed when the one request that is let through is answered, -> open for another pause when it
fails. Any answer closes it, one to an older request too.

A failure counts if its request was begun after the last one that counted: a hundred requests that
die with one lost connection are one sign, not a hundred.
"""

from __future__ import annotations

from typing import Final

_TRIAL_SECONDS: Final = 1.0
"""When to ask again while the one trial is on its way."""


class Permit:
    """One request that was let through. The first of its calls decides, later ones do nothing."""

    __slots__ = ("_breaker", "_serial")

    def __init__(self, breaker: Breaker, serial: int) -> None:
        self._breaker: Breaker | None = breaker
        self._serial = serial

    def succeeded(self) -> None:
        """The service answered; with a complaint about the request, perhaps."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.count_success()

    def failed(self, now: float) -> None:
        """The service could not be reached, did not answer in time, or said that it is down."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.count_failure(self, self._serial, now)

    def abandoned(self) -> None:
        """Nothing was learned: cancelled, for example."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.forget(self)


class Breaker:
    """Plain and without a clock: `now` is seconds of any clock that does not go back."""

    def __init__(self, *, failures: int, pause: float) -> None:
        self._limit = failures
        self._pause = pause
        self._failures = 0
        self._serial = 0  # of failures that counted, ever
        self._open_until: float | None = None
        self._trial: Permit | None = None

    def refused_for(self, now: float) -> float | None:
        """Seconds for which a request is refused now; None: it may go."""
        if self._open_until is None:
            return None
        if now < self._open_until:
            return self._open_until - now
        return _TRIAL_SECONDS if self._trial is not None else None

    def enter(self) -> Permit:
        """Let a request through; ask `refused_for` at the same moment before."""
        permit = Permit(self, self._serial)
        if self._open_until is not None:
            self._trial = permit
        return permit

    def count_success(self) -> None:
        """The service is up."""
        self._failures = 0
        self._open_until = None
        self._trial = None

    def count_failure(self, permit: Permit, serial: int, now: float) -> None:
        """The service seems to be down."""
        if not self._limit:
            return
        if permit is self._trial:
            self._trial = None
            self._open_until = now + self._pause
        if serial < self._serial:
            return
        self._serial += 1
        self._failures += 1
        if self._failures >= self._limit and self._open_until is None:
            self._open_until = now + self._pause

    def forget(self, permit: Permit) -> None:
        """The trial taught nothing: the next request is one."""
        if permit is self._trial:
            self._trial = None
