"""What the models here say: the same for the same question, unless a test says otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from .values import as_array, as_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WORDS = re.compile(r"\s*\S+|\s+\Z")


@attrs.frozen(kw_only=True)
class Asked:
    """What the model is shown, whichever API it came through."""

    model: str
    messages: tuple[tuple[str, str], ...]
    """(role, text), the vendor's stored items included, system texts first."""
    body: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The last thing the user said."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")


@attrs.frozen(kw_only=True)
class Answer:
    """What the model says, and how it ends."""

    text: str = ""
    deltas: Sequence[str] | None = None
    """How the text is cut when it is streamed; None: into words."""
    finish: str = "stop"
    """`stop`, `length`, `content_filter`, `refusal`, `failed`, `error`; or Messages' stop_reason.

    `error` differs from `failed` for streamed Responses alone: the event `error` ends them.
    """
    thinking: str = ""
    error: str = "The server had an error while processing your request."
    """Said after the deltas where it fails."""
    error_code: str = "server_error"
    """Of that error: OpenAI's `code`, Anthropic's `type`."""
    stop_sequence: str | None = None
    input_tokens: int | None = None
    """None: counted by words."""
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0

    def pieces(self) -> tuple[str, ...]:
        return words(self.text) if self.deltas is None else tuple(self.deltas)

    @property
    def fails(self) -> bool:
        return self.finish in {"failed", "error"}

    @property
    def said(self) -> str:
        return "".join(self.pieces())

    def tokens_in(self, asked: Asked) -> int:
        """All input tokens, cached ones included."""
        if self.input_tokens is not None:
            return self.input_tokens
        return count(text for _, text in asked.messages)

    def tokens_thought(self) -> int:
        return count([self.thinking])

    def tokens_out(self) -> int:
        """All output tokens, those of thinking included."""
        if self.output_tokens is not None:
            return self.output_tokens
        return count([self.said]) + self.tokens_thought()

    def within(self, max_tokens: object) -> Answer:
        """As far as so many tokens reach."""
        if not isinstance(max_tokens, int) or self.finish != "stop":
            return self
        if count([self.said]) <= max_tokens:
            return self
        cut = "".join(words(self.said)[:max_tokens])
        return attrs.evolve(self, text=cut, deltas=None, finish="length")

    def up_to(self, stops: Iterable[object]) -> Answer:
        """Up to the first of these texts, without it."""
        found = {self.said.find(stop): stop for stop in stops if isinstance(stop, str) and stop}
        found.pop(-1, None)
        if not found:
            return self
        end = min(found)
        cut = self.said[:end]
        return attrs.evolve(
            self, text=cut, deltas=None, finish="stop_sequence", stop_sequence=found[end]
        )


Says = Answer | str | Callable[[Asked], Answer | str]


def words(text: str) -> tuple[str, ...]:
    """Cut before each space: joined they are the text again."""
    return tuple(_WORDS.findall(text))


def count(texts: Iterable[str]) -> int:
    """Tokens, in a world where each word is one."""
    return sum(len(words(text)) for text in texts)


def echo(asked: Asked) -> Answer:
    """The default: says what it was asked."""
    return Answer(text=f"answer to: {asked.text}")


def text_of(content: object) -> str:
    """The text of a message's content, as any of these APIs writes it."""
    if isinstance(content, str):
        return content
    return "".join(map(_part_text, as_array(content) or ()))


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    fields = as_object(part) or {}
    found = fields.get("text") or fields.get("refusal") or ""
    inner = as_object(found)
    return str(found if inner is None else inner.get("value", ""))
