"""Texts and JSON values of old files, as far as they can be stored; what was changed is noted."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, cast

from ...actors.values import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .meaning import Notes

_DEEPEST = 60


def clean_text(text: str, notes: Notes) -> str:
    """The text, with "?" for halves of characters, which have no place in UTF-8."""
    cleaned = printable(text)
    if cleaned != text:
        notes.add("halves of characters, which are no text, arrive as '?'")
    return cleaned


def clean_object(value: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """The object, with null for NaN and infinity; what is nested deeply arrives as JSON text."""
    return cast("dict[str, Any]", _clean(dict(value), notes, 1))


def _clean(value: object, notes: Notes, depth: int) -> object:
    if isinstance(value, str):
        return clean_text(value, notes)
    if isinstance(value, float) and not math.isfinite(value):
        notes.add("NaN and infinity, which are no JSON, arrive as null")
        return None
    if not isinstance(value, (dict, list)):
        return value
    if depth > _DEEPEST:
        notes.add(f"values that are nested deeper than {_DEEPEST} levels arrive as JSON text")
        return _as_text(cast("object", value), notes)
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {clean_text(name, notes): _clean(each, notes, depth + 1) for name, each in items}
    return [_clean(each, notes, depth + 1) for each in cast("list[object]", value)]


def _as_text(value: object, notes: Notes) -> str | None:
    try:
        return clean_text(json.dumps(value), notes)
    except RecursionError:
        notes.add("values that are nested too deeply even for that were left out")
        return None
