"""The guide's Python blocks, as the guide prints them, run in names that a test prepares."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langswarm.core.session import SessionManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

GUIDE = Path(__file__).parents[1] / "data" / "guide.md"
_HEADING = re.compile(r"^### \*\*(.*)\*\*$")


def blocks() -> dict[str, str]:
    """The source of each block, by the heading that it stands under; blank lines keep its place."""
    found: dict[str, str] = {}
    heading, lines = "", []
    inside = False
    for number, line in enumerate(GUIDE.read_text(encoding="utf-8").splitlines(), 1):
        title = _HEADING.match(line)
        if line == "```python":
            inside, lines = True, [""] * number
        elif line == "```" and inside:
            assert heading not in found, f"two blocks under {heading!r}"
            found[heading] = "\n".join(lines)
            inside = False
        elif inside:
            lines.append(line)
        elif title is not None:
            heading = title[1]
    return found


class Run:
    """Runs blocks one after the other in the same names; `printed` is what the last one printed."""

    def __init__(self, **names: Any) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__", **names}
        self.printed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        try:
            return self.names[name]
        except KeyError:
            raise AttributeError(name) from None

    async def block(self, heading: str, change: Callable[[str], str] | None = None) -> None:
        """Run the block under a heading, as in an asynchronous REPL."""
        source = blocks()[heading]
        code = _compiled(source if change is None else change(source))
        self.printed = []
        names = self.names
        names["print"] = self._print
        result = eval(code, names)  # noqa: S307 - the guide's own text
        if inspect.iscoroutine(result):
            await result

    def _print(self, *values: object) -> None:
        self.printed.append(" ".join(map(str, values)))

    async def close(self) -> None:
        """Close every manager that was made."""
        for value in list(self.names.values()):
            if isinstance(value, SessionManager):
                await value.aclose()


def _compiled(source: str) -> CodeType:
    code: CodeType = compile(
        source, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    return code
