"""Border control for texts and JSON values: what cannot be stored is refused before it is paid for.

`json` is imported on first use: a session without metadata or context never needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .errors import ConfigurationError, InvalidMessageError, StorageError
from .model import EMPTY_JSON

# Far below Python's recursion limit, so that what was taken once can be merged and read anywhere.
MAX_DEPTH = 100
_MAX_COUNT = 2**53
_MIN_KEY_CHARACTERS = 12
_KEY_NAMES = frozenset({"auth", "bearer", "cookie", "credentials", "secret", "token"})
_KEY_ENDINGS = (
    "accesskey",
    "accesstoken",
    "apikey",
    "apisecret",
    "apitoken",
    "authorization",
    "authorizationtoken",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "password",
    "privatekey",
    "secretkey",
)


def check_text(text: object, what: str, *, max_bytes: int, empty: bool = False) -> str:
    """The text itself, if it is a str of 1 to `max_bytes` bytes of UTF-8.

    `empty`: it may say nothing. Else white space alone is refused too: providers refuse it.

    Raises InvalidMessageError that names `what` and the reason, lone surrogates included: they
    have no UTF-8 form, so no storage and no provider could take them.
    """
    if not isinstance(text, str):
        raise InvalidMessageError(f"{what} must be a str, not {type(text).__name__}")
    if not text and not empty:
        raise InvalidMessageError(f"{what} is empty")
    if not empty and text.isspace():
        raise InvalidMessageError(f"{what} is white space alone")
    size = len(text)
    if size <= max_bytes and not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidMessageError(
                f"{what} has a lone surrogate at position {error.start}, which is not valid text; "
                'clean it with text.encode("utf-8", "replace").decode()'
            ) from None
    if size > max_bytes:
        raise InvalidMessageError(f"{what} has more than {max_bytes} bytes of UTF-8")
    return text


def check_count(value: object, what: str) -> int | None:
    """The value itself, if it is None or an int of 0 to 2^53."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise InvalidMessageError(f"{what} must be an int from 0 to 2^53, not {value!r}")
    return value


def about(session_id: str, turn_no: int = 0) -> dict[str, str]:
    """The `extra` of a log record about a session: its `session_id`, and in a turn `turn_id`."""
    if not turn_no:
        return {"session_id": session_id}
    return {"session_id": session_id, "turn_id": f"{session_id}/{turn_no}"}


def printable(text: str) -> str:
    """The text itself, or with "?" for lone surrogates, which no storage takes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def encode_object(value: object, what: str, *, max_bytes: int) -> str:
    """The JSON text of a mapping with str keys and JSON values, at most `max_bytes` long.

    Raises InvalidMessageError for anything that JSON cannot carry unchanged: NaN and infinity,
    other types, keys that are no str, nesting deeper than 100 levels, lone surrogates.
    """
    if not isinstance(value, Mapping):
        raise InvalidMessageError(f"{what} must be a mapping, not {type(value).__name__}")
    given = cast("Mapping[object, object]", value)
    if not given:
        return EMPTY_JSON
    import json  # noqa: PLC0415 - see the module's docstring

    try:
        text = json.dumps(
            dict(given), allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain
        )
        _check_keys(given, what)
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise InvalidMessageError(f"{what} is not JSON: {error}") from None
    except RecursionError:
        raise InvalidMessageError(f"{what} is nested deeper than {MAX_DEPTH} levels") from None
    if size > max_bytes:
        raise InvalidMessageError(f"{what} has more than {max_bytes} bytes of JSON")
    return text


def shown(value: object) -> str:
    """A value that was refused, for the error's text: what may be a key is not shown."""
    if isinstance(value, (str, bytes, bytearray)) and len(value) >= _MIN_KEY_CHARACTERS:
        return f"a {type(value).__name__} of {len(value)} characters"
    if value is None or isinstance(value, (str, bytes, bytearray, int, float)):
        return repr(value)
    return f"a {type(value).__name__}"


def refuse_keys(value: Mapping[str, Any], what: str) -> None:
    """Raise ConfigurationError for a value that is the key of an API by its name, however deep.

    `value` is JSON without cycles. The error tells where it is, never what it is. A mapping under
    such a name is no key: the schema of a tool may have a field `password`.
    """
    stack: list[tuple[str, object]] = [(what, value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, Mapping):
            for name, each in cast("Mapping[str, object]", item).items():
                inner = f"{place}[{name!r}]"
                if is_key_name(name) and _is_said(each):
                    raise ConfigurationError(
                        f"{inner} is a key by its name, but it is stored with the session; give "
                        "keys to the manager, in providers="
                    )
                stack.append((inner, each))
        elif isinstance(item, (list, tuple)):
            listed = cast("list[object]", item)
            stack += ((f"{place}[{at}]", each) for at, each in enumerate(listed))


def is_key_name(name: str) -> bool:
    """Whether what stands under this name is the key of an API, such as `X-Api-Key`."""
    plain = "".join(filter(str.isalnum, str(name).lower()))
    return plain in _KEY_NAMES or plain.endswith(_KEY_ENDINGS)


def _is_said(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_said, cast("list[object]", value)))
    return isinstance(value, str) and bool(value)


def decode_object(text: str) -> dict[str, Any]:
    """A fresh dict from stored text that `encode_object` made.

    Raises StorageError of code `corrupt` for anything else: a storage cannot notice every damage.
    """
    if text == EMPTY_JSON:
        return {}
    import json  # noqa: PLC0415 - see the module's docstring

    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(str(error)) from None
    if not isinstance(value, dict):
        raise _damaged(f"a {type(value).__name__} in place of an object")
    return cast("dict[str, Any]", value)


def _damaged(reason: str) -> StorageError:
    return StorageError(
        f"stored JSON is damaged ({reason}); restore a backup, verify_storage() shows the extent",
        code="corrupt",
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise TypeError(f"a {type(value).__name__} is not a JSON value")


def _check_keys(value: Mapping[object, object], what: str) -> None:
    """json.dumps turns the keys 1, True and None into text, which would not come back the same.

    Called for values that json.dumps took, so there is no cycle in them.
    """
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        children: list[object] = []
        if isinstance(item, Mapping):
            mapping = cast("Mapping[object, object]", item)
            for key in mapping:
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} in {what} is not a str")
            children = list(mapping.values())
        elif isinstance(item, (list, tuple)):
            children = list(cast("list[object]", item))
        if children and depth > MAX_DEPTH:
            raise RecursionError
        stack.extend((child, depth + 1) for child in children)
