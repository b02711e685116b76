"""Whether a JSON object has certain values at its top."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ...actors.values import decode_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def has_all(values: Mapping[str, Any], wanted: Iterable[tuple[str, str]]) -> bool:
    """Whether each wanted key has the value of that JSON text; 1 is not True, 1.0 is 1."""
    for key, text in wanted:
        if key not in values:
            return False
        value, asked = values[key], json.loads(text)
        if value != asked or isinstance(value, bool) is not isinstance(asked, bool):
            return False
    return True


def object_has_all(text: str, wanted: Iterable[tuple[str, str]]) -> bool:
    """`has_all` for the JSON text of an object."""
    return has_all(decode_object(text), wanted)


def config_has_all(config: str, wanted: Iterable[tuple[str, str]]) -> bool:
    """`has_all` for the "metadata" of a session's config."""
    metadata: dict[str, Any] = decode_object(config).get("metadata") or {}
    return has_all(metadata, wanted)
