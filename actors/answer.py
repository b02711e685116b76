"""What a provider says, checked at the border: a provider is a guest and may say anything.

Everything wrong with it becomes a ProviderError of code `internal` that names what was wrong; a
stream that ends without `Completed` was cut off, whatever had arrived (code `truncated`).
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from .errors import InvalidMessageError, ProviderError
from .ports import Completed, ConversationStarted, TextDelta, Usage
from .values import check_text, encode_object, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .fallback import Fallback
    from .limits import Limits
    from .ports import IProvider, ProviderRequest
    from .transcript import Transcript

_REASON_BYTES = 200
_ID_BYTES = 1_000
_MAX_TOKENS = 2**53
_MAX_CONVERSATIONS = 100
"""Made on the way to one answer; one is the rule, one more where the first was lost."""


class Answer:
    """Collects one answer."""

    __slots__ = (
        "_fallback",
        "_instead_of",
        "_keeps",
        "_limits",
        "_own",
        "_resumed_id",
        "_size",
        "_transcript",
        "completed",
        "conversation_id",
        "input_tokens",
        "made",
        "metadata",
        "output_tokens",
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
        """(provider, id) of those that nobody goes on with: fallbacks made them, or another one
        took their place."""
        self.made = 0
        """How often a provider that keeps conversations has named another one than before."""
        self.input_tokens = 0
        self.output_tokens = 0
        self._own = provider
        self._keeps = False
        self._resumed_id: str | None = None
        self._fallback: Fallback | None = None
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

    @property
    def is_in_step(self) -> bool:
        """Whether the conversation at the session's own provider holds this answer.

        Not where it was to be gone on with and the provider does not name it: another one may
        serve under that name by now, which keeps none.
        """
        return not self.fell_back and (self._resumed_id is None or self.conversation_id is not None)

    def goes_on(self, resumed_id: str | None, *, keeps: bool) -> None:
        """The session's own provider is about to be asked, in this conversation of its own."""
        self._resumed_id = resumed_id
        self._keeps = keeps

    def falls_back(
        self, fallback: Fallback, provider: IProvider, failure: Exception | None
    ) -> None:
        """From here on another provider speaks, since the session's own failed."""
        if self._fallback is None:
            code = str(getattr(failure, "code", ""))
            self._instead_of = {"instead_of": self.provider, "because": code}
        self._fallback, self.provider = fallback, fallback.provider
        self._keeps = provider.keeps_conversations
        self.input_tokens = self.output_tokens = 0
        with suppress(InvalidMessageError):  # there is no room even for so little
            most = self._limits.max_metadata_bytes
            self.metadata = encode_object(self._told({}), "the fallback", max_bytes=most)

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
            elif isinstance(stream, Coroutine):  # written as an async function: nobody awaits it
                stream.close()
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
        elif isinstance(event, Usage):
            self._count(event)
        else:
            raise TypeError(f"a provider yields a ProviderEvent, not {event!r}")

    def _take_conversation(self, name: str) -> None:
        check_text(name, "provider_session_id", max_bytes=_ID_BYTES)
        if self._fallback is not None:
            if self._keeps:
                self._give_up(self._fallback.provider, name)
            return
        before = self._resumed_id if self.conversation_id is None else self.conversation_id
        self.conversation_id = name
        if self._keeps and name != before:
            self.made += 1
            if before is not None:
                self._give_up(self._own, before)

    def _give_up(self, provider: str, name: str) -> None:
        if (provider, name) not in self.strays:
            self.strays.append((provider, name))
            self.made += 1
            if len(self.strays) > _MAX_CONVERSATIONS:
                raise ValueError(f"a turn makes at most {_MAX_CONVERSATIONS} conversations")

    def _take(self, text: object) -> None:
        if not isinstance(text, str):
            raise TypeError(f"TextDelta.text must be a str, not {type(text).__name__}")
        if not text:
            return
        limit = self._limits.max_message_bytes
        self._size += len(text) if text.isascii() else len(text.encode(errors="replace"))
        if self._size > limit:
            raise InvalidMessageError(f"the answer has more than max_message_bytes={limit}")
        self._transcript.add(text)

    def _count(self, told: Usage | Completed) -> None:
        for name in ("input_tokens", "output_tokens"):
            tokens = getattr(told, name)
            if isinstance(tokens, bool) or not isinstance(tokens, int):
                raise TypeError(f"{name} must be an int, not {tokens!r}")
            if not 0 <= tokens < _MAX_TOKENS:
                raise ValueError(f"{name} must be 0 or more, not {tokens}")
        self.input_tokens, self.output_tokens = told.input_tokens, told.output_tokens

    def _complete(self, last: Completed) -> None:
        limits = self._limits
        self._count(last)
        text = self._transcript.text
        check_text(text, "the answer", max_bytes=limits.max_message_bytes, empty=True)
        check_text(last.finish_reason, "finish_reason", max_bytes=_REASON_BYTES)
        if last.provider_message_id is not None:
            check_text(last.provider_message_id, "provider_message_id", max_bytes=_ID_BYTES)
        if last.provider_session_id is not None:
            self._take_conversation(last.provider_session_id)
        self.metadata = encode_object(
            self._told(last.metadata),
            "the provider's metadata",
            max_bytes=limits.max_metadata_bytes,
        )
        self.completed = last

    def _told(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What the message says of its making."""
        if self._fallback is None:
            return dict(metadata)
        answered = {"provider": self._fallback.provider, "model": self._fallback.model}
        return {**metadata, "fallback": {**answered, **self._instead_of}}

    @property
    def in_use(self) -> tuple[str, str] | None:
        """The one of `strays` that a fallback is answering in."""
        if self._fallback is None or not self.strays:
            return None
        return self.strays[-1] if self.strays[-1][0] == self._fallback.provider else None

    def left_behind(self) -> tuple[tuple[str, str], ...]:
        """(provider, id) of all conversations that nobody goes on with if the answer is lost."""
        own = self.conversation_id
        if own is None or not self.made:
            return tuple(self.strays)
        return (*self.strays, (self._own, own))

    def text(self) -> str:
        """What has arrived, as text that can be stored."""
        return printable(self._transcript.text)

    def failure(self, error: BaseException) -> Exception:
        """The error that the caller gets for what the provider raised."""
        if isinstance(error, ProviderError) and isinstance(cast("object", error.code), str):
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
