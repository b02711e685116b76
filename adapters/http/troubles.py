"""What can go wrong with a request, as errors whose texts say what happened and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import MANNERS
from .secret import scrub, scrub_value
from .trouble import HttpTroubleError, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...actors.errors import ProviderCode
    from .client import Client
    from .options import HttpOptions
    from .secret import Secret


class Troubles:
    """Makes the errors of one service. They carry their cause already: raise them bare."""

    def __init__(self, provider: str, options: HttpOptions, secrets: Sequence[Secret]) -> None:
        self._provider = provider
        self._options = options
        self._secrets = secrets
        self._origin = "/".join(options.base_url.split("/")[:3])

    def without_secrets(self, headers: dict[str, str]) -> dict[str, str]:
        """The service's headers: they may echo the key."""
        found: dict[str, str] = scrub_value(headers, self._secrets)
        return found

    def failed(self, client: Client, error: Exception, *, begun: bool = False) -> HttpTroubleError:
        """The client raised; `begun`: the head of the answer was here already."""
        kind = client.kind_of(error)
        manner = MANNERS[kind]
        code = manner.code
        if begun and kind == "protocol":
            code = "truncated"
        text = manner.text.format(
            origin=self._origin,
            connect=self._options.connect_timeout,
            connections=self._options.max_connections,
        )
        trouble = self._make(
            text,
            code,
            retryable=manner.retryable,
            ambiguous=manner.ambiguous or begun,
            worth_repeating=manner.retryable and kind != "pool",
        )
        trouble.__cause__ = told(error, self._secrets)
        return trouble

    def too_late(self, *, is_total: bool, begun: bool = False) -> HttpTroubleError:
        """A time ran out that is kept here."""
        options = self._options
        stalled = f"stall_timeout={options.stall_timeout:g} s"
        if is_total:
            text = f"no complete answer of {self._origin} within timeout={options.timeout:g} s"
        elif begun:
            text = f"the answer of {self._origin} stalled for {stalled}"
        else:
            text = f"{self._origin} was silent for {stalled}"
        return self._make(
            f"{text}; send it again, or raise that option",
            "timeout",
            retryable=True,
            ambiguous=True,
        )

    def malformed(self, what: str) -> HttpTroubleError:
        """The answer cannot be read."""
        return self._make(
            f"{self._origin} sent {what}; if this happens again, check base_url, and what stands "
            "between",
            "protocol",
            retryable=True,
            ambiguous=True,
        )

    def too_large(self, most: int) -> HttpTroubleError:
        """The answer is larger than is taken."""
        return self._make(
            f"{self._origin} sent an answer of more than {most:,} bytes; it was not read",
            "protocol",
            ambiguous=True,
        )

    def redirected(self, status: int, location: str) -> HttpTroubleError:
        """The service is elsewhere."""
        to = f" to {location.partition('?')[0][:200]!r}" if location else ""
        return self._make(
            f"{self._origin} answered HTTP {status}, a redirect{to}; redirects are not followed, "
            "since they would carry the key along: set base_url to the final address",
            "invalid_request",
        )

    def queued_too_long(self) -> HttpTroubleError:
        """No connection became free."""
        options = self._options
        return self._make(
            f"no connection became free within queue_timeout={options.queue_timeout:g} s; all "
            f"max_connections={options.max_connections} are in use: raise it, or send less at once",
            "overloaded",
            retryable=True,
            worth_repeating=False,
        )

    def limited(self, seconds: float, *, own: bool) -> HttpTroubleError:
        """The limits per minute ask for a longer wait than is allowed."""
        whose = (
            "requests_per_minute or tokens_per_minute is used up"
            if own
            else f"the limits that {self._origin} told are used up"
        )
        return self._make(
            f"{whose}, and the wait would be longer than queue_timeout="
            f"{self._options.queue_timeout:g} s",
            "rate_limit",
            retryable=True,
            retry_after_seconds=seconds,
            worth_repeating=False,
        )

    def broken(self, seconds: float) -> HttpTroubleError:
        """The breaker is open."""
        return self._make(
            f"{self._origin} failed breaker_failures={self._options.breaker_failures} times in a "
            f"row and is left alone for another {seconds:.1f} s",
            "overloaded",
            retryable=True,
            retry_after_seconds=seconds,
            worth_repeating=False,
        )

    def unreadable(self, status: int, error: Exception) -> HttpTroubleError:
        """The provider's own reading of an error failed."""
        trouble = self._make(
            f"{self._origin} answered HTTP {status}, and the provider could not read its error",
            "internal",
            ambiguous=True,
        )
        trouble.__cause__ = told(error, self._secrets)
        return trouble

    def unwritable(self, what: str) -> HttpTroubleError:
        """The request cannot be written."""
        return self._make(f"the request was not sent: {what}", "invalid_request")

    def _make(self, text: str, code: ProviderCode, **more: Any) -> HttpTroubleError:
        name = self._provider
        return HttpTroubleError(
            scrub(f"provider {name!r}: {text}", self._secrets), code=code, provider=name, **more
        )
