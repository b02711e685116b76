"""What the HTTP library logs, without keys.

At level DEBUG it tells each header of an answer, in which a service may echo the key, and the texts
of its own errors, which may hold the headers of a request.
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from .secret import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .secret import Secret

_PARTS: Final = ("connection", "http11", "http2", "proxy", "socks")


class _Scrubbing(logging.Filter):
    """Takes the secrets that are in use out of records; lets every record pass."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._secrets: WeakSet[Secret] = WeakSet()

    def add(self, secrets: Iterable[Secret]) -> None:
        with self._lock:
            self._secrets.update(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            secrets = tuple(self._secrets)
        said = record.getMessage()
        clean = scrub(said, secrets, cut=False)
        if clean != said:
            record.msg, record.args = clean, ()
        return True


_scrubbing = _Scrubbing()


def keep_out_of_logs(library: str, secrets: Iterable[Secret]) -> None:
    """From now on, and as long as these secrets live, the library's loggers do not tell them."""
    _scrubbing.add(secrets)
    core = library.replace("httpx", "httpcore")
    for name in (library, *(f"{core}.{part}" for part in _PARTS)):
        logging.getLogger(name).addFilter(_scrubbing)
