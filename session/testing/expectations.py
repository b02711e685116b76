"""What a suite expects of an implementation, and how it says that it found something else."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

_SHOWN_CHARACTERS = 800


class UnmetError(Exception):
    """What a case found out; the case that ran names itself and the promise."""


def expect(what: str, holds: bool, found: object) -> None:  # noqa: FBT001 - reads as a sentence
    """That something holds, which `found` shows it does not."""
    if not holds:
        raise UnmetError(f"expected: {what}\nfound:    {shown(found)}")


def expect_equal(what: str, found: object, expected: object) -> None:
    """That exactly this is found."""
    if found != expected:
        raise UnmetError(f"wrong:    {what}\nexpected: {shown(expected)}\nfound:    {shown(found)}")


def present(what: str, found: T | None) -> T:
    """That it is there."""
    if found is None:
        raise UnmetError(f"expected: {what}\nfound:    None")
    return found


def first_of(error: Exception) -> Exception:
    """The first exception of a task group, or this one."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]


def shown(value: object) -> str:
    """The value in at most some 800 characters."""
    text = repr(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]} ({len(text)} characters)"
