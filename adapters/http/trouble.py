"""Errors of the HTTP layer: what went wrong, and whether the request may have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...actors.errors import ProviderError
from .secret import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...actors.errors import ProviderCode
    from .secret import Secret

REQUEST_TIMEOUT = 408
SERVER_ERROR = 500
OVERLOADED = 529
_MAX_TOLD: Final = 4
_MAX_TEXT: Final = 500


class HttpTroubleError(ProviderError):
    """No answer, or none that can be read.

    `ambiguous`: whether the request may have reached the service, so that repeating it may do its
    work twice. `worth_repeating`: whether the same call made at once may end otherwise; False for
    what only time mends, such as a refusal because of an overload in this process.
    """

    def __init__(
        self,
        message: str,
        *,
        code: ProviderCode,
        provider: str,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        ambiguous: bool = False,
        worth_repeating: bool | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            provider=provider,
            retryable=retryable,
            retry_after_seconds=retry_after_seconds,
        )
        self.ambiguous = ambiguous
        self.worth_repeating = retryable if worth_repeating is None else worth_repeating


class HttpStatusError(Exception):
    """The service answered with a status that is an error; the cause of the provider's error."""

    def __init__(self, text: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.should_retry = {"true": True, "false": False}.get(
            headers.get("x-should-retry", "").strip().lower()
        )


class ClientFailure(Exception):  # noqa: N818 - it tells of an error of the client's
    """What the HTTP client said, as text: its own exceptions may hold headers, and so the key."""


def is_ambiguous(error: ProviderError) -> bool:
    """Whether the call that failed may have done something at the service all the same.

    A status that says "refused" (4xx, 529) means that it has not; other statuses of 500 and above
    may come from something in between that lost sight of it. What fails later than the status
    always may.
    """
    if isinstance(error, HttpTroubleError):
        return error.ambiguous
    cause = error.__cause__
    if isinstance(cause, HttpStatusError):
        status = cause.status
        return status == REQUEST_TIMEOUT or (status >= SERVER_ERROR and status != OVERLOADED)
    return True


def told(error: BaseException, secrets: Sequence[Secret], depth: int = _MAX_TOLD) -> ClientFailure:
    """An exception and those behind it as texts without secrets.

    The exceptions themselves are let go: their texts and the frames of their tracebacks hold
    headers.
    """
    kind = type(error)
    text = scrub(f"{kind.__module__}.{kind.__qualname__}: {error}", secrets)[:_MAX_TEXT]
    failure = ClientFailure(text)
    behind = error.__cause__ or error.__context__
    if depth > 1 and behind is not None and isinstance(behind, Exception):
        failure.__cause__ = told(behind, secrets, depth - 1)
    return failure


def scrub_error(error: ProviderError, secrets: Sequence[Secret]) -> None:
    """Take the secrets out of an error's texts and out of what is behind it, in place."""
    error.args = tuple(
        scrub(each, secrets) if isinstance(each, str) else each for each in error.args
    )
    attributes: dict[str, object] = error.__dict__
    for name, value in attributes.items():
        if isinstance(value, str):
            attributes[name] = scrub(value, secrets)
    behind = error.__cause__ or error.__context__
    if behind is not None and not isinstance(behind, HttpStatusError | ClientFailure):
        error.__cause__ = told(behind, secrets)
    error.__context__ = None
