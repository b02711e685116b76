"""The keys: read, checked, derived for each purpose, and shown by nothing.

A key that is given is never used itself. HKDF makes others of it: one seals records, one hashes
tags, one is a fingerprint, which tells a wrong key from the right one and nothing else, so that it
may be stored, and one is a mark that only who has the key can set.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast, final

from ....actors.errors import ConfigurationError, hides_arguments
from .records import MissingKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_BYTES: Final = 32
MAX_KEYS: Final = 64
"""Of a ring: each is tried when sessions are searched by tag."""
SINGLE_KEY_ID: Final = "main"
"""The id of a key that is given without one."""
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LEAST_DIFFERENT_BYTES: Final = 8
"""Fewer among 32 random ones do not happen."""
_TAG_BYTES: Final = 16
_MASK: Final = "[secret]"


@hides_arguments
def read_key(value: object, name: str) -> bytes:
    """The 32 bytes of a key that is given as such, or in base64 (44 characters).

    Raises ConfigurationError, which names `name` and never shows the value.
    """
    key = _bytes_of(value, name)
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"{name} must be {KEY_BYTES} random bytes, or their base64; it has {len(key)}. "
            "secrets.token_bytes(32) makes one"
        )
    if len(set(key)) < _LEAST_DIFFERENT_BYTES:
        raise ConfigurationError(f"{name} is not random: nearly all of its bytes are the same")
    return key


@hides_arguments
def keys_in(text: str) -> dict[str, str]:
    """The keys by id in a text as `2026-01=KEY 2026-07=KEY`, each KEY in base64.

    Raises ConfigurationError, which shows none of it.
    """
    keys: dict[str, str] = {}
    for part in text.split():
        key_id, sign, key = part.partition("=")
        if not sign or not key or key_id in keys:
            raise ConfigurationError(
                "encryption_keys as a text is ID=KEY, separated by spaces, each id once"
            )
        keys[key_id] = key
    return keys


def _bytes_of(value: object, name: str) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be bytes or base64 text, not {type(value).__name__}")
    text = "".join(value.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{name} is neither bytes nor base64 text") from None


@final
class RingKey:
    """One key of a ring, derived for its purposes."""

    __slots__ = ("__tags", "decrypt", "encrypt", "fingerprint", "key_id", "plain_mark")

    def __init__(self, key_id: str, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import (  # noqa: PLC0415 - an extra
            AESGCM,
        )

        self.key_id = key_id
        cipher = AESGCM(_derived(key, "records", KEY_BYTES))
        self.encrypt: Callable[[bytes, bytes, bytes], bytes] = cipher.encrypt
        """Of a nonce, a text and what goes with it."""
        self.decrypt: Callable[[bytes, bytes, bytes], bytes] = cipher.decrypt
        self.fingerprint = _derived(key, "fingerprint", 16)
        """May be stored: no key can be found from it."""
        self.plain_mark = _derived(key, "plain mark", 16)
        """Says that something may be plain; who has no key cannot say it."""
        self.__tags = _derived(key, "tags", KEY_BYTES)

    def hash_tag(self, tag: str) -> bytes:
        """What stands for a tag: the same for the same tag, and nothing without the key."""
        return hmac.digest(self.__tags, tag.encode(), "sha256")[:_TAG_BYTES]

    def __repr__(self) -> str:
        return f"RingKey({self.key_id!r}, {_MASK})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a key is not pickled: read it again where it is needed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a key has no state to show")


@final
class KeyRing:
    """Keys by id: one seals what is written, all open what was sealed with them.

    `keys`
        The keys by id, each 32 random bytes or their base64. An id is 1 to 64 letters, digits and
        `.`, `_`, `-`; it is stored beside each record, in plain.
    `current_id`
        Which one seals; default: the last one given.

    Raises ConfigurationError for what is no key, two ids of one key, more than 64 keys, an unknown
    `current_id`, and where `cryptography` is not installed.
    """

    __slots__ = ("__keys", "current", "ids")

    @hides_arguments
    def __init__(self, keys: Mapping[str, object], current_id: str | None = None) -> None:
        _check_ids(keys, current_id)
        _check_installed()
        self.__keys: dict[str, RingKey] = {}
        fingerprints: dict[bytes, str] = {}
        for key_id, value in keys.items():
            made = RingKey(key_id, read_key(value, f"encryption_keys[{key_id!r}]"))
            other = fingerprints.setdefault(made.fingerprint, key_id)
            if other != key_id:
                raise ConfigurationError(
                    f"encryption_keys has one key under two ids, {other!r} and {key_id!r}"
                )
            self.__keys[key_id] = made
        self.ids = tuple(self.__keys)
        """Of all keys, in the order in which they were given."""
        self.current: RingKey = self.__keys[self.ids[-1] if current_id is None else current_id]
        """The one that seals."""

    def key(self, key_id: str | None) -> RingKey:
        """The key of that id; raises MissingKeyError."""
        found = self.__keys.get(key_id or "")
        if found is None:
            raise MissingKeyError(key_id or "")
        return found

    def hashes_of_tag(self, tag: str) -> list[bytes]:
        """What may stand for a tag: what each of the keys makes of it, the current one first."""
        keys = sorted(self.__keys.values(), key=lambda key: key is not self.current)
        return [key.hash_tag(tag) for key in keys]

    def __repr__(self) -> str:
        return f"KeyRing({list(self.ids)!r}, current={self.current.key_id!r}, {_MASK})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("keys are not pickled: read them again where they are needed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("keys have no state to show")


def _check_ids(keys: object, current_id: str | None) -> None:
    if not isinstance(keys, Mapping):
        raise ConfigurationError(
            f"encryption_keys must be a mapping of ids to keys, not {type(keys).__name__}"
        )
    ids = list(cast("Mapping[Any, object]", keys))
    if not 1 <= len(ids) <= MAX_KEYS:
        raise ConfigurationError(f"encryption_keys has {len(ids)} keys: 1 to {MAX_KEYS}")
    for key_id in ids:
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise ConfigurationError(
                "an id in encryption_keys is not 1 to 64 letters, digits, '.', '_' and '-'; "
                "is it the key, and its id in the key's place?"
            )
    if current_id is not None and current_id not in ids:
        raise ConfigurationError(
            f"encryption_key_id is none of the ids of encryption_keys, which are {ids}"
        )


def _check_installed() -> None:
    if find_spec("cryptography") is None:
        raise ConfigurationError(
            "encryption needs the package cryptography: pip install 'langswarm-session[crypto]'"
        )


def _derived(key: bytes, purpose: str, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    info = f"langswarm-session/1/{purpose}".encode()
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)
