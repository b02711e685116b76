"""What a provider says, checked at the border: a provider is a guest and may say anything.

Everything wrong with it becomes a ProviderError of code `internal` that names what was wrong; a
stream that ends without `Completed` was cut off, whatever had arrived (code `truncated`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import InvalidMessageError, ProviderError
from .ports import Completed, ConversationStarted, TextDelta
from .values import check_text, encode_object, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fallback import Fallback
    from .limits import Limits
    from .ports import IProvider, ProviderRequest
    from .transcript import Transcript

_REASON_BYTES = 200
_ID_BYTES = 1_000
_MAX_TOKENS = 2**53


class Answer:
    """Collects one answer."""

    __slots__ = (
        "_fallback",
        "_fallback_keeps",
        "_instead_of",
        "_limits",
        "_size",
        "_transcript",
        "completed",
        "conversation_id",
        "metadata",
        "provider",
        "strays",
    )

    def __init__(self, provider: str, limits: Limits, transcript: Transcript) -> None:
        self.provider = provider
        self.completed: Completed | None = None
        """The provider's last word, once it has come and is in order."""
        self.metadata = "{}"
        self.conversation_id: str | None = None
        """The conversation that the session's own provider has named."""
        self.strays: list[tuple[str, str]] = []
        """(provider, id) of those that fallbacks made: nobody goes on with them."""
        self._fallback: Fallback | None = None
        self._fallback_keeps = False
        self._instead_of: dict[str, str] = {}
        self._limits = limits
        self._transcript = transcript
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing of an answer has arrived."""
        return self._size == 0 and self.completed is None

    @property
    def fell_back(self) -> bool:
        """Whether another provider than the session's own was asked."""
        return self._fallback is not None

    def falls_back(
        self, fallback: Fallback, provider: IProvider, failure: Exception | None
    ) -> None:
        """From here on another provider speaks, since the session's own failed."""
        if self._fallback is None:
            code = str(getattr(failure, "code", ""))
            self._instead_of = {"instead_of": self.provider, "because": code}
        self._fallback, self.provider = fallback, fallback.provider
        self._fallback_keeps = provider.keeps_conversations

    async def receive(
        self,
        provider: IProvider,
        request: ProviderRequest,
        is_wanted: Callable[[], bool],
        heard: Callable[[], None],
    ) -> None:
        """Ask, and listen until the stream ends, or until nobody wants to know any more.

        `heard` is called after each event.
        """
        stream = provider.stream(request)
        try:
            async for event in stream:
                if not is_wanted():
                    return
                self._hear(event)
                heard()
        finally:
            aclose = getattr(stream, "aclose", None)
            if aclose is not None:
                await aclose()
        if self.completed is None:
            raise ProviderError(
                "the provider's stream ended without Completed: the answer was cut off",
                code="truncated",
                provider=self.provider,
                retryable=True,
            )

    def _hear(self, event: object) -> None:
        # Listening goes on after Completed until the stream ends by itself: a generator that
        # wraps another one would else leave that one open.
        if self.completed is not None:
            self.completed = None
            raise TypeError("a provider yields nothing after Completed")
        if isinstance(event, TextDelta):
            self._take(event.text)
        elif isinstance(event, Completed):
            self._complete(event)
        elif isinstance(event, ConversationStarted):
            self._take_conversation(event.provider_session_id)
        else:
            raise TypeError(f"a provider yields a ProviderEvent, not {event!r}")

    def _take_conversation(self, name: str) -> None:
        check_text(name, "provider_session_id", max_bytes=_ID_BYTES)
        if self._fallback is None:
            self.conversation_id = name
        elif self._fallback_keeps:
            self.strays.append((self._fallback.provider, name))

    def _take(self, text: object) -> None:
        if not isinstance(text, str):
            raise TypeError(f"TextDelta.text must be a str, not {type(text).__name__}")
        limit = self._limits.max_message_bytes
        self._size += len(text)
        if self._size > limit:
            raise InvalidMessageError(f"the answer has more than max_message_bytes={limit}")
        self._transcript.add(text)

    def _complete(self, last: Completed) -> None:
        limits = self._limits
        text = self._transcript.text
        check_text(text, "the answer", max_bytes=limits.max_message_bytes, empty=True)
        check_text(last.finish_reason, "finish_reason", max_bytes=_REASON_BYTES)
        if last.provider_message_id is not None:
            check_text(last.provider_message_id, "provider_message_id", max_bytes=_ID_BYTES)
        if last.provider_session_id is not None:
            self._take_conversation(last.provider_session_id)
        for name in ("input_tokens", "output_tokens"):
            tokens = getattr(last, name)
            if isinstance(tokens, bool) or not isinstance(tokens, int):
                raise TypeError(f"{name} must be an int, not {tokens!r}")
            if not 0 <= tokens < _MAX_TOKENS:
                raise ValueError(f"{name} must be 0 or more, not {tokens}")
        metadata = dict(last.metadata)
        if self._fallback is not None:
            answered = {"provider": self._fallback.provider, "model": self._fallback.model}
            metadata["fallback"] = {**answered, **self._instead_of}
        self.metadata = encode_object(
            metadata, "the provider's metadata", max_bytes=limits.max_metadata_bytes
        )
        self.completed = last

    def text(self) -> str:
        """What has arrived, as text that can be stored."""
        return printable(self._transcript.text)

    def failure(self, error: BaseException) -> Exception:
        """The error that the caller gets for what the provider raised."""
        if isinstance(error, ProviderError):
            return error
        text = f"the provider {self.provider!r} failed: {describe(error)}"
        mapped = ProviderError(text, code="internal", provider=self.provider)
        mapped.__cause__ = error
        return mapped


def describe(error: BaseException) -> str:
    """An exception in one line; also of exceptions that cannot even say what they are."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a guest's exception
        text = ""
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name)[:2_000]
