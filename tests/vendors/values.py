"""JSON values whose shape is not known yet."""

from __future__ import annotations

from typing import Any, TypeGuard

Json = dict[str, Any]


def is_object(value: object) -> TypeGuard[Json]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def as_object(value: object) -> Json | None:
    """The object, if it is one."""
    return value if is_object(value) else None


def as_array(value: object) -> list[Any] | None:
    """The array, if it is one."""
    return value if is_array(value) else None
