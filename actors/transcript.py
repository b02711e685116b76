"""What a turn has said so far, for all who follow it.

One writer, the turn; any number of readers, each with a place of its own in the text. Nothing is
queued for a reader: who is slow gets the same text in larger pieces, misses nothing, costs nothing
and holds nobody up. The bound is that of the answer itself (`max_message_bytes`).

Where middleware has to see an answer before the user does, the text is held back until it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .wait import Signal

if TYPE_CHECKING:
    from .model import MessageRecord
    from .wait import Backend


class Transcript:
    """Of one turn; it outlives the turn for those who hold it."""

    __slots__ = (
        "_backend",
        "_parts",
        "_signal",
        "answer",
        "ended",
        "error",
        "is_held_back",
        "question",
        "tokens",
    )

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._parts: list[str] = []
        self._signal: Signal | None = None
        self.question: MessageRecord | None = None
        """Stored, once the turn is open."""
        self.is_held_back = False
        """Readers see none of the text until it is revealed."""
        self.answer: MessageRecord | None = None
        """Stored, in whole or in part, once the turn is closed."""
        self.tokens = (0, 0)
        """What went in, what came out, once the turn is closed."""
        self.error: BaseException | None = None
        """Why there is no whole answer, once it has ended."""
        self.ended = False

    # -------------------------------------------------------- the turn

    def opened(self, question: MessageRecord) -> None:
        """The question is stored."""
        self.question = question
        self._changed()

    def add(self, text: str) -> None:
        """The next piece of the answer."""
        self._parts.append(text)
        if self._signal is not None and not self.is_held_back:
            self._signal.wake()

    def reveal(self, text: str) -> None:
        """The text that was held back, as the middleware wants it."""
        if self.is_held_back:
            self.is_held_back = False
            self._parts = [text] if text else []

    def closed(self, answer: MessageRecord | None, tokens: tuple[int, int]) -> None:
        """The end is stored; whoever waits is told with `end`."""
        self.answer = answer
        self.tokens = tokens

    def end(self, error: BaseException | None) -> None:
        """Nothing will follow."""
        self.error = error
        self.ended = True
        self._changed()

    @property
    def text(self) -> str:
        """All that has arrived, whether it may be seen or not."""
        return "".join(self._parts)

    def _changed(self) -> None:
        if self._signal is not None:
            self._signal.wake()

    # -------------------------------------------------------- readers

    def place_of(self, characters: int) -> tuple[int, str]:
        """Where a reader goes on that has so many characters, and the rest of the piece there.

        One that claims more than there is goes on at the end.
        """
        if self.is_held_back:
            return 0, ""
        for number, part in enumerate(self._parts, 1):
            if characters < len(part):
                return number, part[characters:]
            characters -= len(part)
        return len(self._parts), ""

    def since(self, place: int) -> tuple[int, str]:
        """What came after that place, and where to go on."""
        if self.is_held_back or place >= len(self._parts):
            return place, ""
        return len(self._parts), "".join(self._parts[place:])

    async def change(self) -> None:
        """Wait for the next change; look before, look again after."""
        if self._signal is None:
            self._signal = Signal(self._backend)
        await self._signal.wait()
