"""Standard output: who reads it may leave, and what is shown steers no terminal."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, TextIO

from langswarm.core.session.cli.exits import CommandError

# Control characters but the newline and the tab, what turns the direction of writing around,
# separators of lines, and halves of characters.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MORE_THAN_A_LINE = re.compile(r"[\n\t]")


class Screen:
    """Standard output, which may be closed by who reads it (`| head`).

    What would steer a terminal is shown by its codes; elsewhere it goes out as it is.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self.closed = False

    def write(self, text: str) -> None:
        """Show it at once."""
        if self.closed:
            return
        try:
            self._out.write(safe_text(text) if self._is_terminal else text)
            self._out.flush()
        except BrokenPipeError:
            self.closed = True
            send_nowhere(self._out)
        except OSError as error:
            self.closed = True
            send_nowhere(self._out)
            raise CommandError(f"standard output cannot be written: {error.strerror}") from error


def send_nowhere(out: TextIO) -> None:
    """Or the interpreter would fail to flush it at its end."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), out.fileno())


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def safe_text(text: str) -> str:
    """The text with what steers a terminal shown by its codes; lines and tabs stay."""
    return _STEERING.sub(_escaped, text)


def safe_line(text: str) -> str:
    """As `safe_text`, in one line."""
    return _MORE_THAN_A_LINE.sub(_escaped, safe_text(text))


def safe_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON in ASCII, which holds every text and steers nothing; without a newline at its end."""
    return json.dumps(value, indent=indent, ensure_ascii=True).replace("\x7f", "\\u007f")
