"""What the vendors keep, and one request in the middle of it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from .answers import Answer, Asked, echo
from .replies import anthropic_error, openai_error
from .values import as_array, as_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .answers import Says
    from .server import Seen
    from .values import Json


class Ids:
    """Ids as each vendor shapes them, numbered."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):024x}"


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


class State:
    """Everything that outlives a request."""

    def __init__(self) -> None:
        # Here, since each of these knows how to read a Call.
        from .assistants import Assistants  # noqa: PLC0415
        from .chat import Dialect  # noqa: PLC0415
        from .conversations import Conversations  # noqa: PLC0415
        from .messages import Rules  # noqa: PLC0415
        from .responses import Responses  # noqa: PLC0415
        from .threads import Threads  # noqa: PLC0415

        self.ids = Ids()
        self.key: str | None = None
        """The only key that is let in; None: every one, and none at all."""
        self.conversations = Conversations()
        self.responses = Responses()
        self.chat = Dialect()
        self.messages = Rules()
        self.threads = Threads()
        self.assistants = Assistants()


@attrs.define(kw_only=True)
class Call:
    """One request, for the handler that answers it."""

    seen: Seen
    state: State
    answer: Says = echo
    arguments: tuple[str, ...] = ()
    """The variable parts of the path."""
    _exits: ExitStack = attrs.field(factory=ExitStack)

    @property
    def body(self) -> Json:
        return as_object(self.seen.body) or {}

    @property
    def is_anthropic(self) -> bool:
        return self.seen.path.startswith("/v1/messages")

    @property
    def betas(self) -> set[str]:
        """What `anthropic-beta` names."""
        named = self.seen.headers.get("anthropic-beta", "")
        return {each.strip() for each in named.split(",") if each.strip()}

    @property
    def request_id(self) -> str:
        return f"req_{self.seen.number:06d}"

    def headers(self) -> dict[str, str]:
        """What is sent with each answer."""
        number = self.request_id
        if self.is_anthropic:
            return {"request-id": number}
        return {"x-request-id": number, "openai-processing-ms": "1", "openai-version": "2020-10-01"}

    def finally_(self, release: Callable[[], None]) -> None:
        """To be done when the answer is over, however it ends."""
        self._exits.callback(release)

    def release(self) -> None:
        self._exits.close()

    def ask(
        self,
        model: str,
        messages: Iterable[tuple[str, str]],
        max_tokens: object,
        stops: object = None,
    ) -> tuple[Asked, Answer]:
        """What the model is shown and what it says, up to its limit or a text that stops it."""
        asked = Asked(model=model, messages=tuple(messages), body=self.body)
        said = self.answer(asked) if callable(self.answer) else self.answer
        answer = Answer(text=said) if isinstance(said, str) else said
        return asked, answer.within(max_tokens).up_to(as_array(stops) or [stops])

    def check_key(self) -> None:
        """As both vendors do: who shows a wrong key reads it in the refusal."""
        wanted = self.state.key
        if wanted is None or self.seen.key == wanted:
            return
        if self.is_anthropic:
            raise anthropic_error(401, "authentication_error", f"invalid key: {self.seen.key}")
        raise openai_error(
            401, f"Incorrect API key provided: {self.seen.key}.", code="invalid_api_key"
        )

    def required(self, name: str, kind: type) -> Any:
        """A field of the body that OpenAI's API insists on."""
        value = self.body.get(name)
        if value is None:
            raise openai_error(
                400,
                f"Missing required parameter: '{name}'.",
                param=name,
                code="missing_required_parameter",
            )
        if not isinstance(value, kind):
            raise openai_error(400, f"Invalid type for '{name}'.", param=name, code="invalid_type")
        return value
