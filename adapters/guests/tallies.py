"""Counting in bounded space, and what an error is counted as."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from ...actors.errors import (
    ConfigurationError,
    InvalidMessageError,
    MessageRefused,
    OverloadError,
    ProviderError,
    RuntimeClosedError,
    SessionArchivedError,
    WithdrawnError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

OTHER: Final = "other"
_MAX_NAME_CHARACTERS: Final = 100
_CALLERS: Final = (
    ConfigurationError,
    InvalidMessageError,
    MessageRefused,
    OverloadError,
    RuntimeClosedError,
    SessionArchivedError,
    WithdrawnError,
)
_CALLERS_CODES: Final = frozenset(("context_length", "interrupted", "invalid_request", "refused"))


class Tally:
    """Counts by name. Names beyond `max_names`, and overlong ones, are counted as "other"."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        known = name in self._counts or len(self._counts) < self._max_names
        fits = known and len(name) <= _MAX_NAME_CHARACTERS
        self._counts[name if fits else OTHER] += count

    def snapshot(self) -> dict[str, int]:
        """A copy, the commonest first."""
        return dict(self._counts.most_common())


class Latest(Generic[T]):
    """The value of each key that was set last, of at most `max_keys`."""

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self._values: OrderedDict[str, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def set(self, key: str, value: T) -> None:
        """Remember it; the oldest goes if there is no room."""
        self._values.pop(key, None)
        if len(self._values) >= self._max_keys:
            self._values.popitem(last=False)
        self._values[key] = value

    def get(self, key: str) -> T | None:
        """What is remembered."""
        return self._values.get(key)

    def pop(self, key: str) -> T | None:
        """What was remembered, once."""
        return self._values.pop(key, None)


class Last(Generic[T]):
    """The last `size` values."""

    def __init__(self, size: int) -> None:
        self._values: deque[T] = deque(maxlen=size)

    def add(self, value: T) -> None:
        """The oldest goes if there is no room."""
        self._values.append(value)

    def snapshot(self) -> tuple[T, ...]:
        """The oldest first."""
        return tuple(self._values)


def error_code(error: Exception) -> str:
    """The class and, where it has one, the code: "ProviderError:rate_limit". No text of it."""
    code = getattr(error, "code", None)
    name = type(error).__name__
    return f"{name}:{code}" if isinstance(code, str) and code else name


def needs_an_operator(error: Exception) -> bool:
    """Whether it is not for the caller alone to mend, nor simply too much at once."""
    if isinstance(error, ProviderError):
        return error.code not in _CALLERS_CODES
    return not isinstance(error, _CALLERS)


def check_positive(values: Iterable[tuple[str, float]]) -> None:
    """Raise ConfigurationError for the first that is not above 0."""
    for name, value in values:
        if not value > 0:
            raise ConfigurationError(f"{name} must be above 0, not {value!r}")
