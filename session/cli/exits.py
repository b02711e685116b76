"""How a command ends."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130


class CommandError(Exception):
    """What went wrong, in one line for the user, and the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class UsageError(CommandError):
    """The command or its input is wrong: the user mends it and tries again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)
