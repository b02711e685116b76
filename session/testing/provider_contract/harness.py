"""What a case knows of a provider and of the stand-in for its vendor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from langswarm.core.session.actors.errors import ProviderCode
    from langswarm.core.session.actors.ports import IProvider


class ProviderHarness:
    """A new provider, and how to make its vendor do what a case needs.

    Derive from it and override what you can arrange; a case that needs something else is skipped.
    The vendor is whatever stands in for it: a local server, a stub, or the provider's own script.

    What is arranged holds for whoever asks this question: the user message that comes last. It
    holds for one request, or for all of that question, as you like: each case asks a question once.
    A case arranges a failure right before it asks, and has no other request on its way then.

    `make()` of `ProviderCase.check` makes one in plain code, without an event loop, on a vendor
    that knows nothing of earlier cases.

    Args:
        provider: the provider; its own limits (retries, waits) should be short.

    Attributes:
        model: what the vendor is asked for.
        secrets: the keys that the provider was given; they must show up nowhere.
        fault_codes: for which codes `fail` can be called.
        options: a provider_config that the provider takes; its keys are misspelt by a case.
        stall_seconds: after how many seconds without anything new the provider itself gives up, at
            most 5; None: it waits for ever, the runtime's `turn_timeout_seconds` ends the turn.
        streams: whether text arrives while the vendor says it; False: the whole answer at its end.
    """

    model: str = "test-model"
    secrets: Sequence[str] = ()
    fault_codes: Collection[ProviderCode] = ()
    options: Mapping[str, Any] = {}
    stall_seconds: float | None = None
    streams: bool = True

    def __init__(self, provider: IProvider) -> None:
        self.provider = provider

    def answer(self, question: str, pieces: Sequence[str]) -> None:
        """The vendor answers with these pieces of text, in this order, and a good end."""
        raise NotImplementedError

    def fail(self, question: str, code: ProviderCode, pieces: Sequence[str]) -> None:
        """The vendor says these pieces (often none), then fails in a way that is of this `code`."""
        raise NotImplementedError

    def fail_oddly(self, question: str) -> None:
        """The vendor does something that makes no sense: a body that cannot be read, say."""
        raise NotImplementedError

    def truncate(self, question: str, pieces: Sequence[str]) -> None:
        """The vendor says these pieces, then its answer ends as if that were all."""
        raise NotImplementedError

    def stall(self, question: str, pieces: Sequence[str]) -> None:
        """The vendor says these pieces, then nothing more, for ever."""
        raise NotImplementedError

    def config_of(self, question: str) -> Mapping[str, Any]:
        """The provider_config of the request that asks this; "": of any other one."""
        del question
        return {}

    def open_requests(self) -> int:
        """How many requests the vendor is working at now: not answered, not given up."""
        raise NotImplementedError

    def conversations(self) -> Mapping[str, Sequence[str]]:
        """The conversations that the vendor keeps: the texts in each, in order, by its id."""
        raise NotImplementedError

    def forget(self, provider_session_id: str) -> None:
        """The vendor loses this conversation."""
        raise NotImplementedError

    def close(self) -> None:
        """The vendor ends; called once, in plain code, at the end of a case."""


def missing(harness: ProviderHarness, needs: Collection[str]) -> list[str]:
    """What of this the harness has no arrangement for."""
    return [name for name in needs if _lacks(harness, name)]


def _lacks(harness: ProviderHarness, name: str) -> bool:
    default = getattr(ProviderHarness, name)
    found = getattr(harness, name)
    return getattr(found, "__func__", found) is default if callable(default) else not found
