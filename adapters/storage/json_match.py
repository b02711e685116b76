"""Whether a JSON object has certain values at its top."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from ...actors.values import decode_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def has_all(values: Mapping[str, Any], wanted: Iterable[tuple[str, str]]) -> bool:
    """Whether each wanted key has the value of that JSON text; 1 is not True, 1.0 is 1."""
    return all(key in values and _is_same(values[key], json.loads(text)) for key, text in wanted)


def object_has_all(text: str, wanted: Iterable[tuple[str, str]]) -> bool:
    """`has_all` for the JSON text of an object."""
    return has_all(decode_object(text), wanted)


def config_has_all(config: str, wanted: Iterable[tuple[str, str]]) -> bool:
    """`has_all` for the "metadata" of a session's config."""
    wanted = tuple(wanted)
    if not wanted:
        return True
    metadata: object = decode_object(config).get("metadata")
    return isinstance(metadata, dict) and has_all(cast("dict[str, Any]", metadata), wanted)


def _is_same(value: object, other: object) -> bool:
    """Equality of JSON values: Python's own takes true for 1, however deep."""
    if isinstance(value, dict) and isinstance(other, dict):
        first, second = cast("dict[str, Any]", value), cast("dict[str, Any]", other)
        return first.keys() == second.keys() and all(
            _is_same(first[key], second[key]) for key in first
        )
    if isinstance(value, list) and isinstance(other, list):
        ones, others = cast("list[object]", value), cast("list[object]", other)
        return len(ones) == len(others) and all(map(_is_same, ones, others))
    return isinstance(value, bool) is isinstance(other, bool) and value == other
